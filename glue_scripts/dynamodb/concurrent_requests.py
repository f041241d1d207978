"""Sends many requests at once over kept-alive connections, in one thread."""

from __future__ import annotations

import selectors
import socket
import ssl
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from aws_wire.http_answer import AnswerReader, BrokenAnswerError

if TYPE_CHECKING:
    from collections.abc import Callable

    from aws_wire.http_answer import HttpAnswer
    from glue_scripts.dynamodb.dynamodb_endpoint import DynamoDbEndpoint

_T = TypeVar("_T")

ANSWER_SECONDS = 30.0
_RECEIVE_BYTES = 256 * 1024
# An answer repeats the unwritten items as JSON.
_MAX_ANSWER_BYTES = 64 * 1024 * 1024
_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


@dataclass(slots=True)
class FinishedRequest(Generic[_T]):
    """How a request ended.

    Attributes:
        request: The object that was passed to `begin`.
        status: The HTTP status; 0 without an answer.
        body: The answer's body.
        failure: Why there was no answer; DynamoDB may have carried the request out nevertheless.
    """

    request: _T
    status: int = 0
    body: bytes = b""
    failure: str | None = None


class _Connection(Generic[_T]):
    """A connection and its pending request, if any."""

    def __init__(self, plain: socket.socket) -> None:
        self.socket = plain
        self.pending: FinishedRequest[_T] | None = None
        self.deadline = 0.0
        self.unsent = memoryview(b"")
        self.reader: AnswerReader | None = None
        self.events = _READ


class ConcurrentRequests(Generic[_T]):
    """Sends requests to one endpoint; `wait_finished` returns how they ended, in any order.

    Args:
        endpoint: The endpoint to send to.
        answer_seconds: How long an answer may take.
    """

    def __init__(self, endpoint: DynamoDbEndpoint, *, answer_seconds: float) -> None:
        self._endpoint = endpoint
        self._answer_seconds = answer_seconds
        self._selector = selectors.DefaultSelector()
        # Ordered by deadline.
        self._busy: dict[_Connection[_T], None] = {}
        self._free: list[_Connection[_T]] = []
        self._finished: list[FinishedRequest[_T]] = []

    @property
    def in_flight(self) -> int:
        """How many requests were begun and not yet returned by `wait_finished`."""
        return len(self._busy) + len(self._finished)

    def begin(self, request: _T, operation: str, body: bytes) -> None:
        """Begin to send a request; `wait_finished` sends what is left of it."""
        content = self._endpoint.request(operation, body)
        pending = FinishedRequest(request)
        try:
            connection = self._free.pop() if self._free else self._connect()
        except OSError as error:
            pending.failure = f"no connection: {error}"[:300]
            self._finished.append(pending)
            return
        connection.pending = pending
        connection.deadline = time.monotonic() + self._answer_seconds
        connection.unsent = memoryview(content)
        connection.reader = AnswerReader(_MAX_ANSWER_BYTES, needs_length=True)
        self._busy[connection] = None
        self._attempt(connection, self._send)

    def wait_finished(self, timeout: float) -> list[FinishedRequest[_T]]:
        """Wait at most `timeout` seconds for a request to finish; return all that have finished."""
        if not self._finished:
            for key, _ in self._selector.select(timeout):
                connection: _Connection[_T] = key.data
                self._attempt(connection, self._send if connection.unsent else self._receive)
            now = time.monotonic()
            while self._busy and (oldest := next(iter(self._busy))).deadline < now:
                self._end(oldest, failure=f"no answer within {self._answer_seconds:.0f} s")
        finished, self._finished = self._finished, []
        return finished

    def close(self) -> None:
        """Close all connections; requests in flight are forgotten."""
        for connection in (*self._free, *self._busy):
            connection.socket.close()
        self._selector.close()

    def _connect(self) -> _Connection[_T]:
        plain = self._endpoint.connect()
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        plain.settimeout(0)
        connection: _Connection[_T] = _Connection(plain)
        self._selector.register(plain, _READ, connection)
        return connection

    def _attempt(self, connection: _Connection[_T], advance: Callable[[_Connection[_T]], None]) -> None:
        """Send or receive as much as possible without waiting."""
        try:
            advance(connection)
        except (BlockingIOError, ssl.SSLWantReadError):
            # TLS may have to receive before it can send more.
            sends = connection.unsent and not isinstance(connection.socket, ssl.SSLSocket)
            self._watch(connection, _READ | _WRITE if sends else _READ)
        except ssl.SSLWantWriteError:
            self._watch(connection, _READ | _WRITE)
        except (OSError, BrokenAnswerError) as error:
            self._end(connection, failure=f"{type(error).__name__}: {error}"[:300])

    def _send(self, connection: _Connection[_T]) -> None:
        while connection.unsent:
            connection.unsent = connection.unsent[connection.socket.send(connection.unsent) :]
        self._watch(connection, _READ)

    def _receive(self, connection: _Connection[_T]) -> None:
        answer = None
        while answer is None:
            data = connection.socket.recv(_RECEIVE_BYTES)
            if connection.reader is None:
                # Data without a request: the server has closed the connection, or answers out of order.
                break
            answer = connection.reader.feed(data)
        self._end(connection, answer)

    def _watch(self, connection: _Connection[_T], events: int) -> None:
        if connection.events != events:
            self._selector.modify(connection.socket, events, connection)
            connection.events = events

    def _end(
        self, connection: _Connection[_T], answer: HttpAnswer | None = None, *, failure: str | None = None
    ) -> None:
        """Finish the request; keep the connection if it can be used again."""
        pending, connection.pending, connection.reader = connection.pending, None, None
        if pending is not None:
            del self._busy[connection]
            pending.failure = failure
            if answer is not None:
                pending.status, pending.body = answer.status, answer.body
            self._finished.append(pending)
        if answer is not None and answer.is_reusable:
            self._free.append(connection)
            return
        if connection in self._free:
            self._free.remove(connection)
        self._selector.unregister(connection.socket)
        with suppress(OSError):
            connection.socket.close()
