"""Retraining on AWS: pipelines, their schedules and roles, package groups, and who is told of a failure."""

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
    """Return the pipelines that retrain, by their names."""
    found = named(templates, "AWS::SageMaker::Pipeline", "PipelineName")
    return {name: each for name, each in found.items() if "-0retrain-" in name}


def test_each_trained_model_has_the_one_definition(scored_by_sagemaker: Templates, tmp_path: Path) -> None:
    """Filled with its own values, and carried out by a role of its own."""
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


def test_only_a_declared_schedule_starts_a_retraining(scored_by_sagemaker: Templates) -> None:
    """By its own role; what did not start lies beside other dead letters."""
    schedules = named(scored_by_sagemaker, "AWS::Scheduler::Schedule", "Name")
    (name,) = [each for each in schedules if each in PIPELINES]
    assert PIPELINES[name] == HOURLY
    schedule = schedules[name]
    assert (schedule["ScheduleExpression"], schedule["State"]) == ("cron(40 5 ? * 2 *)", "ENABLED")
    target = schedule["Target"]
    assert target["RoleArn"] == DEPLOYMENT.role_arn(DEPLOYMENT.retraining_schedule_role)
    assert target["DeadLetterConfig"] == {"Arn": DEPLOYMENT.dead_letter_queue_arn}
    assert json.loads(target["Input"]) == start_request(name)


def test_roles_are_there_before_pipelines_assume_them(scored_by_sagemaker: Templates) -> None:
    """A schedule follows its pipeline."""
    for resource in scored_by_sagemaker.found("prod", "ml", "AWS::SageMaker::Pipeline").values():
        if resource["Properties"]["PipelineName"] in PIPELINES:
            assert {"RetrainingPipelineRole", "RetrainingScheduleRole"} <= set(resource["DependsOn"])


def test_each_package_group_refuses_decisions_of_the_platform(scored_by_sagemaker: Templates) -> None:
    """Whoever scores the model."""
    groups = named(scored_by_sagemaker, "AWS::SageMaker::ModelPackageGroup", "ModelPackageGroupName")
    for model in RETRAINED:
        policy = groups[DEPLOYMENT.model_package_group(model)]["ModelPackageGroupPolicy"]
        assert policy == package_group_policy(DEPLOYMENT, model)


def test_somebody_is_told_of_a_failed_retraining_once(scored_by_sagemaker: Templates) -> None:
    """By a rule of its own; an execution that refused its candidate has succeeded."""
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
