"""Tests of pipeline executions: order of steps, values, branches and outcomes."""

from __future__ import annotations

import json
import re

import pytest

from tests.infra.job_executor.job_stack import BUCKET, Aws
from tests.infra.job_executor.pipeline_stack import (
    GOOD,
    VERDICT_PARAMETER,
    Pipelines,
    compare,
    condition_step,
    fail_step,
    get,
    join,
    processing_step,
    retraining,
)

pytestmark = pytest.mark.stack


@pytest.fixture(scope="module")
def retrained(pipelines: Pipelines, aws: Aws) -> str:
    """Create the pipeline of a small retraining, and return its name."""
    return pipelines.create(retraining(aws, "retraining"), [VERDICT_PARAMETER])


def test_retraining_trains_judges_and_registers(pipelines: Pipelines, aws: Aws, retrained: str) -> None:
    """Each step receives the results of earlier ones, and steps of other branches are not listed."""
    arn = pipelines.start(retrained, {"Verdict": json.dumps(GOOD)})
    ended = pipelines.end(arn)
    assert ended["PipelineExecutionStatus"] == "Succeeded", pipelines.steps(arn)
    assert "FailureReason" not in ended
    steps = pipelines.steps(arn)
    assert list(steps) == ["TrainModel", "JudgeModels", "IsJudged", "IsBetter", "RegisterModel"]
    assert {step["StepStatus"] for step in steps.values()} == {"Succeeded"}
    assert all(step["StartTime"] <= step["EndTime"] for step in steps.values())
    assert steps["IsJudged"]["Metadata"] == {"Condition": {"Outcome": "False"}}
    (package,) = pipelines.packages(arn)
    assert steps["RegisterModel"]["Metadata"]["RegisterModel"]["Arn"] == package["ModelPackageArn"]
    assert package["ModelApprovalStatus"] == "Approved"
    execution_id = arn.rsplit("/", 1)[-1]
    assert package["CustomerMetadataProperties"] == {"execution": execution_id}
    job = steps["TrainModel"]["Metadata"]["TrainingJob"]["Arn"].rsplit("/", 1)[-1]
    assert re.fullmatch(rf"pipelines-{execution_id}-TrainModel-[a-z0-9]{{10}}", job)
    assert re.fullmatch("[a-z0-9]{12}", execution_id)
    (container,) = package["InferenceSpecification"]["Containers"]
    assert container["ModelDataUrl"] == f"s3://{BUCKET}/retraining/candidates/{job}/output/model.tar.gz"
    key = container["ModelDataUrl"].removeprefix(f"s3://{BUCKET}/")
    assert aws.client("s3").head_object(Bucket=BUCKET, Key=key)["ContentLength"] > 0


def test_worse_candidate_is_registered_as_rejected(pipelines: Pipelines, retrained: str) -> None:
    """The else branch runs if one of several conditions does not hold."""
    arn = pipelines.start(retrained, {"Verdict": json.dumps(GOOD | {"worse_slices": 2})})
    assert pipelines.end(arn)["PipelineExecutionStatus"] == "Succeeded"
    assert list(pipelines.steps(arn))[-1] == "RegisterRefused"
    (package,) = pipelines.packages(arn)
    assert package["ModelApprovalStatus"] == "Rejected"


def test_fail_step_fails_the_execution_with_its_message(pipelines: Pipelines, retrained: str) -> None:
    """The message of a fail step can include a value of a property file."""
    arn = pipelines.start(retrained, {"Verdict": json.dumps(GOOD | {"needs_person": 1})})
    ended = pipelines.end(arn)
    assert ended["PipelineExecutionStatus"] == "Failed"
    assert ended["FailureReason"] == "Step failure: One or multiple steps failed."
    step = pipelines.steps(arn)["NeedsPerson"]
    assert (step["StepStatus"], step["FailureReason"]) == ("Failed", "A person must look: more gain")
    assert step["Metadata"]["Fail"]["ErrorMessage"] == step["FailureReason"]
    assert pipelines.packages(arn) == []


def test_missing_path_in_property_file_fails_the_step(pipelines: Pipelines, retrained: str) -> None:
    """A step that reads a missing value of a property file fails instead of using a default."""
    arn = pipelines.start(retrained, {"Verdict": "{}"})
    assert pipelines.end(arn)["PipelineExecutionStatus"] == "Failed"
    assert "no value exists at 'needs_person'" in pipelines.steps(arn)["IsJudged"]["FailureReason"]


def test_failing_job_stops_dependent_steps(pipelines: Pipelines, aws: Aws) -> None:
    """A failing job fails its step with the job's reason, and dependent steps do not run."""
    first = processing_step(aws, "First", "raise SystemExit(3)")
    second = processing_step(aws, "Second", "", DependsOn=["First"])
    arn = pipelines.start(pipelines.create([second, first]))
    assert pipelines.end(arn)["PipelineExecutionStatus"] == "Failed"
    steps = pipelines.steps(arn)
    assert list(steps) == ["First"]
    assert "exit code: 3" in steps["First"]["FailureReason"]


SHOW = "import sys; print(sys.argv[1:])"
PARAMETERS = [
    {"Name": "Text", "Type": "String", "DefaultValue": "newest"},
    {"Name": "Count", "Type": "Integer", "DefaultValue": 3, "EnumValues": [3, 4]},
    {"Name": "Share", "Type": "Float", "DefaultValue": 0.02},
    {"Name": "Flag", "Type": "Boolean", "DefaultValue": False},
]


@pytest.mark.parametrize(
    ("given", "texts"),
    [
        ({}, ["newest", "3", "0.02", "false"]),
        (
            {"Text": "2013-02-01", "Count": "4", "Share": "1e-3", "Flag": "True"},
            ["2013-02-01", "4", "0.001", "true"],
        ),
    ],
)
def test_parameters_are_typed_and_passed_as_text(
    pipelines: Pipelines, aws: Aws, given: dict[str, str], texts: list[str]
) -> None:
    """Parameters have defaults, are compared by their types and are passed to jobs as text."""
    words = [join(get(f"Parameters.{parameter['Name']}")) for parameter in PARAMETERS]
    step = processing_step(aws, "Show", SHOW, *words)
    is_less = condition_step("IsLess", [compare("LessThan", get("Parameters.Share"), 0.01)], [], [])
    arn = pipelines.start(pipelines.create([step, is_less], PARAMETERS), given)
    assert pipelines.end(arn)["PipelineExecutionStatus"] == "Succeeded", pipelines.steps(arn)
    job = pipelines.steps(arn)["Show"]["Metadata"]["ProcessingJob"]["Arn"].rsplit("/", 1)[-1]
    described = pipelines.client.describe_processing_job(ProcessingJobName=job)
    assert described["AppSpecification"]["ContainerArguments"] == texts
    assert aws.logs("/aws/sagemaker/ProcessingJobs", f"{job}/algo-1-") == [str(texts)]
    outcome = pipelines.steps(arn)["IsLess"]["Metadata"]["Condition"]["Outcome"]
    assert outcome == ("True" if given else "False")
    listed = pipelines.client.list_pipeline_parameters_for_execution(PipelineExecutionArn=arn)
    assert [each["Value"] for each in listed["PipelineParameters"]] == texts


def test_step_waits_for_referenced_step(pipelines: Pipelines, aws: Aws) -> None:
    """A step that references another one starts after it, without DependsOn."""
    first = processing_step(aws, "First", "")
    name = get("Steps.First.ProcessingInputs['code'].S3Input.S3Uri")
    second = processing_step(aws, "Second", SHOW, name, get("Steps.First.ProcessingInputs[0].InputName"))
    arn = pipelines.start(pipelines.create([second, first]))
    assert pipelines.end(arn)["PipelineExecutionStatus"] == "Succeeded", pipelines.steps(arn)
    steps = pipelines.steps(arn)
    assert steps["First"]["EndTime"] <= steps["Second"]["StartTime"]
    code = first["Arguments"]["ProcessingInputs"][0]["S3Input"]["S3Uri"]
    job = steps["Second"]["Metadata"]["ProcessingJob"]["Arn"].rsplit("/", 1)[-1]
    assert aws.logs("/aws/sagemaker/ProcessingJobs", f"{job}/algo-1-") == [str([code, "code"])]


@pytest.mark.parametrize(("limit", "side_by_side"), [(1, False), (2, True)])
def test_parallel_steps_are_limited(pipelines: Pipelines, aws: Aws, limit: int, side_by_side: bool) -> None:
    """The limit of parallel steps that is given at the start overrides the pipeline's own."""
    steps = [processing_step(aws, name, "import time; time.sleep(1)") for name in ("First", "Second")]
    name = pipelines.create(steps, ParallelismConfiguration={"MaxParallelExecutionSteps": 7})
    arn = pipelines.start(name, ParallelismConfiguration={"MaxParallelExecutionSteps": limit})
    assert pipelines.end(arn)["PipelineExecutionStatus"] == "Succeeded"
    first, second = pipelines.steps(arn).values()
    assert (second["StartTime"] < first["EndTime"]) == side_by_side


def test_refused_request_fails_the_step(pipelines: Pipelines, aws: Aws) -> None:
    """A step whose request is refused fails with the operation and the reason."""
    step = processing_step(aws, "First", "")
    step["Arguments"]["AppSpecification"]["ImageUri"] = "local/unknown"
    arn = pipelines.start(pipelines.create([step]))
    assert pipelines.end(arn)["PipelineExecutionStatus"] == "Failed"
    reason = pipelines.steps(arn)["First"]["FailureReason"]
    assert reason.startswith("ClientError: Failed to invoke sagemaker:CreateProcessingJob. Error Details: ")
    assert "Requested image local/unknown not found" in reason


def test_running_steps_finish_after_a_failure(pipelines: Pipelines, aws: Aws) -> None:
    """A step that runs when another one fails is not interrupted, and no further step starts."""
    slow = processing_step(aws, "Slow", "import time; time.sleep(2)")
    after = processing_step(aws, "After", "", DependsOn=["Slow"])
    arn = pipelines.start(pipelines.create([slow, after, fail_step("no", "Fails")]))
    assert pipelines.end(arn)["PipelineExecutionStatus"] == "Failed"
    assert pipelines.statuses(arn) == {"Slow": "Succeeded", "Fails": "Failed"}
