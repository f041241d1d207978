"""Executions of pipelines: their order, their values, their branches, and how they end."""

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
    """Give the pipeline of a small retraining."""
    return pipelines.create(retraining(aws, "retraining"), [VERDICT_PARAMETER])


def test_a_retraining_trains_judges_and_registers(pipelines: Pipelines, aws: Aws, retrained: str) -> None:
    """Each step gets what the earlier ones made; the steps of other branches are not listed."""
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


def test_a_worse_candidate_is_registered_as_rejected(pipelines: Pipelines, retrained: str) -> None:
    """The other branch is taken if one of several conditions does not hold."""
    arn = pipelines.start(retrained, {"Verdict": json.dumps(GOOD | {"worse_slices": 2})})
    assert pipelines.end(arn)["PipelineExecutionStatus"] == "Succeeded"
    assert list(pipelines.steps(arn))[-1] == "RegisterRefused"
    (package,) = pipelines.packages(arn)
    assert package["ModelApprovalStatus"] == "Rejected"


def test_a_fail_step_fails_the_execution_with_its_message(pipelines: Pipelines, retrained: str) -> None:
    """The message may name what a property file says."""
    arn = pipelines.start(retrained, {"Verdict": json.dumps(GOOD | {"needs_person": 1})})
    ended = pipelines.end(arn)
    assert ended["PipelineExecutionStatus"] == "Failed"
    assert ended["FailureReason"] == "Step failure: One or multiple steps failed."
    step = pipelines.steps(arn)["NeedsPerson"]
    assert (step["StepStatus"], step["FailureReason"]) == ("Failed", "A person must look: more gain")
    assert step["Metadata"]["Fail"]["ErrorMessage"] == step["FailureReason"]
    assert pipelines.packages(arn) == []


def test_a_path_that_is_not_in_the_property_file_fails_the_step(pipelines: Pipelines, retrained: str) -> None:
    """Nothing stands in for a value that is missing."""
    arn = pipelines.start(retrained, {"Verdict": "{}"})
    assert pipelines.end(arn)["PipelineExecutionStatus"] == "Failed"
    assert "no value exists at 'needs_person'" in pipelines.steps(arn)["IsJudged"]["FailureReason"]


def test_a_failing_job_fails_its_step_and_nothing_follows(pipelines: Pipelines, aws: Aws) -> None:
    """What depends on it does not begin, and its reason is the job's."""
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
def test_parameters_come_as_text_and_are_typed(
    pipelines: Pipelines, aws: Aws, given: dict[str, str], texts: list[str]
) -> None:
    """Defaults fill in; a number is compared as a number and shown as text."""
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


def test_a_step_waits_for_what_it_refers_to(pipelines: Pipelines, aws: Aws) -> None:
    """A reference orders steps without DependsOn; independent steps run side by side up to the limit."""
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
def test_steps_run_side_by_side_up_to_the_limit(
    pipelines: Pipelines, aws: Aws, limit: int, side_by_side: bool
) -> None:
    """The limit of the start counts before the pipeline's own."""
    steps = [processing_step(aws, name, "import time; time.sleep(1)") for name in ("First", "Second")]
    name = pipelines.create(steps, ParallelismConfiguration={"MaxParallelExecutionSteps": 7})
    arn = pipelines.start(name, ParallelismConfiguration={"MaxParallelExecutionSteps": limit})
    assert pipelines.end(arn)["PipelineExecutionStatus"] == "Succeeded"
    first, second = pipelines.steps(arn).values()
    assert (second["StartTime"] < first["EndTime"]) == side_by_side


def test_a_request_that_sagemaker_refuses_fails_the_step(pipelines: Pipelines, aws: Aws) -> None:
    """The reason says which operation refused it, and why."""
    step = processing_step(aws, "First", "")
    step["Arguments"]["AppSpecification"]["ImageUri"] = "local/unknown"
    arn = pipelines.start(pipelines.create([step]))
    assert pipelines.end(arn)["PipelineExecutionStatus"] == "Failed"
    reason = pipelines.steps(arn)["First"]["FailureReason"]
    assert reason.startswith("ClientError: Failed to invoke sagemaker:CreateProcessingJob. Error Details: ")
    assert "Requested image local/unknown not found" in reason


def test_a_failure_lets_running_steps_end(pipelines: Pipelines, aws: Aws) -> None:
    """A step that runs when another one fails is not cut off."""
    slow = processing_step(aws, "Slow", "import time; time.sleep(2)")
    after = processing_step(aws, "After", "", DependsOn=["Slow"])
    arn = pipelines.start(pipelines.create([slow, after, fail_step("no", "Fails")]))
    assert pipelines.end(arn)["PipelineExecutionStatus"] == "Failed"
    assert pipelines.statuses(arn) == {"Slow": "Succeeded", "Fails": "Failed"}
