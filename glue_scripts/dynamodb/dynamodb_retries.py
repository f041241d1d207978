"""Which failures of DynamoDB may pass, and how long requests are repeated: full jitter, up to a deadline."""

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
        # Credentials that end are renewed before the next try.
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
    """Return in a word why a request that failed is to be sent again; None if no retry can cure it.

    Whether a request without an answer was applied is not known: the same one again changes nothing.
    """
    if isinstance(error, ClientError):
        code = error.response["Error"]["Code"]
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return code if is_transient(code, status) else None
    is_of_the_wire = isinstance(error, AwsConnectionError | HTTPClientError | IncompleteReadError)
    return type(error).__name__ if is_of_the_wire else None


def is_transient(code: str, status: int) -> bool:
    """Return whether a request that DynamoDB answered with an error is to be sent again.

    Args:
        code: The error's name; empty if something before DynamoDB has answered.
        status: The HTTP status.
    """
    return code in _PASSING_CODES or status >= _SERVER_ERROR or status == _TOO_MANY_REQUESTS


def _longest_pause(tries: int) -> float:
    """Return the longest pause in seconds after so many tries before."""
    return min(_FIRST_PAUSE_SECONDS * 2.0 ** min(tries, _DOUBLINGS), _LONGEST_PAUSE_SECONDS)


def jittered_pause(tries: int) -> float:
    """Return a pause in seconds after so many tries before, drawn at random.

    Full jitter: requests that were throttled together do not come back together.
    """
    return random.uniform(0, _longest_pause(tries))  # noqa: S311  # spreads load, guards nothing


class Patience:
    """The time that one request has, from now on.

    Args:
        seconds: How long.
        sleep: Waits; tests pass their own.
    """

    def __init__(self, seconds: float, sleep: Callable[[float], None] = time.sleep) -> None:
        self._deadline = time.monotonic() + seconds
        self._tries = 0
        self._sleep = sleep

    def wait(self) -> bool:
        """Wait before the next try, and return whether there is time for it."""
        if time.monotonic() + _longest_pause(self._tries) > self._deadline:
            return False
        self._sleep(jittered_pause(self._tries))
        self._tries += 1
        return True
