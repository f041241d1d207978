"""Pauses grow with jitter, waits end, and only passing trouble is tried again."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from mlpipe_dagster.job_clients.job_errors import JobApiError, JobDeadlineError
from mlpipe_dagster.job_clients.polling import Polling, is_transient


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.slept.append(seconds)
        self.now += seconds


def polling(clock: Clock) -> Polling:
    """Return polling by a clock of the test's own."""
    return Polling(deadline_seconds=100, patience_seconds=30, clock=lambda: clock.now, sleep=clock.sleep)


def error(code: str, status: int = 400) -> ClientError:
    """Return an AWS error."""
    return ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "Call")


def test_pauses_grow_to_a_bound_and_end_at_the_deadline() -> None:
    """Each pause lies between half and all of a bound that grows to 15 seconds."""
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
def test_passing_trouble_is_tried_again(trouble: Exception) -> None:
    """Throttling, server errors and lost connections are."""
    answers = iter([trouble, trouble])

    def call() -> str:
        for answer in answers:
            raise answer
        return "done"

    assert is_transient(trouble)
    assert polling(Clock()).retry(call, "the call") == "done"


def test_trouble_that_does_not_pass_ends_the_wait() -> None:
    """After the patience the error names the call and the last trouble."""

    def call() -> None:
        raise error("ThrottlingException")

    with pytest.raises(JobApiError, match=r"the call failed for 30 s.*ThrottlingException"):
        polling(Clock()).retry(call, "the call")


def test_any_other_error_is_raised_at_once() -> None:
    """What would be the same again is not tried again."""
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
def test_only_an_interruption_and_the_deadline_stop_a_job(ends_with: BaseException, is_stopped: bool) -> None:
    """After any other error the job goes on, and the next try adopts it."""
    stopped: list[bool] = []
    with (
        pytest.raises(type(ends_with)),
        polling(Clock()).stopping_on_interruption(lambda: stopped.append(True), print),
    ):
        raise ends_with
    assert bool(stopped) is is_stopped


def test_a_throttled_stop_is_tried_again() -> None:
    """One refused call must not leave a job behind that costs money."""
    troubles = iter([error("ThrottlingException"), error("Anything", 503)])
    stopped: list[bool] = []

    def stop() -> None:
        for trouble in troubles:
            raise trouble
        stopped.append(True)

    with pytest.raises(KeyboardInterrupt), polling(Clock()).stopping_on_interruption(stop, print):
        raise KeyboardInterrupt
    assert stopped == [True]


def test_a_job_that_cannot_be_stopped_is_said_so() -> None:
    """The interruption goes on, and the log tells a person to stop the job by hand."""
    said: list[str] = []

    def stop() -> None:
        raise error("AccessDeniedException")

    with pytest.raises(KeyboardInterrupt), polling(Clock()).stopping_on_interruption(stop, said.append):
        raise KeyboardInterrupt
    assert "by hand" in said[0]
