"""Tests of retraining on AWS: pipelines, schedules, roles, package groups and alarms."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from infra.definitions.resource_definitions import package_group_policy
from infra.definitions.retraining_definition import pipeline_definition, start_request
from infra.packaging import build_sagemaker_code
from infra.provisioned_models import provisioned_models
from tests.infra.cdk.scoring_pipelines import DEPLOYMENT, named
from tests.infra.sagemaker_models import DAILY, HOURLY, LEAST, write_models

if TYPE_CHECKING:
    from pathlib import Path

    from tests.infra.cdk.templates import Templates

RETRAINED = (DAILY, LEAST, HOURLY)
PIPELINES = {DEPLOYMENT.retraining_pipeline(model): model for model in RETRAINED}


def pipelines(templates: Templates) -> dict[str, dict[str, Any]]:
    """Return the retraining pipelines by name."""
    found = named(templates, "AWS::SageMaker::Pipeline", "PipelineName")
    return {name: each for name, each in found.items() if "-0retrain-" in name}


def test_each_trained_model_uses_the_same_definition(scored_by_sagemaker: Templates, tmp_path: Path) -> None:
    """Each retraining pipeline is the shared definition with the model's values, and has the same role."""
    found = pipelines(scored_by_sagemaker)
    assert set(found) == set(PIPELINES)
    project = write_models(tmp_path / "project")
    digest = build_sagemaker_code(project, tmp_path).digest
    declared = {each.name: each.retrained for each in provisioned_models(project)}
    for name, model in PIPELINES.items():
        made = declared[model]
        assert made is not None
        body = json.loads(found[name]["PipelineDefinition"]["PipelineDefinitionBody"])
        assert body == pipeline_definition(DEPLOYMENT, made, code_digest=digest)
        assert found[name]["RoleArn"] == DEPLOYMENT.role_arn(DEPLOYMENT.retraining_pipeline_role)


def test_only_declared_schedules_start_retraining(scored_by_sagemaker: Templates) -> None:
    """Only the model that declares it has a schedule, with its own role and the dead-letter queue."""
    schedules = named(scored_by_sagemaker, "AWS::Scheduler::Schedule", "Name")
    (name,) = [each for each in schedules if each in PIPELINES]
    assert PIPELINES[name] == HOURLY
    schedule = schedules[name]
    assert (schedule["ScheduleExpression"], schedule["State"]) == ("cron(40 5 ? * 2 *)", "ENABLED")
    target = schedule["Target"]
    assert target["RoleArn"] == DEPLOYMENT.role_arn(DEPLOYMENT.retraining_schedule_role)
    assert target["DeadLetterConfig"] == {"Arn": DEPLOYMENT.dead_letter_queue_arn}
    assert json.loads(target["Input"]) == start_request(name)


def test_pipelines_wait_for_their_roles(scored_by_sagemaker: Templates) -> None:
    """Retraining pipelines are created after the roles, and a schedule after its pipeline."""
    ids = {}
    for logical_id, resource in scored_by_sagemaker.found("prod", "ml", "AWS::SageMaker::Pipeline").items():
        name = resource["Properties"]["PipelineName"]
        if name in PIPELINES:
            ids[name] = logical_id
            assert {"RetrainingPipelineRole", "RetrainingScheduleRole"} <= set(resource["DependsOn"])
    assert set(ids) == set(PIPELINES)
    schedules = scored_by_sagemaker.found("prod", "ml", "AWS::Scheduler::Schedule").values()
    (schedule,) = [each for each in schedules if each["Properties"]["Name"] in ids]
    assert ids[schedule["Properties"]["Name"]] in schedule["DependsOn"]


def test_package_groups_deny_decisions_of_the_platform(scored_by_sagemaker: Templates) -> None:
    """Each model's package group has the policy that keeps the platform's roles from changing versions."""
    groups = named(scored_by_sagemaker, "AWS::SageMaker::ModelPackageGroup", "ModelPackageGroupName")
    for model in RETRAINED:
        policy = groups[DEPLOYMENT.model_package_group(model)]["ModelPackageGroupPolicy"]
        assert policy == package_group_policy(DEPLOYMENT, model)


def test_failed_retraining_sends_one_alarm(scored_by_sagemaker: Templates) -> None:
    """Failed retrainings have their own rule, which shares no pipeline with that of failed scorings."""
    rules = {
        each["Name"]: each["EventPattern"]["detail"]
        for each in scored_by_sagemaker.properties("prod", "observability", "AWS::Events::Rule")
    }
    retraining = rules[DEPLOYMENT.alarm("failed-retrainings")]
    assert retraining["currentPipelineExecutionStatus"] == ["Failed"]
    assert retraining["pipelineArn"] == [
        DEPLOYMENT.retraining_pipeline_arn(model) for model in sorted(RETRAINED)
    ]
    assert not set(retraining["pipelineArn"]) & set(rules[DEPLOYMENT.alarm("failed-scorings")]["pipelineArn"])
