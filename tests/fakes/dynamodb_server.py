"""DynamoDB's writes over HTTP, in memory; what is done to each request is decided by a test."""

from __future__ import annotations

import json
import math
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from botocore.credentials import Credentials

from glue_scripts.dynamodb.dynamodb_endpoint import DynamoDbEndpoint
from prediction_contract.limits import MAX_BATCH_WRITE_BYTES, MAX_BATCH_WRITES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TABLE = "online"


class DynamoDbServer(ThreadingHTTPServer):
    """Takes items as DynamoDB does, and refuses a request that exceeds its limits.

    Args:
        decide: Takes a request's number, from 1, and its puts; returns the puts that are left over, or an
            answer's status and error code, or "reset" to answer nothing.

    Attributes:
        items: What was taken, by key.
        requests: For each when it came, how many items it had, and how many write units were consumed.
        body_sizes: How many bytes each request had.
        connections: How many there were.
        access_keys: Those that requests were signed with.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, decide: Callable[[int, list[Any]], Any] = lambda _number, _puts: None) -> None:
        self.items: dict[str, Any] = {}
        self.requests: list[tuple[float, int, float]] = []
        self.body_sizes: list[int] = []
        self.connections = 0
        self.access_keys: set[str] = set()
        self._decide = decide
        self._lock = threading.Lock()
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        """The address without a trailing slash."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def sizes(self) -> list[int]:
        """How many items each request had."""
        return [size for _, size, _ in self.requests]

    def take(self, body: bytes) -> tuple[int, dict[str, Any]] | None:
        """Return the answer to a request; None for none."""
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


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 20

    def setup(self) -> None:
        self.server.connections += 1  # type: ignore[attr-defined]  # it is a DynamoDbServer
        super().setup()

    def do_POST(self) -> None:
        server: Any = self.server
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert self.headers["X-Amz-Target"] == "DynamoDB_20120810.BatchWriteItem"
        server.access_keys.add(self.headers["Authorization"].partition("Credential=")[2].partition("/")[0])
        answer = server.take(body)
        if answer is None:
            self.close_connection = True
            return
        status, document = answer
        content = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- the name is the base class's
        """Keep quiet."""


@contextmanager
def dynamodb_server(decide: Callable[[int, list[Any]], Any] | None = None) -> Iterator[DynamoDbServer]:
    """Hold a running server."""
    server = DynamoDbServer(decide) if decide else DynamoDbServer()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join(20)


def endpoint(url: str, **options: Any) -> DynamoDbEndpoint:
    """Return a server as the writer reaches it."""
    return DynamoDbEndpoint(url, "us-east-1", Credentials("key", "secret"), **{"proxies": {}, **options})
