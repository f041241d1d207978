"""Pauses grow with jitter, waits end, and only passing trouble is tried again."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from mlpipe_dagster.job_clients.polling import JobDeadlineError, Polling, is_passing


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
    assert 100 <= clock.now < 116
    assert max(clock.slept) <= 15
    assert clock.slept[0] <= 0.5 < clock.slept[-1]


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

    assert is_passing(trouble)
    assert polling(Clock()).insist(call, "the call") == "done"


def test_trouble_that_does_not_pass_ends_the_wait() -> None:
    """After the patience the error names the call and the last trouble."""

    def call() -> None:
        raise error("ThrottlingException")

    with pytest.raises(JobDeadlineError, match=r"the call failed for 30 s.*ThrottlingException"):
        polling(Clock()).insist(call, "the call")


def test_any_other_error_is_raised_at_once() -> None:
    """What would be the same again is not tried again."""
    clock = Clock()

    def call() -> None:
        raise error("AccessDeniedException")

    with pytest.raises(ClientError, match="AccessDenied"):
        polling(clock).insist(call, "the call")
    assert clock.slept == []
