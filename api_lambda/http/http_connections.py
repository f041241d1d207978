"""Outgoing HTTP: kept-alive connections, a deadline and a size limit on every answer, no redirects."""

from __future__ import annotations

import select
import threading
import time
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from api_lambda.http.addresses import open_socket, seconds_left
from aws_wire.http_answer import AnswerReader

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Callable, Mapping

    from aws_wire.http_answer import HttpAnswer

# X-Ray's header of the current request, sent on with every outgoing request.
TRACE_ID: ContextVar[str] = ContextVar("TRACE_ID", default="")

_KEPT_PER_ORIGIN = 4
# Gateways drop idle connections silently (AWS's after 350 seconds); a request over a dropped one would hang.
_IDLE_SECONDS = 60
_RECEIVE_BYTES = 65_536
_DEFAULT_PORTS = {"http": 80, "https": 443}


class HttpFaultError(Exception):
    """No complete answer arrived: host unreachable, too slow, answer too long, or not HTTP."""


@dataclass(frozen=True, slots=True)
class OutgoingRequest:
    """A request that is safe to send twice; the API only sends reads.

    Attributes:
        url: An `http` or `https` URL.
        method: GET or POST.
        headers: Headers other than Host and Content-Length.
        body: The body of a POST.
        max_bytes: The longest allowed answer.
        public_only: Whether the host must not resolve to a private address.
    """

    url: str
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    max_bytes: int = 1_048_576
    public_only: bool = False


class HttpConnections:
    """A few connections per origin, shared by threads."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._lock = threading.Lock()
        # By origin and `public_only`.
        self._idle: dict[tuple[str, bool], list[tuple[float, socket.socket]]] = {}
        self._tls: ssl.SSLContext | None = None
        self._clock = clock

    def send(self, request: OutgoingRequest, seconds: float) -> HttpAnswer:
        """Send a request and return the answer.

        Args:
            request: The request.
            seconds: The time limit for the whole exchange.

        Raises:
            HttpFaultError: No complete answer arrived in time.
        """
        deadline = time.monotonic() + seconds
        parts = urlsplit(request.url)
        origin = f"{parts.scheme}://{parts.netloc}"
        target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
        try:
            while (kept := self._take(origin, request)) is not None:
                try:
                    return self._exchange(kept, origin, target, request, deadline)
                except TimeoutError:
                    raise
                except OSError:
                    # The peer closed the idle connection; the error depends on the kind of connection.
                    continue
            return self._exchange(self._connect(origin, request, deadline), origin, target, request, deadline)
        except (OSError, ValueError) as error:
            raise HttpFaultError(f"{origin} gave no answer: {type(error).__name__}") from error

    def _take(self, origin: str, request: OutgoingRequest) -> socket.socket | None:
        now = self._clock()
        while True:
            with self._lock:
                kept = self._idle.get((origin, request.public_only))
                if not kept:
                    return None
                kept_at, connection = kept.pop()
            if now - kept_at < _IDLE_SECONDS and _is_silent(connection):
                return connection
            connection.close()

    def _connect(self, origin: str, request: OutgoingRequest, deadline: float) -> socket.socket:
        parts = urlsplit(origin)
        host, port = parts.hostname or "", parts.port or _DEFAULT_PORTS[parts.scheme]
        opened = open_socket(host, port, deadline, public_only=request.public_only)
        if parts.scheme != "https":
            return opened
        try:
            opened.settimeout(seconds_left(deadline))
            return self._tls_context().wrap_socket(opened, server_hostname=host)
        except BaseException:
            opened.close()
            raise

    def _tls_context(self) -> ssl.SSLContext:
        if self._tls is None:
            # The import takes tens of milliseconds, and plain HTTP does not need it.
            import ssl  # noqa: PLC0415

            self._tls = ssl.create_default_context()
        return self._tls

    def _exchange(
        self, connection: socket.socket, origin: str, target: str, request: OutgoingRequest, deadline: float
    ) -> HttpAnswer:
        try:
            connection.settimeout(seconds_left(deadline))
            connection.sendall(_request_bytes(request, origin, target))
            answer = _read_answer(connection, deadline, request.max_bytes)
        except BaseException:
            connection.close()
            raise
        if answer.is_reusable:
            self._keep(origin, request, connection)
        else:
            connection.close()
        return answer

    def _keep(self, origin: str, request: OutgoingRequest, connection: socket.socket) -> None:
        with self._lock:
            kept = self._idle.setdefault((origin, request.public_only), [])
            if len(kept) < _KEPT_PER_ORIGIN:
                kept.append((self._clock(), connection))
                return
        connection.close()


def _read_answer(connection: socket.socket, deadline: float, max_bytes: int) -> HttpAnswer:
    """Read the whole answer before the deadline, which trickling bytes do not extend."""
    reader, answer = AnswerReader(max_bytes), None
    while answer is None:
        connection.settimeout(seconds_left(deadline))
        answer = reader.feed(connection.recv(_RECEIVE_BYTES))
    return answer


def _is_silent(connection: socket.socket) -> bool:
    """Return whether the connection is still open and has received nothing since the last answer."""
    waiting = select.poll()
    waiting.register(connection, select.POLLIN)
    return not waiting.poll(0)


def _request_bytes(request: OutgoingRequest, origin: str, target: str) -> bytes:
    """Return a request's bytes, to be sent in one piece: http.client would send head and body separately.

    Raises:
        ValueError: A line holds a line break.
    """
    headers = {
        "host": origin.partition("://")[2],
        "accept-encoding": "identity",
        **{name.lower(): value for name, value in request.headers.items()},
    }
    trace_id = TRACE_ID.get()
    if trace_id:
        headers["x-amzn-trace-id"] = trace_id
    if request.body is not None:
        headers["content-length"] = str(len(request.body))
    lines = [f"{request.method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    if any("\r" in line or "\n" in line for line in lines) or " " in target:
        raise ValueError("a request line or header holds a line break")
    return "\r\n".join((*lines, "", "")).encode("latin-1") + (request.body or b"")
