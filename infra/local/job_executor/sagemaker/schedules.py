"""Starts pipelines by EventBridge Scheduler's schedules, which the emulator stores but does not carry out.

The emulator accepts a schedule with the target `startPipelineExecution` but does nothing when it is due. So
the executor reads the schedules each minute, and starts due pipelines under the schedule's role.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import re
import threading
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from infra.local.job_executor.aws_access import RoleUnusableError
from infra.local.job_executor.executor_settings import ACCOUNT_ID
from infra.local.job_executor.json_protocol import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable

    from infra.local.job_executor.aws_access import AwsAccess
    from infra.local.job_executor.executor_settings import ExecutorSettings

_LOG = logging.getLogger(__name__)
_PRINCIPAL = "scheduler.amazonaws.com"
_SESSION = "scheduler"
_START = "sagemaker:StartPipelineExecution"
_TARGET = ":aws-sdk:sagemaker:startPipelineExecution"
_LOOK_SECONDS = 5.0
_CALL_SECONDS = 5
_CALL_ATTEMPTS = 2
_MINUTE = dt.timedelta(minutes=1)
# EventBridge's limits of a retry policy. Ticks older than a day are dropped.
_MOST_AGE_SECONDS = 86_400
_MOST_RETRIES = 185
# Transient errors: another attempt may succeed.
_RETRYABLE_CODES = {
    "ThrottlingException",
    "InternalFailure",
    "ServiceUnavailableException",
    "ResourceLimitExceeded",
}

_PART = re.compile(r"(?:\*|([0-9]{1,4})(?:-([0-9]{1,4}))?)(?:/([0-9]{1,2}))?")
_CRON = re.compile(r"cron\((\S+) (\S+) (\S+) (\S+) (\S+) (\S+)\)")
# The least and greatest values of minute, hour, day of the month, month, day of the week and year.
_BOUNDS = ((0, 59), (0, 23), (1, 31), (1, 12), (1, 7), (1970, 2199))


class ScheduleError(Exception):
    """A schedule uses a feature that this executor does not support."""


def is_due(expression: str, minute: dt.datetime) -> bool:
    """Return whether a schedule's expression includes a minute.

    Args:
        expression: `cron(...)` with numbers, lists, ranges and steps; `?` for one of the two day fields.
        minute: The minute in UTC.

    Raises:
        ScheduleError: The expression has another form.
    """
    fields = _CRON.fullmatch(expression)
    if fields is None or (fields[3] == "?") == (fields[5] == "?"):
        raise ScheduleError(f"{expression!r} is not supported. Use cron(minute hour day month weekday year)")
    # EventBridge numbers weekdays from 1 for Sunday.
    weekday = minute.isoweekday() % 7 + 1
    values = (minute.minute, minute.hour, minute.day, minute.month, weekday, minute.year)
    texts = fields.groups()
    return all(
        text == "?" or value in _values(text, low, high)
        for text, value, (low, high) in zip(texts, values, _BOUNDS, strict=True)
    )


def _values(text: str, low: int, high: int) -> set[int]:
    found: set[int] = set()
    for part in text.split(","):
        match = _PART.fullmatch(part)
        if match is None or match[3] == "0":
            raise ScheduleError(f"{part!r} in a schedule's expression is not supported")
        first, last, step = match.groups()
        begin = low if first is None else int(first)
        # A step without an end goes to the greatest value.
        end = int(last) if last else (high if first is None or step else begin)
        if not low <= begin <= end <= high:
            raise ScheduleError(f"{part!r} in a schedule's expression is out of range")
        found |= set(range(begin, end + 1, int(step or 1)))
    return found


@dataclass
class _Tick:
    """A due start of a pipeline.

    Attributes:
        schedule: EventBridge Scheduler's description of the schedule.
        moment: The minute at which it is due.
        attempts: The number of attempts so far.
    """

    schedule: dict[str, Any]
    moment: dt.datetime
    attempts: int = 0

    @property
    def target(self) -> dict[str, Any]:
        """The target: the operation, its input and the role."""
        return self.schedule["Target"]

    def request(self) -> bytes:
        """Return the call's body: the target's input with the tick's time and this attempt filled in."""
        filled = {
            "scheduled-time": self.moment.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "schedule-arn": self.schedule["Arn"],
            "execution-id": str(uuid.uuid4()),
            "attempt-number": str(self.attempts),
        }
        text = self.target.get("Input", "{}")
        for name, value in filled.items():
            text = text.replace(f"<aws.scheduler.{name}>", value)
        return text.encode()

    def is_over(self, now: dt.datetime) -> bool:
        """Return whether the retry policy allows no further attempt."""
        policy = self.target.get("RetryPolicy", {})
        age = dt.timedelta(seconds=policy.get("MaximumEventAgeInSeconds", _MOST_AGE_SECONDS))
        return self.attempts > policy.get("MaximumRetryAttempts", _MOST_RETRIES) or now - self.moment > age


class ScheduleClock:
    """Starts pipelines whose schedules are due.

    Args:
        settings: The region, and whether a schedule's role must be allowed to start the pipeline.
        access: Access to the emulator's clients and roles.
        start: Carries out `StartPipelineExecution` with a body; returns None if the answer was lost.
        since: The time in UTC; earlier ticks are ignored.
    """

    def __init__(
        self,
        settings: ExecutorSettings,
        access: AwsAccess,
        start: Callable[[bytes], bytes | None],
        *,
        since: dt.datetime,
    ) -> None:
        self._settings = settings
        self._access = access
        self._start = start
        self._seen = since
        self._pending: list[_Tick] = []
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="schedules", daemon=True)

    def start(self) -> None:
        """Start the clock."""
        self._thread.start()

    def close(self, deadline_seconds: float) -> None:
        """Stop the clock."""
        self._ending.set()
        self._thread.join(timeout=deadline_seconds)

    def look(self, now: dt.datetime) -> None:
        """Start pipelines that became due since the last call, and retry those that could not be started.

        Args:
            now: The time in UTC.
        """
        since = max(self._seen, now - dt.timedelta(seconds=_MOST_AGE_SECONDS))
        first = since.replace(second=0, microsecond=0) + _MINUTE
        count = max(0, int((now - first) / _MINUTE) + 1) if now >= first else 0
        minutes = [first + number * _MINUTE for number in range(count)]
        if minutes:
            schedules = self._schedules()
            self._pending += [
                _Tick(schedule, minute)
                for minute in minutes
                for schedule in schedules
                if _names(schedule, minute)
            ]
            self._seen = now
        self._pending = [tick for tick in self._pending if not self._is_settled(tick, now)]

    def _run(self) -> None:
        while not self._ending.wait(_LOOK_SECONDS):
            try:
                self.look(dt.datetime.now(dt.UTC))
            except (BotoCoreError, ClientError) as error:
                _LOG.warning("schedules could not be read, trying again: %s", error)
            except Exception:  # noqa: BLE001 - a boundary, see below
                # The boundary of a thread: after any error later ticks must still come.
                _LOG.exception("the executor failed on schedules")

    def _schedules(self) -> list[dict[str, Any]]:
        """Return the enabled schedules that start pipelines."""
        scheduler = self._client("scheduler")
        return [
            scheduler.get_schedule(Name=each["Name"], GroupName=each["GroupName"])
            for page in scheduler.get_paginator("list_schedules").paginate(State="ENABLED")
            for each in page["Schedules"]
            if each["Target"]["Arn"].endswith(_TARGET)
        ]

    def _is_settled(self, tick: _Tick, now: dt.datetime) -> bool:
        """Try a start, and return whether the tick is finished."""
        tick.attempts += 1
        try:
            failure = self._try(tick)
        except (ApiError, RoleUnusableError) as error:
            failure = str(error)
            if not isinstance(error, ApiError) or error.code not in _RETRYABLE_CODES:
                self._give_up(tick, failure)
                return True
        if failure is None:
            return True
        if tick.is_over(now):
            self._give_up(tick, failure)
            return True
        _LOG.warning("retrying schedule %s: %s", tick.schedule["Name"], failure)
        return False

    def _try(self, tick: _Tick) -> str | None:
        body = tick.request()
        try:
            pipeline = json.loads(body)["PipelineName"]
        except (ValueError, TypeError, KeyError) as error:
            raise ApiError("ValidationException", f"The target's input names no pipeline: {error}") from error
        self._check_role(tick.target["RoleArn"], pipeline)
        credentials = self._access.assume(tick.target["RoleArn"], _SESSION)
        _LOG.info(
            "call SageMaker.StartPipelineExecution on %s with access key %s",
            pipeline,
            credentials.access_key_id,
        )
        if self._start(body) is None:
            return "the answer was lost"
        _LOG.info("schedule %s started %s for %s", tick.schedule["Name"], pipeline, tick.moment)
        return None

    def _check_role(self, role_arn: str, pipeline: str) -> None:
        self._access.check_role(role_arn, _PRINCIPAL)
        if not self._settings.enforce_iam:
            return
        arn = f"arn:aws:sagemaker:{self._settings.region}:{ACCOUNT_ID}:pipeline/{pipeline}"
        if not self._access.allows(role_arn, _START, arn, service=_PRINCIPAL):
            raise RoleUnusableError(f"{role_arn} is not authorized to perform: {_START} on resource: {arn}")

    def _give_up(self, tick: _Tick, failure: str) -> None:
        """Send a tick that was not started to the schedule's dead-letter queue."""
        _LOG.error("schedule %s did not start at %s: %s", tick.schedule["Name"], tick.moment, failure)
        arn = tick.target.get("DeadLetterConfig", {}).get("Arn")
        if arn is None:
            return
        try:
            sqs = self._client("sqs")
            url = sqs.get_queue_url(QueueName=arn.rpartition(":")[2])["QueueUrl"]
            sqs.send_message(QueueUrl=url, MessageBody=tick.request().decode())
        except (BotoCoreError, ClientError) as error:
            _LOG.error("no dead letter was sent for schedule %s: %s", tick.schedule["Name"], error)

    def _client(self, service: str) -> Any:
        return self._access.client(service, attempts=_CALL_ATTEMPTS, read_seconds=_CALL_SECONDS)


def _names(schedule: dict[str, Any], minute: dt.datetime) -> bool:
    """Return whether a schedule is due; an unsupported schedule is logged and never due."""
    if schedule.get("ScheduleExpressionTimezone", "UTC") != "UTC":
        _LOG.error("schedule %s never starts: only schedules in UTC are supported", schedule["Name"])
        return False
    try:
        return is_due(schedule["ScheduleExpression"], minute)
    except ScheduleError as error:
        _LOG.error("schedule %s never starts: %s", schedule["Name"], error)
        return False
