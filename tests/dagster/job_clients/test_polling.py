"""Pauses grow with jitter, waits end, and only transient errors are retried."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from mlpipe_dagster.job_clients.job_errors import JobApiError, JobDeadlineError
from mlpipe_dagster.job_clients.polling import Polling, is_transient


class Clock:
    """A clock that advances only while sleeping."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        """Advance the clock."""
        self.slept.append(seconds)
        self.now += seconds


def polling(clock: Clock) -> Polling:
    """Return polling with a test's clock."""
    return Polling(deadline_seconds=100, patience_seconds=30, clock=lambda: clock.now, sleep=clock.sleep)


def error(code: str, status: int = 400) -> ClientError:
    """Return an AWS error."""
    return ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "Call")


def test_pauses_grow_until_the_deadline() -> None:
    """Pauses start at half a second or less, never exceed 15 seconds, and end exactly at the deadline."""
    clock = Clock()
    with pytest.raises(JobDeadlineError, match=r"the job did not end within 100 s"):
        list(polling(clock).pauses("the job"))
    assert clock.now == 100
    assert max(clock.slept) <= 15
    assert clock.slept[0] <= 0.5 < max(clock.slept)


@pytest.mark.parametrize(
    "trouble",
    [error("ThrottlingException"), error("Anything", 503), EndpointConnectionError(endpoint_url="http://x")],
)
def test_transient_error_is_retried(trouble: Exception) -> None:
    """Throttling, server errors and lost connections are transient."""
    answers = iter([trouble, trouble])

    def call() -> str:
        for answer in answers:
            raise answer
        return "done"

    assert is_transient(trouble)
    assert polling(Clock()).retry(call, "the call") == "done"


def test_persistent_error_ends_the_retries() -> None:
    """The error names the call, the time spent and the last cause."""

    def call() -> None:
        raise error("ThrottlingException")

    with pytest.raises(JobApiError, match=r"the call failed for 30 s.*ThrottlingException"):
        polling(Clock()).retry(call, "the call")


def test_permanent_error_is_raised_at_once() -> None:
    """A refused call would fail again, so it is not retried."""
    clock = Clock()

    def call() -> None:
        raise error("AccessDeniedException")

    with pytest.raises(ClientError, match="AccessDenied"):
        polling(clock).retry(call, "the call")
    assert clock.slept == []


@pytest.mark.parametrize(
    ("ends_with", "is_stopped"),
    [
        (KeyboardInterrupt(), True),
        (JobDeadlineError("too long"), True),
        (JobApiError("no answer"), False),
        (ValueError("a bug"), False),
    ],
)
def test_only_interruption_and_deadline_stop_a_job(ends_with: BaseException, is_stopped: bool) -> None:
    """After any other error the job continues, and the next attempt adopts it."""
    stopped: list[bool] = []
    with (
        pytest.raises(type(ends_with)),
        polling(Clock()).stopping_on_interruption(lambda: stopped.append(True), print),
    ):
        raise ends_with
    assert bool(stopped) is is_stopped


def test_throttled_stop_is_retried() -> None:
    """One refused call must not leave a job that costs money."""
    troubles = iter([error("ThrottlingException"), error("Anything", 503)])
    stopped: list[bool] = []

    def stop() -> None:
        for trouble in troubles:
            raise trouble
        stopped.append(True)

    with pytest.raises(KeyboardInterrupt), polling(Clock()).stopping_on_interruption(stop, print):
        raise KeyboardInterrupt
    assert stopped == [True]


def test_failed_stop_is_logged() -> None:
    """The interruption is still raised, and the log asks a person to stop the job by hand."""
    said: list[str] = []

    def stop() -> None:
        raise error("AccessDeniedException")

    with pytest.raises(KeyboardInterrupt), polling(Clock()).stopping_on_interruption(stop, said.append):
        raise KeyboardInterrupt
    assert "by hand" in said[0]
