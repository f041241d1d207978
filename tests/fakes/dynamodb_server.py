"""An in-memory HTTP server for DynamoDB writes, whose answers a test decides."""

from __future__ import annotations

import json
import math
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from botocore.credentials import Credentials

from glue_scripts.dynamodb.dynamodb_endpoint import DynamoDbEndpoint
from prediction_contract.limits import MAX_BATCH_WRITE_BYTES, MAX_BATCH_WRITES
from tests.fakes.http_answers import LocalHandler, LocalServer, serving_requests

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TABLE = "online"


class DynamoDbServer(LocalServer):
    """Stores items like DynamoDB and refuses a request that exceeds DynamoDB's limits.

    Args:
        decide: Takes a request's number, from 1, and its puts; returns the unprocessed puts, or an answer's
            status and error code, or "reset" to send no answer.

    Attributes:
        items: The stored items by key.
        requests: Time, number of items and consumed write units of each request.
        body_sizes: The size of each request in bytes.
        access_keys: The access keys that signed requests.
    """

    def __init__(self, decide: Callable[[int, list[Any]], Any] = lambda _number, _puts: None) -> None:
        self.items: dict[str, Any] = {}
        self.requests: list[tuple[float, int, float]] = []
        self.body_sizes: list[int] = []
        self.access_keys: set[str] = set()
        self._decide = decide
        self._lock = threading.Lock()
        super().__init__(_Handler)

    @property
    def sizes(self) -> list[int]:
        """The number of items of each request."""
        return [size for _, size, _ in self.requests]

    def take(self, body: bytes) -> tuple[int, dict[str, Any]] | None:
        """Return the answer to a request, or None to close the connection without one."""
        puts = json.loads(body)["RequestItems"][TABLE]
        if len(body) > MAX_BATCH_WRITE_BYTES or len(puts) > MAX_BATCH_WRITES:
            return _error(400, "ValidationException")
        with self._lock:
            self.body_sizes.append(len(body))
            number = len(self.requests) + 1
            self.requests.append((time.monotonic(), len(puts), 0.0))
        decided = self._decide(number, puts)
        if decided == "reset":
            return None
        if isinstance(decided, tuple):
            return _error(*decided)
        left = decided or []
        units = 0.0
        with self._lock:
            for put in puts:
                if put not in left:
                    item = put["PutRequest"]["Item"]
                    self.items[item["entity_id"]["S"]] = item
                    units += math.ceil(len(json.dumps(item)) / 1024)
            self.requests[number - 1] = (*self.requests[number - 1][:2], units)
        return 200, {
            "UnprocessedItems": {TABLE: left} if left else {},
            "ConsumedCapacity": [{"TableName": TABLE, "CapacityUnits": units}],
        }


def _error(status: int, code: str) -> tuple[int, dict[str, Any]]:
    return status, {"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": "m"}


class _Handler(LocalHandler):
    timeout = 20

    def do_POST(self) -> None:  # noqa: N802 -- the name is the base class's
        server: Any = self.server
        body = self.body()
        assert self.headers["X-Amz-Target"] == "DynamoDB_20120810.BatchWriteItem"
        server.access_keys.add(self.headers["Authorization"].partition("Credential=")[2].partition("/")[0])
        answer = server.take(body)
        if answer is None:
            self.close_connection = True
            return
        status, document = answer
        self.respond(status, json.dumps(document).encode())


@contextmanager
def dynamodb_server(decide: Callable[[int, list[Any]], Any] | None = None) -> Iterator[DynamoDbServer]:
    """Run a server until the block ends."""
    server = DynamoDbServer(decide) if decide else DynamoDbServer()
    with server, serving_requests(server):
        yield server


def endpoint(url: str, **options: Any) -> DynamoDbEndpoint:
    """Return a server's endpoint for the writer."""
    return DynamoDbEndpoint(url, "us-east-1", Credentials("key", "secret"), **{"proxies": {}, **options})
