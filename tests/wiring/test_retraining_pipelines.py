"""Retraining steps get arguments that the jobs can parse, in requests that SageMaker accepts."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest

from infra.definitions.retraining_definition import NotRetrainedError, pipeline_definition, start_request
from infra.definitions.retraining_steps import (
    JUDGE_STEP,
    PLAN_STEP,
    REFUSED_STEP,
    REGISTER_STEP,
    TRAIN_STEP,
)
from mlpipe_dagster.job_clients.sagemaker_requests import processing_request
from mlpipe_dagster.settings import Settings as DagsterSettings
from model_declaration.inputs_document import inputs_document
from prediction_contract.jobs.retraining_arguments import (
    JudgeArguments,
    PlanRetrainingArguments,
    RetrainingStepArguments,
)
from prediction_contract.jobs.retraining_plan import RetrainingPlan
from prediction_contract.jobs.verdict import Verdict
from prediction_contract.naming.s3_layout import PLAN_NAME, VERDICT_NAME, retraining_prefix
from tests.dagster.small_model import declaration
from tests.infra.cdk.scoring_pipelines import DEPLOYMENT, valid
from tests.infra.retraining_definitions import resolved, steps_of

EXECUTION = "u5hlwpzq3yqn"
ARN = f"{DEPLOYMENT.retraining_pipeline_arn('things')}/execution/{EXECUTION}"
CANDIDATE = (
    f"s3://{DEPLOYMENT.data_bucket}/models/things/candidates/pipelines-{EXECUTION}-TrainModel-x/output/a.gz"
)
METRICS = [
    {"kind": "mae", "predicted": "score", "actual": "real_score"},
    {"kind": "pinball", "predicted": "score", "actual": "real_score", "quantile": 0.9},
]
MODEL = declaration(
    "things",
    training={"window": 30, "held_out": 7, "gap": 2, "metrics": METRICS},
    processing={"instance_type": "ml.c5.large", "volume_gb": 7, "max_runtime_seconds": 900, "instances": 3},
    training_compute={"instance_type": "ml.m5.large", "volume_gb": 9, "max_runtime_seconds": 1800},
)
DIGEST = "0123456789abcdef" * 4
VERDICT = Verdict(
    model="things",
    execution_id=EXECUTION,
    candidate_digest="0" * 16,
    candidate_key="models/things/candidates/a",
    candidate_sha256="1" * 64,
    champion_version=3,
    champion_digest="2" * 16,
    trained_until="2013-01-31",
    first_held_out="2013-02-01",
    last_held_out="2013-02-14",
    is_new=1,
    better=1,
    worse_slices=0,
    needs_person=0,
    approval="Approved",
    reason="It is better.",
)
PLAN = RetrainingPlan(
    model="things",
    execution_id=EXECUTION,
    attempt=1,
    claimed_by=EXECUTION,
    cause="request",
    requested_by="none",
    code_version="c1",
    inputs_key="a",
    schema_key="b",
    first_partition="2013-01-01",
    last_partition="2013-01-31",
    first_held_out="2013-02-01",
    last_held_out="2013-02-14",
    features=(),
)


def steps(model: Any = MODEL) -> dict[str, dict[str, Any]]:
    """Return the steps of a model's pipeline by name."""
    return steps_of(pipeline_definition(DEPLOYMENT, model, code_digest=DIGEST))


def values(verdict: Verdict = VERDICT, **parameters: str) -> dict[str, Any]:
    """Return the values that an execution fills in, property files included."""
    definition = pipeline_definition(DEPLOYMENT, MODEL, code_digest=DIGEST)
    defaults = {each["Name"]: each["DefaultValue"] for each in definition["Parameters"]}
    files = {"PlanRetraining.PropertyFiles.Plan": json.loads(PLAN.to_bytes())}
    files["JudgeModels.PropertyFiles.Verdict"] = json.loads(verdict.to_bytes())
    return {
        "Execution.PipelineExecutionId": EXECUTION,
        "Execution.PipelineExecutionArn": ARN,
        "Steps.TrainModel.ModelArtifacts.S3ModelArtifacts": CANDIDATE,
        **{f"Parameters.{name}": value for name, value in {**defaults, **parameters}.items()},
        **{f"Steps.{file}.{name}": value for file, held in files.items() for name, value in held.items()},
    }


def request(step: str, **parameters: str) -> dict[str, Any]:
    """Return a step's request with all values filled in."""
    return resolved(steps()[step]["Arguments"], values(VERDICT, **parameters))


def words(request: dict[str, Any]) -> list[str]:
    """Return a job's command-line arguments."""
    return (request.get("AppSpecification") or request["AlgorithmSpecification"])["ContainerArguments"]


def test_plan_gets_window_schedule_and_cause() -> None:
    """The plan job parses its arguments for requested and for scheduled executions."""
    asked = PlanRetrainingArguments.parse(words(request(PLAN_STEP)))
    assert (asked.window, asked.held_out, asked.gap) == (30, 7, 2)
    assert (asked.last_partition, asked.scheduled_at, asked.attempt) == ("newest", "none", 1)
    assert (asked.cause, asked.requested_by) == ("request", "none")
    assert asked.registry_table == DEPLOYMENT.registry_table
    assert asked.schedule == str(MODEL.partition_schedule)
    assert asked.code_version == DIGEST[:16]
    started = start_request(DEPLOYMENT.retraining_pipeline("things"))
    assert valid("sagemaker", "StartPipelineExecution", started)
    assert 32 <= len(started["ClientRequestToken"]) <= 128
    moment = "2013-02-16T05:30:00Z"
    told = {
        each["Name"]: each["Value"].replace("<aws.scheduler.scheduled-time>", moment)
        for each in started["PipelineParameters"]
    }
    by_clock = PlanRetrainingArguments.parse(words(request(PLAN_STEP, **told)))
    assert (by_clock.scheduled_at, by_clock.cause) == (moment, "schedule")


def test_all_jobs_get_the_same_execution_and_documents() -> None:
    """All jobs read the uploaded schema and inputs, and the judge gets the trained archive."""
    train = RetrainingStepArguments.parse(words(request(TRAIN_STEP)))
    judge = JudgeArguments.parse(words(request(JUDGE_STEP)))
    assert judge.candidate == CANDIDATE
    for told in (train, judge, PlanRetrainingArguments.parse(words(request(PLAN_STEP)))):
        assert (told.model, told.execution_id, told.bucket) == ("things", EXECUTION, DEPLOYMENT.data_bucket)
        assert (told.inputs_key, told.schema_key) == (inputs_document(MODEL)[0], MODEL.schema_document[0])


def test_plan_and_verdict_are_stored_below_the_execution() -> None:
    """Property files and the model package refer to the same objects."""
    prefix = retraining_prefix("things", EXECUTION).rstrip("/")
    for step, name in ((PLAN_STEP, PLAN_NAME), (JUDGE_STEP, VERDICT_NAME)):
        (file,) = steps()[step]["PropertyFiles"]
        (output,) = request(step)["ProcessingOutputConfig"]["Outputs"]
        assert file["OutputName"] == output["OutputName"]
        assert file["FilePath"] == name
        assert output["S3Output"]["S3Uri"] == f"s3://{DEPLOYMENT.data_bucket}/{prefix}"
    verdict = request(REGISTER_STEP)["ModelMetrics"]["ModelQuality"]["Statistics"]["S3Uri"]
    assert verdict == f"s3://{DEPLOYMENT.data_bucket}/{prefix}/{VERDICT_NAME}"


def test_candidates_have_a_separate_prefix() -> None:
    """A candidate cannot be mistaken for an archive that may score."""
    output = request(TRAIN_STEP)["OutputDataConfig"]["S3OutputPath"]
    assert output == f"s3://{DEPLOYMENT.data_bucket}/models/things/candidates/"


@pytest.mark.parametrize(
    ("step", "operation", "name"),
    [
        (PLAN_STEP, "CreateProcessingJob", "ProcessingJobName"),
        (TRAIN_STEP, "CreateTrainingJob", "TrainingJobName"),
        (JUDGE_STEP, "CreateProcessingJob", "ProcessingJobName"),
        (REGISTER_STEP, "CreateModelPackage", None),
        (REFUSED_STEP, "CreateModelPackage", None),
    ],
)
def test_each_request_is_valid_for_sagemaker(step: str, operation: str, name: str | None) -> None:
    """All members match the service's model, and no placeholder is left."""
    found = request(step)
    assert "${" not in json.dumps(found)
    assert valid("sagemaker", operation, {**found, **({name: f"pipelines-{step}"} if name else {})})


def test_plan_request_equals_dagsters_request() -> None:
    """Machine, image, code, role, environment and tags are those of jobs that Dagster starts."""
    settings = DagsterSettings.from_environment(
        {
            "MLPIPE_STAGE": DEPLOYMENT.stage,
            "MLPIPE_ACCOUNT_ID": DEPLOYMENT.account_id,
            "AWS_REGION": DEPLOYMENT.region,
            "MLPIPE_SAGEMAKER_IMAGE_REPOSITORY": DEPLOYMENT.job_image_address,
            "MLPIPE_SAGEMAKER_ROLE_ARN": DEPLOYMENT.role_arn(DEPLOYMENT.sagemaker_role),
            "MLPIPE_SAGEMAKER_CODE_PREFIX": DEPLOYMENT.code_tree_prefix("sagemaker_scripts", DIGEST),
            **{f"SNOWFLAKE_{name}": "any" for name in ("ACCOUNT", "USER", "DATABASE", "SCHEMA", "WAREHOUSE")},
        }
    )
    found = request(PLAN_STEP)
    arguments: Any = PlanRetrainingArguments.parse(words(found))
    assert settings.code_version == arguments.code_version
    del found["ProcessingOutputConfig"]
    assert found == processing_request(settings, MODEL, "plan_retraining.py", arguments)


def test_training_has_its_own_machine() -> None:
    """Plan and judgement use `processing`, and training uses `training_compute`."""
    cluster = request(PLAN_STEP)["ProcessingResources"]["ClusterConfig"]
    assert cluster == {"InstanceCount": 1, "InstanceType": "ml.c5.large", "VolumeSizeInGB": 7}
    assert request(JUDGE_STEP)["ProcessingResources"]["ClusterConfig"] == cluster
    assert request(TRAIN_STEP)["ResourceConfig"] == {
        "InstanceCount": 1,
        "InstanceType": "ml.m5.large",
        "VolumeSizeInGB": 9,
    }
    assert request(PLAN_STEP)["StoppingCondition"] == {"MaxRuntimeInSeconds": 900}
    assert request(TRAIN_STEP)["StoppingCondition"] == {"MaxRuntimeInSeconds": 1800}


def test_package_contains_the_verdict() -> None:
    """A package has the verdict's approval and metadata in the characters that AWS allows."""
    found, refused = request(REGISTER_STEP), request(REFUSED_STEP)
    assert (found["ModelApprovalStatus"], refused["ModelApprovalStatus"]) == ("Approved", "Rejected")
    for each in (found, refused):
        assert each["ModelPackageGroupName"] == DEPLOYMENT.model_package_group("things")
        assert each["InferenceSpecification"]["Containers"][0]["ModelDataUrl"] == CANDIDATE
        assert each["SkipModelValidation"] == "All"
        facts = each["CustomerMetadataProperties"]
        assert facts == {
            "digest": "0" * 16,
            "sha256": "1" * 64,
            "execution": EXECUTION,
            "verdict": f"{retraining_prefix('things', EXECUTION)}{VERDICT_NAME}",
            "judged_against": "3",
            "trained_until": "2013-01-31",
            "code_version": DIGEST[:16],
        }
        assert all(re.fullmatch(r"[A-Za-z0-9 _.:/=+@-]{1,256}", value) for value in facts.values())


@pytest.mark.parametrize(
    ("verdict", "ended"),
    [
        ({}, [REGISTER_STEP]),
        ({"better": 0}, [REFUSED_STEP]),
        ({"worse_slices": 1}, [REFUSED_STEP]),
        ({"is_new": 0}, []),
        ({"needs_person": 1, "better": 0}, ["AskPerson"]),
    ],
)
def test_verdict_decides_what_is_registered(verdict: dict[str, int], ended: list[str]) -> None:
    """A better model is registered, a worse one rejected, an equal one ignored; doubts fail the execution."""
    definition = pipeline_definition(DEPLOYMENT, MODEL, code_digest=DIGEST)
    known = values(replace(VERDICT, **verdict))
    taken = _taken(definition["Steps"], known)
    assert taken == [PLAN_STEP, TRAIN_STEP, JUDGE_STEP, *ended]


def test_execution_without_work_ends_after_its_plan() -> None:
    """It trains nothing when another execution works on the same range and code."""
    definition = pipeline_definition(DEPLOYMENT, MODEL, code_digest=DIGEST)
    known = values() | {"Steps.PlanRetraining.PropertyFiles.Plan.proceed": 0}
    assert _taken(definition["Steps"], known) == [PLAN_STEP]


def _taken(steps: list[dict[str, Any]], known: dict[str, Any]) -> list[str]:
    """Return the steps that run, in order."""
    names = []
    for step in steps:
        if step["Type"] != "Condition":
            names.append(step["Name"])
            continue
        conditions = resolved(step["Arguments"]["Conditions"], known)
        assert {each["Type"] for each in conditions} == {"Equals"}
        holds = all(each["LeftValue"] == each["RightValue"] for each in conditions)
        names += _taken(step["Arguments"]["IfSteps" if holds else "ElseSteps"], known)
    return names


def test_only_infrastructure_errors_are_retried() -> None:
    """A script's own error is not retried."""
    retried = {name: step["RetryPolicies"] for name, step in steps().items() if "RetryPolicies" in step}
    assert set(retried) == {PLAN_STEP, TRAIN_STEP, JUDGE_STEP}
    for (policy,) in retried.values():
        assert policy["ExceptionType"] == [
            "SageMaker.JOB_INTERNAL_ERROR",
            "SageMaker.CAPACITY_ERROR",
            "SageMaker.RESOURCE_LIMIT",
        ]


def test_definition_is_far_below_the_size_limit() -> None:
    """SageMaker accepts 100 KB without a file on S3; every parameter has a non-empty default."""
    definition = pipeline_definition(DEPLOYMENT, MODEL, code_digest=DIGEST)
    assert len(json.dumps(definition)) < 50_000
    assert all(each["DefaultValue"] for each in definition["Parameters"])


def test_model_without_training_has_no_definition() -> None:
    """The error names the model that is not retrained."""
    elsewhere = declaration("things", training=None, model={"from": "registry"})
    with pytest.raises(NotRetrainedError, match="things is not retrained"):
        pipeline_definition(DEPLOYMENT, elsewhere, code_digest=DIGEST)
