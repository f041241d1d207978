"""EventBridge Scheduler's schedules start pipelines once for each tick, under a role that trusts them."""

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


def moment(text: str) -> dt.datetime:
    """Return a moment in UTC."""
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


def at(time: str) -> dt.datetime:
    """Return a time of the day that tests play on."""
    return moment(f"{DAY}T{time}")


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
def test_a_declared_schedule_is_due_when_it_says(cron: str, due: str, not_due: str) -> None:
    """What declarations become for EventBridge is what the executor's clock reads."""
    expression = scheduler_cron(cron)
    assert is_due(expression, moment(due))
    assert not is_due(expression, moment(not_due))


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
def test_what_the_clock_does_not_carry_out_is_said(expression: str, *, due: bool | None) -> None:
    """An expression in another form never counts as never due."""
    if due is None:
        with pytest.raises(ScheduleError):
            is_due(expression, moment("2026-11-30T06:00"))
    else:
        assert is_due(expression, moment("2026-11-30T06:00")) is due


class Scheduled:
    """A schedule of a test's own, a clock that has seen everything until 05:59, and what it started.

    Args:
        aws: The emulator.
        name: Of schedule, role, queue and pipeline.
        folder: For the clock's settings.
        enforce_iam: Whether the role has to be allowed to start the pipeline.
    """

    def __init__(self, aws: Aws, name: str, folder: Path, *, enforce_iam: bool = False) -> None:
        self.name = name
        self.bodies: list[dict[str, Any]] = []
        # What becomes of the next starts; None is an answer that is lost.
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
        """Make the schedule, or change it."""
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
        """Let the role do this to a pipeline, and nothing else."""
        arn = f"arn:aws:sagemaker:us-east-1:000000000000:pipeline/{pipeline}"
        statement = {"Effect": "Allow", "Action": action, "Resource": arn}
        document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        self._aws.client("iam").put_role_policy(
            RoleName=self.name, PolicyName="rights", PolicyDocument=document
        )

    def look(self, *times: str) -> None:
        """Let the clock look at several times of the day."""
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
    """Give the parts of one schedule, which is gone afterwards."""
    made = Scheduled(aws, name, tmp_path)
    yield made
    made.close()


@pytest.mark.stack
def test_a_tick_starts_once_with_its_moment(scheduled: Scheduled) -> None:
    """Looks before, at and after the minute start one execution; the next day's is another."""
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
    # A clock that was late finds the tick that has passed.
    scheduled.put(cron="cron(30 6 * * ? *)")
    scheduled.look("06:45:00")
    assert len(scheduled.bodies) == 2


@pytest.mark.stack
def test_a_disabled_schedule_starts_nothing(scheduled: Scheduled) -> None:
    """Neither its present tick nor, once it is enabled, one that has passed."""
    scheduled.put(state="DISABLED")
    scheduled.look("06:00:01")
    scheduled.put()
    scheduled.look("06:01:01")
    assert scheduled.bodies == []


@pytest.mark.stack
def test_a_failed_start_is_tried_again_with_the_same_token(scheduled: Scheduled) -> None:
    """Throttling and a lost answer are met again; the token lets SageMaker start once."""
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
def test_what_does_not_start_becomes_a_dead_letter(
    scheduled: Scheduled, aws: Aws, code: str, policy: dict[str, int], attempts: int
) -> None:
    """A refusal at once, anything else when the retry policy is used up; people find the request."""
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
def test_a_role_that_schedules_cannot_assume_starts_nothing(scheduled: Scheduled, aws: Aws) -> None:
    """The role has to trust EventBridge Scheduler."""
    scheduled.put(RoleArn=aws.sagemaker_role)
    scheduled.look("06:00:01")
    assert scheduled.bodies == []


@pytest.mark.stack
def test_a_role_without_the_right_starts_nothing(aws: Aws, name: str, tmp_path: Path) -> None:
    """Where permissions are enforced, the schedule's role must be allowed to start this very pipeline."""
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
    """Make a pipeline that is told its tick and does nothing."""
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


def moments(executor: Executor, pipeline: str) -> list[str]:
    """Return the moments that a pipeline's executions were told."""
    client = executor.client("sagemaker")
    found = client.list_pipeline_executions(PipelineName=pipeline)["PipelineExecutionSummaries"]
    listed = [
        client.list_pipeline_parameters_for_execution(PipelineExecutionArn=each["PipelineExecutionArn"])
        for each in found
    ]
    return [parameter["Value"] for each in listed for parameter in each["PipelineParameters"]]


@pytest.mark.stack
def test_a_start_whose_answer_was_lost_makes_one_execution(
    scheduled: Scheduled, executor: Executor, aws: Aws
) -> None:
    """The tick that comes again carries the token of the first, and SageMaker knows it."""
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
    assert moments(executor, scheduled.name) == [f"{DAY}T06:00:00Z"]


@pytest.mark.stack
@pytest.mark.drill
def test_the_executor_itself_keeps_the_schedules(scheduled: Scheduled, executor: Executor, aws: Aws) -> None:
    """At the next whole minute a schedule of every minute starts its pipeline."""
    make_pipeline(executor, aws, scheduled.name)
    scheduled.put(cron="cron(* * * * ? *)")
    eventually(lambda: moments(executor, scheduled.name), what="the pipeline is started")
