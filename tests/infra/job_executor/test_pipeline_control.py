"""Tests of executions that are stopped, retried, hit by faults or wait for a callback."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from tests.infra.job_executor.job_stack import BUCKET, Aws, add_fault, eventually, http
from tests.infra.job_executor.pipeline_stack import (
    GOOD,
    VERDICT_PARAMETER,
    Pipelines,
    fail_step,
    get,
    judge_step,
    processing_step,
    retraining,
    verdict,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.stack

SLEEPER = "import time; time.sleep(300)"
# Fails as long as an object is missing.
NEEDS_OBJECT = """
    import os, sys, boto3
    boto3.client("s3").head_object(Bucket=sys.argv[1], Key=sys.argv[2])
"""


@pytest.fixture
def fault(pipelines: Pipelines) -> Iterator[Callable[..., None]]:
    """Return a function that makes calls fail; all faults are removed afterwards."""
    url = pipelines.executor.url

    def add(operation: str, **effect: Any) -> None:
        assert add_fault(pipelines.executor, service="sagemaker", operation=operation, **effect)[0] == 200

    yield add
    assert http("DELETE", f"{url}/_executor/faults")[0] == 200


def fired(pipelines: Pipelines) -> list[int]:
    """Return how often each fault has fired."""
    answer = json.loads(http("GET", f"{pipelines.executor.url}/_executor/faults")[1])
    return [rule["fired"] for rule in answer["faults"]]


def stop(pipelines: Pipelines, arn: str, **request: Any) -> str:
    """Ask an execution to stop."""
    return pipelines.client.stop_pipeline_execution(PipelineExecutionArn=arn, **request)[
        "PipelineExecutionArn"
    ]


def retry(pipelines: Pipelines, arn: str, **request: Any) -> str:
    """Retry an execution."""
    return pipelines.client.retry_pipeline_execution(PipelineExecutionArn=arn, **request)[
        "PipelineExecutionArn"
    ]


def test_stop_ends_running_step_and_starts_no_other(pipelines: Pipelines, aws: Aws) -> None:
    """A stop ends the running job, can be repeated with the same token, and is refused otherwise."""
    steps = [
        processing_step(aws, "Sleeper", SLEEPER),
        processing_step(aws, "After", "", DependsOn=["Sleeper"]),
    ]
    arn = pipelines.start(pipelines.create(steps))
    pipelines.await_step(arn, "Sleeper")
    token = uuid.uuid4().hex
    assert stop(pipelines, arn, ClientRequestToken=token) == arn
    assert stop(pipelines, arn, ClientRequestToken=token) == arn
    with pytest.raises(ClientError, match="Only pipelines with 'Executing' status can be stopped") as refused:
        stop(pipelines, arn)
    assert refused.value.response["Error"]["Code"] == "ValidationException"
    assert pipelines.describe(arn)["PipelineExecutionStatus"] in {"Stopping", "Stopped"}
    ended = pipelines.end(arn)
    assert ended["PipelineExecutionStatus"] == "Stopped"
    assert "FailureReason" not in ended
    assert pipelines.statuses(arn) == {"Sleeper": "Stopped"}
    job = pipelines.client.describe_processing_job(ProcessingJobName=pipelines.job(arn, "Sleeper"))
    assert job["ProcessingJobStatus"] == "Stopped"


def test_directly_stopped_job_fails_the_execution(pipelines: Pipelines, aws: Aws) -> None:
    """If only a step's job is stopped, the execution fails and dependent steps do not run."""
    steps = [
        processing_step(aws, "Sleeper", SLEEPER),
        processing_step(aws, "After", "", DependsOn=["Sleeper"]),
    ]
    arn = pipelines.start(pipelines.create(steps))
    pipelines.await_step(arn, "Sleeper")
    pipelines.client.stop_processing_job(ProcessingJobName=pipelines.job(arn, "Sleeper"))
    assert pipelines.end(arn)["PipelineExecutionStatus"] == "Failed"
    assert pipelines.statuses(arn) == {"Sleeper": "Stopped"}


def test_retry_resumes_at_the_failed_step(pipelines: Pipelines, aws: Aws, name: str) -> None:
    """A retry keeps the steps that succeeded, and runs the failed step as a job with a new name."""
    key = f"{name}/wanted"
    first = processing_step(aws, "First", "")
    second = processing_step(aws, "Second", NEEDS_OBJECT, BUCKET, key, DependsOn=["First"])
    third = fail_step("the end") | {"DependsOn": ["Second"]}
    arn = pipelines.start(pipelines.create([first, second, third]))
    assert pipelines.end(arn)["PipelineExecutionStatus"] == "Failed"
    before = {step: pipelines.job(arn, step) for step in ("First", "Second")}
    aws.client("s3").put_object(Bucket=BUCKET, Key=key, Body=b"")
    token = uuid.uuid4().hex
    assert retry(pipelines, arn, ClientRequestToken=token) == arn
    ended = pipelines.end(arn)
    assert retry(pipelines, arn, ClientRequestToken=token) == arn
    assert ended["PipelineExecutionStatus"] == "Failed"
    assert pipelines.statuses(arn) == {"First": "Succeeded", "Second": "Succeeded", "NeedsPerson": "Failed"}
    assert pipelines.job(arn, "First") == before["First"]
    assert pipelines.job(arn, "Second") != before["Second"]
    assert pipelines.jobs(arn, "First") == [before["First"]]


def test_running_or_successful_execution_is_not_retried(pipelines: Pipelines, aws: Aws) -> None:
    """A stopped execution can be retried; a running or successful one is refused."""
    arn = pipelines.start(pipelines.create([processing_step(aws, "Sleeper", "import time; time.sleep(2)")]))
    with pytest.raises(ClientError, match="status 'Executing'"):
        retry(pipelines, arn)
    stop(pipelines, arn)
    assert pipelines.end(arn)["PipelineExecutionStatus"] == "Stopped"
    retry(pipelines, arn)
    assert pipelines.end(arn)["PipelineExecutionStatus"] == "Succeeded"
    assert pipelines.statuses(arn) == {"Sleeper": "Succeeded"}
    with pytest.raises(ClientError, match=r"status 'Succeeded'\. Only .* can be retried"):
        retry(pipelines, arn)


@pytest.mark.parametrize(
    ("operation", "effect"),
    [
        ("CreateProcessingJob", {"error": "ThrottlingException", "count": 2}),
        ("CreateProcessingJob", {"error": "InternalFailure", "count": 2}),
        ("CreateProcessingJob", {"lost_answer": True}),
        ("DescribeProcessingJob", {"error": "ThrottlingException", "count": 2}),
        ("DescribeProcessingJob", {"lost_answer": True}),
    ],
)
def test_failed_calls_are_retried(
    pipelines: Pipelines, aws: Aws, fault: Callable[..., None], operation: str, effect: dict[str, Any]
) -> None:
    """A failed call is repeated and makes one job, whichever call or answer was lost."""
    fault(operation, **effect)
    arn = pipelines.start(pipelines.create([processing_step(aws, "First", "")]))
    assert pipelines.end(arn)["PipelineExecutionStatus"] == "Succeeded", pipelines.steps(arn)
    assert fired(pipelines) == [effect.get("count", 1)]
    assert len(pipelines.jobs(arn, "First")) == 1
    assert pipelines.steps(arn)["First"]["AttemptCount"] == 1


POLICY = {"IntervalSeconds": 1, "BackoffRate": 1.0, "MaxAttempts": 2}


@pytest.mark.parametrize(
    ("effect", "kind"),
    [
        ({"ends_as": "InternalServerError"}, "SageMaker.JOB_INTERNAL_ERROR"),
        ({"ends_as": "CapacityError"}, "SageMaker.CAPACITY_ERROR"),
        ({"error": "ResourceLimitExceeded"}, "SageMaker.RESOURCE_LIMIT"),
    ],
)
def test_retry_policy_starts_a_new_job(
    pipelines: Pipelines, aws: Aws, fault: Callable[..., None], effect: dict[str, Any], kind: str
) -> None:
    """A retry policy repeats a step, with a new job for each one that failed, until it succeeds."""
    fault("CreateProcessingJob", **effect, count=2)
    step = processing_step(aws, "First", "", RetryPolicies=[{"ExceptionType": [kind], **POLICY}])
    arn = pipelines.start(pipelines.create([step]))
    assert pipelines.end(arn)["PipelineExecutionStatus"] == "Succeeded", pipelines.steps(arn)
    jobs = 3 if "ends_as" in effect else 1
    assert pipelines.steps(arn)["First"]["AttemptCount"] == jobs
    assert len(pipelines.jobs(arn, "First")) == jobs


@pytest.mark.parametrize(
    ("policies", "count"),
    [
        ([], 1),
        ([{"ExceptionType": ["SageMaker.RESOURCE_LIMIT"], **POLICY}], 1),
        ([{"ExceptionType": ["SageMaker.CAPACITY_ERROR"], **POLICY}], 3),
    ],
)
def test_step_without_applicable_policy_fails(
    pipelines: Pipelines, aws: Aws, fault: Callable[..., None], policies: list[Any], count: int
) -> None:
    """A step fails without a policy for its failure, and once the policy's attempts are used up."""
    fault("CreateProcessingJob", ends_as="CapacityError", count=9)
    arn = pipelines.start(pipelines.create([processing_step(aws, "First", "", RetryPolicies=policies)]))
    assert pipelines.end(arn)["PipelineExecutionStatus"] == "Failed"
    step = pipelines.steps(arn)["First"]
    assert step["FailureReason"].startswith("ClientError: CapacityError: Unable to provision")
    assert fired(pipelines) == [count]


def test_failing_script_is_not_retried(pipelines: Pipelines, aws: Aws) -> None:
    """No retry policy repeats a step whose script failed."""
    kinds = ["SageMaker.JOB_INTERNAL_ERROR", "SageMaker.CAPACITY_ERROR", "SageMaker.RESOURCE_LIMIT"]
    policy = {"ExceptionType": kinds, **POLICY}
    arn = pipelines.start(
        pipelines.create([processing_step(aws, "First", "exit(1)", RetryPolicies=[policy])])
    )
    assert pipelines.end(arn)["PipelineExecutionStatus"] == "Failed"
    assert len(pipelines.jobs(arn, "First")) == 1


@pytest.mark.parametrize("effect", [{"lost_answer": True}, {"error": "InternalFailure"}])
def test_package_is_registered_once(
    pipelines: Pipelines, aws: Aws, fault: Callable[..., None], effect: dict[str, Any]
) -> None:
    """A registration that is repeated after a lost answer or an error makes one package."""
    fault("CreateModelPackage", **effect)
    arn = pipelines.start(
        pipelines.create(retraining(aws, "once"), [VERDICT_PARAMETER]), {"Verdict": json.dumps(GOOD)}
    )
    assert pipelines.end(arn)["PipelineExecutionStatus"] == "Succeeded", pipelines.steps(arn)
    assert len(pipelines.packages(arn)) == 1


@pytest.mark.parametrize("is_registered", [False, True])
def test_retry_after_failed_registration_registers_once(
    pipelines: Pipelines, aws: Aws, fault: Callable[..., None], is_registered: bool
) -> None:
    """A retry makes no second package, even if the failed step already registered one."""
    if is_registered:
        fault("CreateModelPackage", lost_answer=True)
    fault("CreateModelPackage", error="ResourceLimitExceeded")
    arn = pipelines.start(
        pipelines.create(retraining(aws, "retried"), [VERDICT_PARAMETER]), {"Verdict": json.dumps(GOOD)}
    )
    assert pipelines.end(arn)["PipelineExecutionStatus"] == "Failed"
    assert pipelines.statuses(arn)["RegisterModel"] == "Failed"
    trained = pipelines.job(arn, "TrainModel")
    assert len(pipelines.packages(arn)) == is_registered
    retry(pipelines, arn)
    assert pipelines.end(arn)["PipelineExecutionStatus"] == "Succeeded", pipelines.steps(arn)
    (package,) = pipelines.packages(arn)
    assert (
        package["ModelPackageArn"]
        == pipelines.steps(arn)["RegisterModel"]["Metadata"]["RegisterModel"]["Arn"]
    )
    assert package["ModelApprovalStatus"] == GOOD["approval"]
    assert pipelines.job(arn, "TrainModel") == trained


class Inbox:
    """The queue of a callback step.

    Args:
        aws: The emulator.
        name: Name of the queue.
    """

    def __init__(self, aws: Aws, name: str) -> None:
        self._sqs = aws.client("sqs")
        self.url = self._sqs.create_queue(QueueName=name)["QueueUrl"]

    def receive(self) -> dict[str, Any]:
        """Return the next message."""

        def look() -> list[dict[str, Any]]:
            answer = self._sqs.receive_message(QueueUrl=self.url, WaitTimeSeconds=1)
            return answer.get("Messages", [])

        (message,) = eventually(look, what="a message arrives")
        self._sqs.delete_message(QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"])
        return json.loads(message["Body"])


def callback_step(queue_url: str) -> dict[str, Any]:
    """Return a callback step that sends its token to a queue and waits for an answer."""
    return {
        "Name": "AskSomebody",
        "Type": "Callback",
        "SqsQueueUrl": queue_url,
        "Arguments": {"execution": get("Execution.PipelineExecutionArn")},
        "OutputParameters": [{"OutputName": "answer", "OutputType": "String"}],
    }


@pytest.fixture
def inbox(aws: Aws, name: str) -> Inbox:
    """Create a queue for callback messages."""
    return Inbox(aws, name)


def test_callback_step_waits_for_its_token(pipelines: Pipelines, inbox: Inbox) -> None:
    """Later steps can read the outputs of a callback, and its token can be answered only once."""
    after = fail_step(get("Steps.AskSomebody.OutputParameters['answer']"))
    arn = pipelines.start(pipelines.create([callback_step(inbox.url), after]))
    message = inbox.receive()
    assert (message["pipelineExecutionArn"], message["arguments"]) == (arn, {"execution": arn})
    pipelines.await_step(arn, "AskSomebody")
    token = message["token"]
    outputs = [{"Name": "answer", "Value": "no"}]
    request = {"CallbackToken": token, "OutputParameters": outputs, "ClientRequestToken": uuid.uuid4().hex}
    for _ in range(2):
        answer = pipelines.client.send_pipeline_execution_step_success(**request)
        assert answer["PipelineExecutionArn"] == arn
    pipelines.end(arn)
    steps = pipelines.steps(arn)
    assert steps["AskSomebody"]["StepStatus"] == "Succeeded"
    assert steps["AskSomebody"]["Metadata"]["Callback"] == {
        "CallbackToken": token,
        "SqsQueueUrl": inbox.url,
        "OutputParameters": outputs,
    }
    assert steps["NeedsPerson"]["FailureReason"] == "no"
    with pytest.raises(ClientError, match="already in a terminal status"):
        pipelines.client.send_pipeline_execution_step_failure(CallbackToken=token)
    with pytest.raises(pipelines.client.exceptions.ResourceNotFound):
        pipelines.client.send_pipeline_execution_step_success(CallbackToken="a" * 10)


def test_stopped_callback_step_waits_for_its_answer(pipelines: Pipelines, inbox: Inbox) -> None:
    """A stop sends the token's holder a message, and the step ends only once that is answered."""
    arn = pipelines.start(
        pipelines.create([callback_step(inbox.url), fail_step("x") | {"DependsOn": ["AskSomebody"]}])
    )
    token = inbox.receive()["token"]
    pipelines.await_step(arn, "AskSomebody")
    stop(pipelines, arn)
    stopping = inbox.receive()
    assert (stopping["Status"], stopping["token"]) == ("Stopping", token)
    assert pipelines.await_step(arn, "AskSomebody", "Stopping")
    assert pipelines.describe(arn)["PipelineExecutionStatus"] == "Stopping"
    pipelines.client.send_pipeline_execution_step_failure(CallbackToken=token, FailureReason="gave up")
    assert pipelines.end(arn)["PipelineExecutionStatus"] == "Stopped"
    (step,) = pipelines.steps(arn).values()
    assert (step["StepStatus"], step["FailureReason"]) == ("Failed", "gave up")


def test_missing_property_file_fails_the_step(pipelines: Pipelines, aws: Aws) -> None:
    """A step that reads a property file which was not written fails and names the missing object."""
    steps = [judge_step(aws, "nothing", script="pass"), fail_step(verdict("reason"))]
    arn = pipelines.start(pipelines.create(steps))
    pipelines.end(arn)
    reason = pipelines.steps(arn)["NeedsPerson"]["FailureReason"]
    assert f"s3://{BUCKET}/nothing/{arn.rsplit('/', 1)[-1]}/verdict.json cannot be read" in reason
