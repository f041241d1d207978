"""Watching a remote job: growing pauses with jitter, a deadline, and patience with transient errors."""

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
_TRANSIENT_CODES = frozenset(
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
_TRANSIENT_KINDS = (
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
    ReadTimeoutError,
)
_SERVER_ERROR = 500
_STOP_PATIENCE_SECONDS = 30
# The factor by which each pause grows.
_GROWTH = 1.4


def error_code(error: BaseException) -> str:
    """Return the AWS error code of an exception, or an empty text."""
    return error.response.get("Error", {}).get("Code", "") if isinstance(error, ClientError) else ""


def is_refusal(error: ClientError) -> bool:
    """Return whether an error means that the service did nothing; otherwise the result is unknown."""
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", _SERVER_ERROR)
    return status < _SERVER_ERROR and error_code(error) != "OperationTimeoutException"


def is_transient(error: Exception) -> bool:
    """Return whether an error is transient, so that the same call may succeed later."""
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return error_code(error) in _TRANSIENT_CODES or status >= _SERVER_ERROR
    return isinstance(error, _TRANSIENT_KINDS)


@dataclass(frozen=True, kw_only=True)
class Polling:
    """The pauses, deadline and patience for watching a job.

    Attributes:
        deadline_seconds: The time limit of a job, including its time in queues.
        patience_seconds: How long its API may fail without a single success.
        first_pause: The first pause, in seconds.
        longest_pause: The longest pause, in seconds.
        clock: A monotonic clock in seconds; tests pass their own.
        sleep: Waits for some seconds; tests pass their own.
    """

    deadline_seconds: float = 4 * 3600
    patience_seconds: float = 300
    first_pause: float = 0.5
    longest_pause: float = 15.0
    clock: Callable[[], float] = field(default=time.monotonic, repr=False)
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)

    def with_deadline(self, seconds: float) -> Polling:
        """Return a copy with another deadline."""
        return replace(self, deadline_seconds=seconds)

    def pauses(self, what: str, *, since: float | None = None) -> Iterator[float]:
        """Yield the elapsed seconds, then pause; repeat until the deadline.

        Args:
            what: The subject of the deadline, for the error message.
            since: The start time by the clock; by default now.

        Raises:
            JobDeadlineError: The deadline has passed.
        """
        began = self.clock() if since is None else since
        pause = self.first_pause
        while (elapsed := self.clock() - began) < self.deadline_seconds:
            yield elapsed
            # Jitter spreads the requests for jobs that were started together.
            left = max(0.0, self.deadline_seconds - (self.clock() - began))
            self.sleep(min(random.uniform(0.5, 1.0) * pause, left))  # noqa: S311  # no secret
            pause = min(pause * _GROWTH, self.longest_pause)
        raise JobDeadlineError(f"{what} did not end within {self.deadline_seconds:.0f} s")

    def retry(self, call: Callable[[], _T], what: str) -> _T:
        """Return the result of a call, retrying while its API fails with transient errors.

        Raises:
            JobApiError: The errors lasted longer than the patience.
        """
        began = self.clock()
        pause = self.first_pause
        while True:
            try:
                return call()
            except Exception as error:
                if not is_transient(error):
                    raise
                if self.clock() - began > self.patience_seconds:
                    raise JobApiError(f"{what} failed for {self.patience_seconds:.0f} s: {error}") from error
            self.sleep(random.uniform(0.5, 1.0) * pause)  # noqa: S311  # no secret
            pause = min(pause * _GROWTH, self.longest_pause)

    @contextmanager
    def stopping_on_interruption(
        self, stop: Callable[[], None], log: Callable[[str], None]
    ) -> Iterator[None]:
        """Stop the remote job if this process is told to end, or if the job's deadline passes.

        Other errors leave the job alone: a later run adopts it.
        """
        try:
            yield
        except JobDeadlineError:
            self._stop(stop, log)
            raise
        except Exception:
            raise
        except BaseException:
            # Dagster's interruption, SIGINT and SIGTERM are not an `Exception`.
            self._stop(stop, log)
            raise

    def _stop(self, stop: Callable[[], None], log: Callable[[str], None]) -> None:
        try:
            # Retried for a while: a job that is not stopped costs money.
            replace(self, patience_seconds=_STOP_PATIENCE_SECONDS).retry(stop, "Stopping the job")
        except (ClientError, BotoCoreError, JobApiError) as error:
            log(f"The job could not be stopped: {error}. Stop it by hand.")
