"""Tests of schedules that start a pipeline once per tick, with the permissions of their role."""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING, Any

import pytest

from infra.local.job_executor.aws_access import AwsAccess
from infra.local.job_executor.executor_settings import ExecutorSettings
from infra.local.job_executor.json_protocol import ApiError
from infra.local.job_executor.sagemaker.schedules import ScheduleClock, ScheduleError, is_due
from model_declaration.cron import scheduler_cron
from tests.infra.job_executor.job_stack import Aws, Executor, add_fault, eventually, http

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


DAY = "2026-11-30"
AWS_JSON = "application/x-amz-json-1.1"
TARGET = "arn:aws:scheduler:::aws-sdk:sagemaker:startPipelineExecution"


def utc(text: str) -> dt.datetime:
    """Return a time in UTC."""
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


def at(time: str) -> dt.datetime:
    """Return a time on the day of these tests."""
    return utc(f"{DAY}T{time}")


@pytest.mark.parametrize(
    ("cron", "due", "not_due"),
    [
        ("30 5 * * *", "2026-11-30T05:30", "2026-11-30T05:31"),
        # A Sunday and a Monday.
        ("0 6 * * 0", "2026-11-29T06:00", "2026-11-30T06:00"),
        ("0 6 * * 1-5", "2026-11-30T06:00", "2026-11-29T06:00"),
        ("*/20 * 1,15 * *", "2026-11-15T23:40", "2026-11-15T23:41"),
        ("0 0 1 jan *", "2027-01-01T00:00", "2026-12-01T00:00"),
    ],
)
def test_declared_schedule_is_due_at_its_times(cron: str, due: str, not_due: str) -> None:
    """The executor's clock reads the expressions that declared cron schedules become on EventBridge."""
    expression = scheduler_cron(cron)
    assert is_due(expression, utc(due))
    assert not is_due(expression, utc(not_due))


@pytest.mark.parametrize(
    ("expression", "due"),
    [
        ("cron(0 6 ? * 2-6 2026)", True),
        ("cron(0/30 6 L * ? *)", None),
        ("cron(0 6 * * * *)", None),
        ("cron(0 6 ? * ? *)", None),
        ("cron(60 6 * * ? *)", None),
        ("cron(0/0 6 * * ? *)", None),
        ("rate(1 day)", None),
        ("at(2026-11-30T06:00:00)", None),
    ],
)
def test_unsupported_expression_is_refused(expression: str, *, due: bool | None) -> None:
    """An unsupported expression raises an error instead of never being due."""
    if due is None:
        with pytest.raises(ScheduleError):
            is_due(expression, utc("2026-11-30T06:00"))
    else:
        assert is_due(expression, utc("2026-11-30T06:00")) is due


class Scheduled:
    """A schedule, a clock that has checked everything until 05:59, and the starts that it requested.

    Args:
        aws: The emulator.
        name: Name of the schedule, role, queue and pipeline.
        folder: State folder of the clock.
        enforce_iam: Whether the role needs permission to start the pipeline.
    """

    def __init__(self, aws: Aws, name: str, folder: Path, *, enforce_iam: bool = False) -> None:
        self.name = name
        self.bodies: list[dict[str, Any]] = []
        # The failures of the next starts; None stands for a lost answer.
        self.failures: list[ApiError | None] = []
        self._aws = aws
        self._is_made = False
        trust = {
            "Effect": "Allow",
            "Principal": {"Service": "scheduler.amazonaws.com"},
            "Action": "sts:AssumeRole",
        }
        document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
        made = aws.client("iam").create_role(RoleName=name, AssumeRolePolicyDocument=document)
        self._role_arn = made["Role"]["Arn"]
        settings = ExecutorSettings(
            port=0,
            state_dir=folder,
            aws_endpoint_url=aws.url,
            access_key_id="test",
            secret_access_key="test",
            enforce_iam=enforce_iam,
        )
        self._clock = ScheduleClock(settings, AwsAccess(settings), self._start, since=at("05:59:30"))
        self.start: Callable[[bytes], bytes | None] = self._note

    def put(self, *, state: str = "ENABLED", cron: str = "cron(0 6 * * ? *)", **target: Any) -> None:
        """Create or update the schedule."""
        scheduler = self._aws.client("scheduler")
        body = {
            "PipelineName": self.name,
            "ClientRequestToken": f"{self.name}-retraining-<aws.scheduler.scheduled-time>",
            "PipelineParameters": [{"Name": "ScheduledAt", "Value": "<aws.scheduler.scheduled-time>"}],
        }
        call = scheduler.update_schedule if self._is_made else scheduler.create_schedule
        call(
            Name=self.name,
            ScheduleExpression=cron,
            FlexibleTimeWindow={"Mode": "OFF"},
            State=state,
            Target={"Arn": TARGET, "RoleArn": self._role_arn, "Input": json.dumps(body), **target},
        )
        self._is_made = True

    def grant(self, action: str, pipeline: str) -> None:
        """Allow the role one action on one pipeline, and nothing else."""
        arn = f"arn:aws:sagemaker:us-east-1:000000000000:pipeline/{pipeline}"
        statement = {"Effect": "Allow", "Action": action, "Resource": arn}
        document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        self._aws.client("iam").put_role_policy(
            RoleName=self.name, PolicyName="rights", PolicyDocument=document
        )

    def look(self, *times: str) -> None:
        """Let the clock check the schedules at several times of the day."""
        for time in times:
            self._clock.look(at(time))

    def close(self) -> None:
        """Delete the schedule."""
        if self._is_made:
            self._aws.client("scheduler").delete_schedule(Name=self.name)

    def _start(self, body: bytes) -> bytes | None:
        return self.start(body)

    def _note(self, body: bytes) -> bytes | None:
        self.bodies.append(json.loads(body))
        if not self.failures:
            return b"{}"
        failure = self.failures.pop(0)
        if failure is None:
            return None
        raise failure


@pytest.fixture
def scheduled(aws: Aws, name: str, tmp_path: Path) -> Iterator[Scheduled]:
    """Give one schedule with its clock, and delete it afterwards."""
    made = Scheduled(aws, name, tmp_path)
    yield made
    made.close()


@pytest.mark.stack
def test_tick_starts_the_pipeline_once(scheduled: Scheduled) -> None:
    """A tick starts one execution with its time, however often the clock checks, even if it is late."""
    scheduled.put()
    scheduled.look("05:59:59", "06:00:01", "06:00:59", "06:03:00")

    tick = f"{DAY}T06:00:00Z"
    assert scheduled.bodies == [
        {
            "PipelineName": scheduled.name,
            "ClientRequestToken": f"{scheduled.name}-retraining-{tick}",
            "PipelineParameters": [{"Name": "ScheduledAt", "Value": tick}],
        }
    ]
    # A late clock still finds the missed tick.
    scheduled.put(cron="cron(30 6 * * ? *)")
    scheduled.look("06:45:00")
    assert len(scheduled.bodies) == 2


@pytest.mark.stack
def test_disabled_schedule_starts_nothing(scheduled: Scheduled) -> None:
    """A disabled schedule starts nothing, not even a missed tick once it is enabled."""
    scheduled.put(state="DISABLED")
    scheduled.look("06:00:01")
    scheduled.put()
    scheduled.look("06:01:01")
    assert scheduled.bodies == []


@pytest.mark.stack
def test_failed_start_is_retried_with_the_same_token(scheduled: Scheduled) -> None:
    """A throttled start or a lost answer is retried with the same token, so only one can take effect."""
    scheduled.put()
    scheduled.failures = [ApiError("ThrottlingException", "Rate exceeded"), None]
    scheduled.look(*(f"06:00:0{second}" for second in range(1, 6)))
    assert len(scheduled.bodies) == 3
    assert len({body["ClientRequestToken"] for body in scheduled.bodies}) == 1


@pytest.mark.stack
@pytest.mark.parametrize(
    ("code", "policy", "attempts"),
    [
        ("ResourceNotFound", {}, 1),
        ("ThrottlingException", {"MaximumRetryAttempts": 2}, 3),
        ("ThrottlingException", {"MaximumEventAgeInSeconds": 60}, 2),
    ],
)
def test_failed_start_becomes_a_dead_letter(
    scheduled: Scheduled, aws: Aws, code: str, policy: dict[str, int], attempts: int
) -> None:
    """A refused start, or one whose retries are used up, is sent to the dead-letter queue."""
    sqs = aws.client("sqs")
    url = sqs.create_queue(QueueName=scheduled.name)["QueueUrl"]
    arn = f"arn:aws:sqs:us-east-1:000000000000:{scheduled.name}"
    scheduled.put(RetryPolicy=policy, DeadLetterConfig={"Arn": arn})
    scheduled.failures = [ApiError(code, "words")] * 9
    scheduled.look(*(f"06:0{minute}:30" for minute in range(9)))

    (message,) = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)["Messages"]
    assert len(scheduled.bodies) == attempts
    assert json.loads(message["Body"]) == scheduled.bodies[0]


@pytest.mark.stack
def test_role_without_scheduler_trust_starts_nothing(scheduled: Scheduled, aws: Aws) -> None:
    """A schedule starts nothing if its role does not trust EventBridge Scheduler."""
    scheduled.put(RoleArn=aws.sagemaker_role)
    scheduled.look("06:00:01")
    assert scheduled.bodies == []


@pytest.mark.stack
def test_role_without_permission_starts_nothing(aws: Aws, name: str, tmp_path: Path) -> None:
    """With IAM enforced, a schedule's role must be allowed to start this very pipeline."""
    scheduled = Scheduled(aws, name, tmp_path, enforce_iam=True)
    scheduled.put()
    try:
        scheduled.grant("sagemaker:StartPipelineExecution", f"{name}-another")
        scheduled.look("06:00:01")
        assert scheduled.bodies == []
        scheduled.grant("sagemaker:StartPipelineExecution", name)
        scheduled.put(cron="cron(1 6 * * ? *)")
        scheduled.look("06:01:01")
        assert len(scheduled.bodies) == 1
    finally:
        scheduled.close()


def make_pipeline(executor: Executor, aws: Aws, name: str) -> None:
    """Create a pipeline with the parameter ScheduledAt that does no work."""
    step = {"Name": "End", "Type": "Fail", "Arguments": {"ErrorMessage": "nothing to do"}}
    definition = {
        "Version": "2020-12-01",
        "Metadata": {},
        "Parameters": [{"Name": "ScheduledAt", "Type": "String"}],
        "Steps": [step],
    }
    executor.client("sagemaker").create_pipeline(
        PipelineName=name, PipelineDefinition=json.dumps(definition), RoleArn=aws.sagemaker_role
    )


def scheduled_times(executor: Executor, pipeline: str) -> list[str]:
    """Return the ScheduledAt values of a pipeline's executions."""
    client = executor.client("sagemaker")
    found = client.list_pipeline_executions(PipelineName=pipeline)["PipelineExecutionSummaries"]
    listed = [
        client.list_pipeline_parameters_for_execution(PipelineExecutionArn=each["PipelineExecutionArn"])
        for each in found
    ]
    return [parameter["Value"] for each in listed for parameter in each["PipelineParameters"]]


@pytest.mark.stack
def test_start_with_lost_answer_makes_one_execution(
    scheduled: Scheduled, executor: Executor, aws: Aws
) -> None:
    """A start that is repeated after a lost answer has the same token and makes one execution."""
    make_pipeline(executor, aws, scheduled.name)
    scheduled.put()
    headers = {"X-Amz-Target": "SageMaker.StartPipelineExecution", "Content-Type": AWS_JSON}
    add_fault(executor, service="sagemaker", operation="StartPipelineExecution", lost_answer=True)

    def start(body: bytes) -> bytes | None:
        try:
            return http("POST", executor.url, body, **headers)[1]
        except OSError:
            return None

    scheduled.start = start
    scheduled.look("06:00:01", "06:00:02", "06:00:03")
    assert scheduled_times(executor, scheduled.name) == [f"{DAY}T06:00:00Z"]


@pytest.mark.stack
@pytest.mark.drill
def test_executor_starts_scheduled_pipelines(scheduled: Scheduled, executor: Executor, aws: Aws) -> None:
    """The executor's own clock starts the pipeline of a schedule that is due every minute."""
    make_pipeline(executor, aws, scheduled.name)
    scheduled.put(cron="cron(* * * * ? *)")
    eventually(lambda: scheduled_times(executor, scheduled.name), what="the pipeline is started")
