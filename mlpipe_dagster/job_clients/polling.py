"""Watching a remote job: growing, jittered pauses, a deadline, and patience with passing API errors."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TypeVar

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
    ReadTimeoutError,
)

from mlpipe_dagster.job_clients.job_errors import JobApiError, JobDeadlineError

_T = TypeVar("_T")
_PASSING_CODES = frozenset(
    {
        "InternalFailure",
        "InternalServerError",
        "InternalServiceException",
        "OperationTimeoutException",
        "RequestLimitExceeded",
        "ServiceUnavailable",
        "ServiceUnavailableException",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)
_PASSING_KINDS = (
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
    ReadTimeoutError,
)
_SERVER_ERROR = 500
_STOP_PATIENCE_SECONDS = 30


def error_code(error: BaseException) -> str:
    """Return the AWS error code of an exception, or an empty text."""
    return error.response.get("Error", {}).get("Code", "") if isinstance(error, ClientError) else ""


def is_refusal(error: ClientError) -> bool:
    """Tell whether a service has answered that it did nothing, rather than that it does not know."""
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", _SERVER_ERROR)
    return status < _SERVER_ERROR and error_code(error) != "OperationTimeoutException"


def is_passing(error: Exception) -> bool:
    """Tell whether the same call may well succeed a little later."""
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return error_code(error) in _PASSING_CODES or status >= _SERVER_ERROR
    return isinstance(error, _PASSING_KINDS)


@dataclass(frozen=True, kw_only=True)
class Polling:
    """How a job is watched.

    Attributes:
        deadline_seconds: How long one job may take, its time in queues included.
        patience_seconds: How long its API may fail without interruption.
        first_pause: Seconds between the first two looks.
        longest_pause: Seconds to which the pause grows.
        growth: By which factor, each time.
        clock: Seconds that only grow; tests pass their own.
        sleep: Waits; tests pass their own.
    """

    deadline_seconds: float = 4 * 3600
    patience_seconds: float = 300
    first_pause: float = 0.5
    longest_pause: float = 15.0
    growth: float = 1.4
    clock: Callable[[], float] = field(default=time.monotonic, repr=False)
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)

    def within(self, seconds: float) -> Polling:
        """Return the same with another deadline."""
        return replace(self, deadline_seconds=seconds)

    def pauses(self, what: str, *, since: float | None = None) -> Iterator[float]:
        """Yield the seconds gone so far, then pause; again and again until the deadline.

        Args:
            what: Names whose deadline it is.
            since: When the time began, by the clock; now unless given.

        Raises:
            JobDeadlineError: The deadline has passed.
        """
        began = self.clock() if since is None else since
        pause = self.first_pause
        while (gone := self.clock() - began) < self.deadline_seconds:
            yield gone
            # Jitter: jobs that were started together are not looked at together for ever.
            left = max(0.0, self.deadline_seconds - (self.clock() - began))
            self.sleep(min(random.uniform(0.5, 1.0) * pause, left))  # noqa: S311  # no secret
            pause = min(pause * self.growth, self.longest_pause)
        raise JobDeadlineError(f"{what} did not end within {self.deadline_seconds:.0f} s")

    def insist(self, call: Callable[[], _T], what: str) -> _T:
        """Return what a call returns, calling again while its API has passing troubles.

        Raises:
            JobApiError: The troubles outlasted the patience.
        """
        began = self.clock()
        pause = self.first_pause
        while True:
            try:
                return call()
            except Exception as error:
                if not is_passing(error):
                    raise
                if self.clock() - began > self.patience_seconds:
                    raise JobApiError(f"{what} failed for {self.patience_seconds:.0f} s: {error}") from error
            self.sleep(random.uniform(0.5, 1.0) * pause)  # noqa: S311  # no secret
            pause = min(pause * self.growth, self.longest_pause)

    @contextmanager
    def stopping_on_interruption(
        self, stop: Callable[[], None], log: Callable[[str], None]
    ) -> Iterator[None]:
        """Stop the remote job when this process is told to end, or when the job has had its time.

        Ordinary errors leave the job alone: its successor adopts it.
        """
        try:
            yield
        except JobDeadlineError:
            self._stop(stop, log)
            raise
        except Exception:
            raise
        except BaseException:
            # Dagster's interruption, SIGINT and SIGTERM: none of them is an `Exception`.
            self._stop(stop, log)
            raise

    def _stop(self, stop: Callable[[], None], log: Callable[[str], None]) -> None:
        try:
            # A job that is not stopped costs money: one throttled call must not leave it running.
            replace(self, patience_seconds=_STOP_PATIENCE_SECONDS).insist(stop, "Stopping the job")
        except (ClientError, BotoCoreError, JobApiError) as error:
            log(f"The job could not be stopped: {error}. Stop it by hand.")
