"""Reading single items of DynamoDB: signed, kept alive, retried with jitter up to a deadline."""

from __future__ import annotations

import json
import random
import time
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from api_lambda.http_connections import HttpFaultError, Outgoing
from api_lambda.request_signing import RequestSigner

if TYPE_CHECKING:
    from collections.abc import Mapping

    from api_lambda.http_connections import Answer, HttpConnections
    from api_lambda.settings import Settings

# One slow answer must leave time for another try.
_ATTEMPT_SECONDS = 1.0
_FIRST_PAUSE_SECONDS = 0.025
_LONGEST_PAUSE_SECONDS = 0.4
_MOST_BYTES = 4 * 1024 * 1024
_OK = 200
_SERVER_ERRORS = 500
_THROTTLED = frozenset(
    {
        "ProvisionedThroughputExceededException",
        "ThrottlingException",
        "RequestLimitExceeded",
        "LimitExceededException",
    }
)


class StoreUnavailableError(Exception):
    """DynamoDB throttled or failed until the deadline: nobody knows whether the item is there."""


class StoreRefusedError(Exception):
    """DynamoDB refused the request itself: no permission, no table. Asking again will not help."""


class ItemReader(Protocol):
    """What the API needs of a store."""

    def get_item(
        self, table: str, key: Mapping[str, str], *, consistent: bool, until: float
    ) -> dict[str, Any] | None:
        """Return an item in DynamoDB's low-level form, or None if there is none.

        Args:
            table: The table's name.
            key: The key attributes, all of type S.
            consistent: Whether every write that was answered before must be seen.
            until: The moment, by `time.monotonic`, to give up.

        Raises:
            StoreUnavailableError: The store gave no answer in time.
            StoreRefusedError: The store refuses to answer.
        """
        ...


class DynamoDb:
    """An `ItemReader` over DynamoDB's wire protocol."""

    def __init__(self, connections: HttpConnections, settings: Settings) -> None:
        self._connections = connections
        self._url = f"{settings.dynamodb_url}/"
        host = urlsplit(settings.dynamodb_url).netloc
        self._signer = RequestSigner(settings.credentials, settings.deployment.region, host)

    def get_item(
        self, table: str, key: Mapping[str, str], *, consistent: bool, until: float
    ) -> dict[str, Any] | None:
        """Return an item, or None; see `ItemReader`."""
        request = {
            "TableName": table,
            "Key": {name: {"S": value} for name, value in key.items()},
            "ConsistentRead": consistent,
        }
        return self._call("GetItem", json.dumps(request).encode(), until).get("Item")

    def _call(self, operation: str, body: bytes, until: float) -> dict[str, Any]:
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                answer = self._send(operation, body, min(until - time.monotonic(), _ATTEMPT_SECONDS))
                if answer.status == _OK:
                    return json.loads(answer.body)
                fault = _fault(operation, answer)
            except (HttpFaultError, ValueError) as error:
                fault = f"{operation}: {error}"
            # Full jitter, so that many functions that were throttled together do not come back together.
            wait = random.uniform(0, pause)  # noqa: S311 -- spreads load, keeps no secret
            if time.monotonic() + wait >= until:
                raise StoreUnavailableError(f"{fault}, until the request's deadline")
            time.sleep(wait)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def _send(self, operation: str, body: bytes, seconds: float) -> Answer:
        headers = self._signer.headers(f"DynamoDB_20120810.{operation}", body)
        outgoing = Outgoing(self._url, "POST", headers, body, most_bytes=_MOST_BYTES)
        return self._connections.send(outgoing, seconds)


def _fault(operation: str, answer: Answer) -> str:
    """Return what to say of an answer after which another try may help.

    Raises:
        StoreRefusedError: Another try cannot help.
    """
    code = "without a code"
    try:
        document = json.loads(answer.body)
    except ValueError:
        document = None
    if isinstance(document, dict):
        code = str(document.get("__type", code)).rpartition("#")[2]
    if answer.status < _SERVER_ERRORS and code not in _THROTTLED:
        raise StoreRefusedError(f"{operation} was refused: {answer.status} {code[:80]}")
    return f"{operation} failed: {answer.status} {code[:80]}"
