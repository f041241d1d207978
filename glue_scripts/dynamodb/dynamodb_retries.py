"""Which DynamoDB failures are transient, and how requests are retried: with full jitter, up to a deadline."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, IncompleteReadError
from botocore.exceptions import ConnectionError as AwsConnectionError

if TYPE_CHECKING:
    from collections.abc import Callable

_FIRST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 5.0
_DOUBLINGS = 20
_SERVER_ERROR = 500
_TOO_MANY_REQUESTS = 429
_PASSING_CODES = frozenset(
    {
        # Expired credentials are renewed before the next try.
        "ExpiredTokenException",
        "InternalServerError",
        "LimitExceededException",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestTimeout",
        "ServiceUnavailable",
        "ThrottlingException",
        "TransactionInProgressException",
    }
)


def transient_reason(error: ClientError | BotoCoreError) -> str | None:
    """Return the short reason of a transient failure, for the log; None if a retry cannot help.

    A request without an answer may have been applied; sending it again does no harm.
    """
    if isinstance(error, ClientError):
        code = error.response["Error"]["Code"]
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return code if is_transient(code, status) else None
    is_connection_error = isinstance(error, AwsConnectionError | HTTPClientError | IncompleteReadError)
    return type(error).__name__ if is_connection_error else None


def is_transient(code: str, status: int) -> bool:
    """Return whether a request that was answered with an error should be sent again.

    Args:
        code: The error's name; empty if a proxy or gateway answered instead of DynamoDB.
        status: The HTTP status.
    """
    return code in _PASSING_CODES or status >= _SERVER_ERROR or status == _TOO_MANY_REQUESTS


def _longest_pause(tries: int) -> float:
    """Return the longest pause in seconds after `tries` tries."""
    return min(_FIRST_PAUSE_SECONDS * 2.0 ** min(tries, _DOUBLINGS), _LONGEST_PAUSE_SECONDS)


def jittered_pause(tries: int) -> float:
    """Return a random pause in seconds after `tries` tries.

    Full jitter keeps requests that were throttled together from coming back together.
    """
    return random.uniform(0, _longest_pause(tries))  # noqa: S311  # spreads load, guards nothing


class Patience:
    """The time left for one request and its retries, counted from now.

    Args:
        seconds: How long to try.
        sleep: Waits for some seconds; tests pass their own.
    """

    def __init__(self, seconds: float, sleep: Callable[[float], None] = time.sleep) -> None:
        self._deadline = time.monotonic() + seconds
        self._tries = 0
        self._sleep = sleep

    def wait(self) -> bool:
        """Wait before the next try; return False without waiting if there is no time left."""
        if time.monotonic() + _longest_pause(self._tries) > self._deadline:
            return False
        self._sleep(jittered_pause(self._tries))
        self._tries += 1
        return True
