"""Reads DynamoDB with signed requests over kept-alive connections, and retries until a deadline."""

from __future__ import annotations

import json
import random
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from api_lambda.http.http_connections import HttpFaultError, OutgoingRequest
from aws_wire.request_signer import RequestSigner

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from api_lambda.http.http_connections import HttpConnections
    from api_lambda.settings import Settings
    from aws_wire.http_answer import HttpAnswer

# Leaves time for another try after a slow answer.
_ATTEMPT_SECONDS = 1.0
_FIRST_PAUSE_SECONDS = 0.025
_LONGEST_PAUSE_SECONDS = 0.4
# DynamoDB returns at most 16 MB of items; JSON escapes and type names come on top.
_MAX_BYTES = 64 * 1024 * 1024
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
    """DynamoDB throttled or failed until the deadline, so it is unknown whether the item exists."""


class StoreRefusedError(Exception):
    """DynamoDB refused the request, for example for lack of permission; retrying does not help."""


class ItemReader:
    """Reads one region's tables over DynamoDB's wire protocol.

    All methods take `until`, a deadline by `time.monotonic`.

    Raises:
        StoreUnavailableError: DynamoDB gave no answer in time.
        StoreRefusedError: DynamoDB refused the request.
    """

    def __init__(self, connections: HttpConnections, settings: Settings) -> None:
        self._connections = connections
        self._url = f"{settings.dynamodb_url}/"
        host = urlsplit(settings.dynamodb_url).netloc
        self._signer = RequestSigner(
            lambda: settings.credentials,
            settings.deployment.region,
            host,
            service="dynamodb",
            content_type="application/x-amz-json-1.0",
        )

    def get_item(
        self, table: str, key: Mapping[str, str], *, consistent: bool, until: float
    ) -> dict[str, Any] | None:
        """Return an item in DynamoDB's low-level form, or None if there is none.

        Args:
            table: The table's name.
            key: The key attributes, all of type S.
            consistent: Whether to read with strong consistency.
            until: The deadline.
        """
        request = {
            "TableName": table,
            "Key": {name: {"S": value} for name, value in key.items()},
            "ConsistentRead": consistent,
        }
        return self._call("GetItem", request, until).get("Item")

    def batch_get(
        self, table: str, keys: Sequence[Mapping[str, str]], *, consistent: bool, until: float
    ) -> list[dict[str, Any]]:
        """Return the existing items of up to 100 distinct keys, in any order."""
        left: Any = [{name: {"S": value} for name, value in key.items()} for key in keys]
        found: list[dict[str, Any]] = []
        pauses = _Pauses(until)
        while left:
            request = {"RequestItems": {table: {"Keys": left, "ConsistentRead": consistent}}}
            answer = self._call("BatchGetItem", request, until)
            found += answer.get("Responses", {}).get(table, [])
            # Throttled, or more than one answer holds: these may exist, so they are read again.
            unread = answer.get("UnprocessedKeys", {}).get(table, {}).get("Keys", [])
            if len(unread) == len(left):
                pauses.wait("BatchGetItem read no key")
            left = unread
        return found

    def query_backwards(
        self, table: str, key: Mapping[str, str], last: str, *, most: int, until: float
    ) -> list[dict[str, Any]]:
        """Return the items of a partition between two sort keys, both inclusive, in descending order.

        Args:
            table: The table's name.
            key: The partition key and then the lowest sort key, by attribute name, both of type S.
            last: The highest sort key.
            most: The most items to return.
            until: The deadline.
        """
        (partition_name, partition), (sort_name, first) = key.items()
        request: dict[str, Any] = {
            "TableName": table,
            "KeyConditionExpression": "#p = :p AND #s BETWEEN :first AND :last",
            "ExpressionAttributeNames": {"#p": partition_name, "#s": sort_name},
            "ExpressionAttributeValues": {
                ":p": {"S": partition},
                ":first": {"S": first},
                ":last": {"S": last},
            },
            "ScanIndexForward": False,
            "ConsistentRead": True,
        }
        found: list[dict[str, Any]] = []
        while len(found) < most:
            answer = self._call("Query", {**request, "Limit": most - len(found)}, until)
            found += answer.get("Items", [])
            if "LastEvaluatedKey" not in answer:
                break
            request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]
        return found

    def table_names(self, prefix: str, *, until: float) -> list[str]:
        """Return the sorted names of all tables whose names begin with the prefix."""
        found: list[str] = []
        # The listing is sorted and begins after this name, which no table has.
        start: str | None = prefix
        while start is not None:
            answer = self._call("ListTables", {"ExclusiveStartTableName": start}, until)
            names = answer.get("TableNames", [])
            found += [name for name in names if name.startswith(prefix)]
            beyond = bool(names) and not names[-1].startswith(prefix)
            start = None if beyond else answer.get("LastEvaluatedTableName")
        return found

    def _call(self, operation: str, request: Mapping[str, Any], until: float) -> dict[str, Any]:
        body = json.dumps(request).encode()
        pauses = _Pauses(until)
        while True:
            try:
                answer = self._send(operation, body, min(until - time.monotonic(), _ATTEMPT_SECONDS))
                if answer.status == _OK:
                    return json.loads(answer.body)
                fault = _fault(operation, answer)
            except (HttpFaultError, ValueError) as error:
                fault = f"{operation}: {error}"
            pauses.wait(fault)

    def _send(self, operation: str, body: bytes, seconds: float) -> HttpAnswer:
        headers = self._signer.headers(f"DynamoDB_20120810.{operation}", body)
        outgoing = OutgoingRequest(self._url, "POST", headers, body, max_bytes=_MAX_BYTES)
        return self._connections.send(outgoing, seconds)


class _Pauses:
    """Growing pauses between tries, up to a deadline."""

    def __init__(self, until: float) -> None:
        self._until = until
        self._longest = _FIRST_PAUSE_SECONDS

    def wait(self, fault: str) -> None:
        """Wait before another try.

        Raises:
            StoreUnavailableError: No time is left.
        """
        # Full jitter, so that many functions that were throttled together do not come back together.
        pause = random.uniform(0, self._longest)  # noqa: S311 -- spreads load, keeps no secret
        if time.monotonic() + pause >= self._until:
            raise StoreUnavailableError(f"{fault}, until the request's deadline")
        time.sleep(pause)
        self._longest = min(2 * self._longest, _LONGEST_PAUSE_SECONDS)


def _fault(operation: str, answer: HttpAnswer) -> str:
    """Return a description of a failed answer that is worth a retry.

    Raises:
        StoreRefusedError: A retry cannot help.
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
