"""Tests of models that SageMaker scores: schedules, pipelines, roles and alarms."""

from __future__ import annotations

import json
import re
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from infra.definitions.scoring_pipeline import FEATURES_STEP
from model_declaration.declared_models import deployable_names
from model_declaration.job_requirements import declared_families
from tests.infra.cdk.scoring_pipelines import (
    DEPLOYMENT,
    MODELS,
    TICK,
    definition,
    named,
    valid,
)
from tests.infra.cdk.synthesis import cdk_program
from tests.infra.cdk.templates import STAGES
from tests.infra.example_stages import STAGES as STAGE_SETTINGS
from tests.infra.sagemaker_models import DAILY, HOURLY, LEAST
from tests.projects import EXAMPLE

if TYPE_CHECKING:
    from tests.infra.cdk.templates import Templates

PLACEHOLDER = re.compile("<[^>]+>")


def schedules(templates: Templates) -> dict[str, dict[str, Any]]:
    """Return the schedules of scoring by the name of the pipeline that they start."""
    retraining = {DEPLOYMENT.retraining_pipeline(model) for model in MODELS}
    found = named(templates, "AWS::Scheduler::Schedule", "Name")
    return {name: each for name, each in found.items() if name not in retraining}


@pytest.mark.parametrize("stage", STAGES)
def test_models_scored_by_dagster_have_only_retraining_pipelines(templates: Templates, stage: str) -> None:
    """Models that Dagster scores have no scoring pipeline and no schedule."""
    deployment = STAGE_SETTINGS[stage].deployment()
    pipelines = templates.properties(stage, "ml", "AWS::SageMaker::Pipeline")
    assert {each["PipelineName"] for each in pipelines} == {
        deployment.retraining_pipeline(model) for model in deployable_names(EXAMPLE.defs)
    }
    assert templates.found(stage, "ml", "AWS::Scheduler::Schedule") == {}


def test_images_expire_by_family(templates: Templates) -> None:
    """Images are kept per family, so that pushes of one family do not expire the images of another."""
    repository = templates.one("prod", "ml", "AWS::ECR::Repository")
    rules = json.loads(repository["LifecyclePolicy"]["LifecyclePolicyText"])["rules"]
    assert [rule["selection"] for rule in rules] == [
        {
            "tagStatus": "tagged",
            "tagPrefixList": [f"{family}-"],
            "countType": "imageCountMoreThan",
            "countNumber": 50,
        }
        for family in ("base", *declared_families(EXAMPLE))
    ]


def test_schedules_match_the_declarations(scored_by_sagemaker: Templates) -> None:
    """Each model has its declared schedule in UTC, disabled unless the model declares it as running."""
    found = schedules(scored_by_sagemaker)
    by_model = {
        model: (each["ScheduleExpression"], each["State"])
        for model in MODELS
        for each in [found.pop(DEPLOYMENT.scoring_pipeline(model))]
    }
    assert found == {}
    assert by_model == {
        DAILY: ("cron(30 5 ? * 2,3,4,5,6 *)", "ENABLED"),
        LEAST: ("cron(0 1 * * ? *)", "DISABLED"),
        HOURLY: ("cron(10 * * * ? *)", "DISABLED"),
    }
    for each in schedules(scored_by_sagemaker).values():
        assert each["ScheduleExpressionTimezone"] == "UTC"
        assert each["FlexibleTimeWindow"] == {"Mode": "OFF"}


@pytest.mark.parametrize("model", MODELS)
def test_tick_starts_the_pipeline_once(scored_by_sagemaker: Templates, model: str) -> None:
    """A tick passes its time and its own token, so that a repeated delivery starts nothing again."""
    name = DEPLOYMENT.scoring_pipeline(model)
    target = schedules(scored_by_sagemaker)[name]["Target"]
    assert target["Arn"] == "arn:aws:scheduler:::aws-sdk:sagemaker:startPipelineExecution"
    assert target["RoleArn"] == DEPLOYMENT.role_arn(DEPLOYMENT.scoring_schedule_role)
    assert target["DeadLetterConfig"] == {"Arn": DEPLOYMENT.dead_letter_queue_arn}
    assert target["RetryPolicy"]["MaximumEventAgeInSeconds"] <= 3_600
    assert set(PLACEHOLDER.findall(target["Input"])) == {"<aws.scheduler.scheduled-time>"}
    request = json.loads(PLACEHOLDER.sub(TICK, target["Input"]))
    assert valid("sagemaker", "StartPipelineExecution", request)
    assert request["PipelineName"] == name
    assert request["PipelineParameters"] == [{"Name": "ScheduledAt", "Value": TICK}]
    other = json.loads(PLACEHOLDER.sub("2013-02-05T05:30:00Z", target["Input"]))
    tokens = {request["ClientRequestToken"], other["ClientRequestToken"]}
    assert len(tokens) == 2
    assert all(32 <= len(token) <= 128 for token in tokens)


def test_schedules_start_pipelines_that_pass_the_job_role(scored_by_sagemaker: Templates) -> None:
    """The schedule's role may start scoring pipelines, which may pass the job role only to SageMaker."""
    roles = named(scored_by_sagemaker, "AWS::IAM::Role", "RoleName")
    allowed = {
        name: {
            action: statement
            for statement in role["Policies"][0]["PolicyDocument"]["Statement"]
            for action in statement["Action"]
        }
        for name, role in roles.items()
    }
    schedule = allowed[DEPLOYMENT.scoring_schedule_role]
    assert set(schedule) == {"sagemaker:StartPipelineExecution", "sqs:SendMessage"}
    (pattern,) = schedule["sagemaker:StartPipelineExecution"]["Resource"]
    found = named(scored_by_sagemaker, "AWS::SageMaker::Pipeline", "PipelineName")
    pipelines = {DEPLOYMENT.scoring_pipeline(model) for model in MODELS}
    for name, pipeline in ((name, found[name]) for name in pipelines):
        assert DEPLOYMENT.scoring_pipelines_arn_pattern == pattern
        assert f"pipeline/{name}".startswith(pattern.rpartition(":")[2].removesuffix("*"))
        assert pipeline["RoleArn"] == DEPLOYMENT.role_arn(DEPLOYMENT.scoring_pipeline_role)
    passing = allowed[DEPLOYMENT.scoring_pipeline_role]["iam:PassRole"]
    assert passing["Resource"] == [DEPLOYMENT.role_arn(DEPLOYMENT.sagemaker_role)]
    assert passing["Condition"] == {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}}
    for resource in scored_by_sagemaker.found("prod", "ml", "AWS::SageMaker::Pipeline").values():
        assert {"PipelineRole", "ScheduleRole", "RetrainingPipelineRole", "RetrainingScheduleRole"} <= set(
            resource["DependsOn"]
        )


@pytest.mark.parametrize("model", MODELS)
def test_pipeline_scores_after_features_and_retries(scored_by_sagemaker: Templates, model: str) -> None:
    """Scoring waits for the features, and both are retried on errors of SageMaker but not of a script."""
    features, score = definition(scored_by_sagemaker, model)["Steps"]
    assert "DependsOn" not in features
    assert score["DependsOn"] == [features["Name"]] == [FEATURES_STEP]
    for step in (features, score):
        (policy,) = step["RetryPolicies"]
        assert all(each.startswith("SageMaker.") for each in policy["ExceptionType"])
        assert "SageMaker.JOB_INTERNAL_ERROR" in policy["ExceptionType"]


def test_failed_scoring_sends_an_alarm(scored_by_sagemaker: Templates) -> None:
    """A failed scoring is sent to the alarm topic, because Dagster does not see it without a done file."""
    rules = scored_by_sagemaker.properties("prod", "observability", "AWS::Events::Rule")
    (rule,) = [each for each in rules if each["Name"] == DEPLOYMENT.alarm("failed-scorings")]
    detail = rule["EventPattern"]["detail"]
    assert detail["pipelineArn"] == [DEPLOYMENT.scoring_pipeline_arn(model) for model in sorted(MODELS)]
    assert detail["currentPipelineExecutionStatus"] == ["Failed"]
    assert [target["Arn"] for target in rule["Targets"]] == [DEPLOYMENT.alarm_topic_arn]


def test_validation_and_lint_have_no_findings(scored_by_sagemaker: Templates) -> None:
    """Neither the CDK's validation nor cfn-lint has a finding on models that SageMaker scores."""
    report = json.loads((scored_by_sagemaker.folder / "prod" / "validation-report.json").read_text())
    assert [plugin["violations"] for plugin in report["pluginReports"]] == [[]] * len(report["pluginReports"])
    found = [f"mlpipe-prod-{stack}.template.json" for stack in ("ml", "observability")]
    done = subprocess.run(
        [str(cdk_program("cfn-lint")), *found],
        cwd=scored_by_sagemaker.folder / "prod",
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")
