"""Models that SageMaker itself scores: schedule, pipeline, roles, and jobs that are told what they parse."""

from __future__ import annotations

import json
import re
import subprocess
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.validate import ParamValidator

from infra.model_declarations import model_declarations
from infra.packaging import build_sagemaker_code
from infra.scoring_pipeline import FEATURES_STEP, SCORE_STEP, published_schema
from infra.settings import STAGES as SETTINGS
from mlpipe_dagster.declaration import Compute
from mlpipe_dagster.job_clients.sagemaker_requests import processing_request
from mlpipe_dagster.settings import Settings as DagsterSettings
from prediction_contract.job_arguments import FeatureArguments, ScoreArguments
from sagemaker_scripts.delta_commit import storage_options
from tests.infra.cdk.conftest import ROOT
from tests.infra.cdk.templates import HOME, STAGES
from tests.infra.sagemaker_models import DAILY, HOURLY, LEAST, requests, write_models

if TYPE_CHECKING:
    from pathlib import Path

    from tests.infra.cdk.templates import Templates

MODELS = (DAILY, LEAST, HOURLY)
DEPLOYMENT = SETTINGS["prod"].deployment()
IMAGE = "444455556666.dkr.ecr.us-east-1.amazonaws.com/mlpipe-prod-jobs:1"
TICK, EXECUTION = "2013-02-04T05:30:00Z", "u5hlwpzq3yqn"
PLACEHOLDER = re.compile("<[^>]+>")


def named(templates: Templates, kind: str, name: str) -> dict[str, dict[str, Any]]:
    """Return the properties of the stack's resources of a type, by the property that names them."""
    return {each[name]: each for each in templates.properties("prod", "ml", kind)}


def definition(templates: Templates, model: str) -> dict[str, Any]:
    """Return a model's pipeline definition as a deployment with an image would write it."""
    pipelines = named(templates, "AWS::SageMaker::Pipeline", "PipelineName")
    body = pipelines[DEPLOYMENT.scoring_pipeline(model)]["PipelineDefinition"]["PipelineDefinitionBody"]
    _, parts = body["Fn::Join"]
    return json.loads(
        "".join(part if isinstance(part, str) else {"JobImageUri": IMAGE}[part["Ref"]] for part in parts)
    )


def schedules(templates: Templates) -> dict[str, dict[str, Any]]:
    """Return the schedules by the name of the pipeline that they start."""
    return named(templates, "AWS::Scheduler::Schedule", "Name")


def valid(service: str, operation: str, request: dict[str, Any]) -> bool:
    """Tell whether AWS's own model of an operation knows all members of a request and their forms."""
    client = boto3.client(service, region_name=HOME)
    shape = client.meta.service_model.operation_model(operation).input_shape
    report = ParamValidator().validate(request, shape)
    assert not report.has_errors(), report.generate_report()
    return True


@pytest.mark.parametrize("stage", STAGES)
def test_models_that_dagster_scores_have_no_pipeline(templates: Templates, stage: str) -> None:
    """Neither pipeline nor schedule nor a parameter that nobody would know a value of."""
    for kind in ("AWS::SageMaker::Pipeline", "AWS::Scheduler::Schedule"):
        assert templates.found(stage, "ml", kind) == {}
    assert "JobImageUri" not in templates.template(stage, "ml").get("Parameters", {})


def test_each_model_has_a_schedule_as_it_declares(scored_by_sagemaker: Templates) -> None:
    """Ticks in UTC, at the minute, and none before somebody has said that it is to run."""
    found = schedules(scored_by_sagemaker)
    told = {
        model: (each["ScheduleExpression"], each["State"])
        for model in MODELS
        for each in [found.pop(DEPLOYMENT.scoring_pipeline(model))]
    }
    assert found == {}
    assert told == {
        DAILY: ("cron(30 5 ? * 2,3,4,5,6 *)", "ENABLED"),
        LEAST: ("cron(0 1 * * ? *)", "DISABLED"),
        HOURLY: ("cron(10 * * * ? *)", "DISABLED"),
    }
    for each in schedules(scored_by_sagemaker).values():
        assert each["ScheduleExpressionTimezone"] == "UTC"
        assert each["FlexibleTimeWindow"] == {"Mode": "OFF"}


@pytest.mark.parametrize("model", MODELS)
def test_a_tick_starts_the_model_s_pipeline_once(scored_by_sagemaker: Templates, model: str) -> None:
    """It tells its moment; a tick that is delivered again has the same token, and the next one another."""
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


def test_who_starts_what_and_passes_which_role(scored_by_sagemaker: Templates) -> None:
    """The schedule starts pipelines; a pipeline starts jobs, and passes their role to SageMaker alone."""
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
    pipelines = named(scored_by_sagemaker, "AWS::SageMaker::Pipeline", "PipelineName")
    assert len(pipelines) == len(MODELS)
    for name, pipeline in pipelines.items():
        assert DEPLOYMENT.scoring_pipelines_arn_pattern == pattern
        assert f"pipeline/{name}".startswith(pattern.rpartition(":")[2].removesuffix("*"))
        assert pipeline["RoleArn"] == DEPLOYMENT.role_arn(DEPLOYMENT.scoring_pipeline_role)
    passing = allowed[DEPLOYMENT.scoring_pipeline_role]["iam:PassRole"]
    assert passing["Resource"] == [DEPLOYMENT.role_arn(DEPLOYMENT.sagemaker_role)]
    assert passing["Condition"] == {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}}
    for resource in scored_by_sagemaker.found("prod", "ml", "AWS::SageMaker::Pipeline").values():
        assert {"PipelineRole", "ScheduleRole"} <= set(resource["DependsOn"])


@pytest.mark.parametrize(
    ("model", "tick", "partition"),
    [
        (DAILY, TICK, "2013-02-03"),
        (LEAST, "2013-02-04T01:00:00Z", "2013-02-03"),
        (HOURLY, "2013-02-04T01:10:00Z", "2013-02-04T01"),
    ],
)
def test_the_jobs_parse_their_command_lines(
    scored_by_sagemaker: Templates, tmp_path: Path, model: str, tick: str, partition: str
) -> None:
    """Both are told the same partition and run; the score job's schema is the one that is uploaded."""
    found = requests(definition(scored_by_sagemaker, model), {"ScheduledAt": tick}, EXECUTION)
    features = FeatureArguments.parse(_arguments(found[FEATURES_STEP]))
    score = ScoreArguments.parse(_arguments(found[SCORE_STEP]))
    declared = {each.name: each for each in model_declarations(write_models(tmp_path / "defs"))}[model]
    assert declared.scoring is not None
    assert (features.due_partition(), score.due_partition()) == (partition, partition)
    assert (features.run_id, score.run_id) == (EXECUTION, EXECUTION)
    assert (features.model, score.model) == (model, model)
    assert score.schema_key == published_schema(model, declared.scoring)[0]
    assert score.registry_table == DEPLOYMENT.registry_table
    assert (features.history_days, score.lookback) == (
        declared.scoring.history_days,
        declared.scoring.lookback,
    )
    for request in found.values():
        assert storage_options(request["Environment"])["AWS_REGION"] == HOME


def _arguments(request: dict[str, Any]) -> list[str]:
    return request["AppSpecification"]["ContainerArguments"]


@pytest.mark.parametrize("model", MODELS)
def test_the_jobs_are_those_that_dagster_would_start(
    scored_by_sagemaker: Templates, tmp_path: Path, model: str
) -> None:
    """Machine, image, code, role and environment are the same, and SageMaker knows all members."""
    found = requests(definition(scored_by_sagemaker, model), {"ScheduledAt": TICK}, EXECUTION)
    digest = build_sagemaker_code(tmp_path).digest
    declared = {each.name: each for each in model_declarations(write_models(tmp_path / "defs"))}[model]
    assert declared.scoring is not None
    settings = DagsterSettings.from_environment(_dagster_variables(scored_by_sagemaker))
    compute = Compute(
        instance_type=declared.scoring.instance_type,
        volume_gb=declared.scoring.volume_gb,
        max_runtime_seconds=declared.scoring.max_runtime_seconds,
    )
    parsers = {FEATURES_STEP: FeatureArguments, SCORE_STEP: ScoreArguments}
    scripts = {FEATURES_STEP: "prepare_features.py", SCORE_STEP: "score_batch.py"}
    for step, request in found.items():
        assert valid(
            "sagemaker", "CreateProcessingJob", {**request, "ProcessingJobName": f"pipelines-{step}"}
        )
        arguments = parsers[step].parse(_arguments(request))
        assert arguments.code_version == settings.code_version == digest[:16]
        assert request == processing_request(settings, compute, scripts[step], arguments)
        assert (ROOT / "sagemaker_scripts" / scripts[step]).exists()


def _dagster_variables(templates: Templates) -> dict[str, str]:
    """Return the environment of Dagster's runs, in which SageMaker's jobs have the same image."""
    for each in templates.properties("prod", "orchestration", "AWS::ECS::TaskDefinition"):
        (container,) = each["ContainerDefinitions"]
        if container["Name"] == "run":
            known = {"MLPIPE_SAGEMAKER_IMAGE_URI": IMAGE, "DAGSTER_POSTGRES_HOST": "host"}
            plain = {entry["Name"]: entry["Value"] for entry in container["Environment"]}
            return {**plain, **known, **{entry["Name"]: "secret" for entry in container["Secrets"]}}
    raise AssertionError("no task of runs")


@pytest.mark.parametrize("model", MODELS)
def test_a_pipeline_scores_after_the_features_and_tries_again(
    scored_by_sagemaker: Templates, model: str
) -> None:
    """What a new job may not meet again is tried again; a script's own error is not."""
    features, score = definition(scored_by_sagemaker, model)["Steps"]
    assert "DependsOn" not in features
    assert score["DependsOn"] == [features["Name"]] == [FEATURES_STEP]
    for step in (features, score):
        (policy,) = step["RetryPolicies"]
        assert all(each.startswith("SageMaker.") for each in policy["ExceptionType"])
        assert "SageMaker.JOB_INTERNAL_ERROR" in policy["ExceptionType"]


def test_somebody_is_told_of_a_failed_execution(scored_by_sagemaker: Templates) -> None:
    """Dagster sees nothing of it, because there is no done file."""
    rules = scored_by_sagemaker.properties("prod", "observability", "AWS::Events::Rule")
    (rule,) = [each for each in rules if each["Name"] == DEPLOYMENT.alarm("failed-scorings")]
    detail = rule["EventPattern"]["detail"]
    assert detail["pipelineArn"] == [DEPLOYMENT.scoring_pipeline_arn(model) for model in sorted(MODELS)]
    assert detail["currentPipelineExecutionStatus"] == ["Failed"]
    assert [target["Arn"] for target in rule["Targets"]] == [DEPLOYMENT.alarm_topic_arn]


def test_the_rules_hold_for_such_models_too(scored_by_sagemaker: Templates) -> None:
    """Neither the CDK's own validation nor AWS Solutions' rules nor cfn-lint leave a finding."""
    report = json.loads((scored_by_sagemaker.folder / "prod" / "validation-report.json").read_text())
    assert [plugin["violations"] for plugin in report["pluginReports"]] == [[]] * len(report["pluginReports"])
    found = [f"mlpipe-prod-{stack}.template.json" for stack in ("ml", "observability")]
    done = subprocess.run(
        [str(ROOT / ".venv-cdk" / "bin" / "cfn-lint"), *found],
        cwd=scored_by_sagemaker.folder / "prod",
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")
