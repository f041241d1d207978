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

# X-Ray's header of the current request, passed on with every request that it causes.
TRACE_ID: ContextVar[str] = ContextVar("TRACE_ID", default="")

_KEPT_PER_ORIGIN = 4
# Gateways drop idle connections without notice (AWS's own after 350 seconds), and a request over such a one
# would wait for its deadline.
_IDLE_SECONDS = 60
_RECEIVE_BYTES = 65_536
_DEFAULT_PORTS = {"http": 80, "https": 443}


class HttpFaultError(Exception):
    """No complete answer came: unreachable, too slow, too long, or not HTTP."""


@dataclass(frozen=True, slots=True)
class OutgoingRequest:
    """A request that may be sent twice: all that the API sends are reads.

    Attributes:
        url: `http` or `https`.
        method: GET or POST.
        headers: Beside Host and Content-Length.
        body: For POST.
        max_bytes: A longer answer is a fault.
        public_only: Whether an address of a private network is a fault, by whatever name it is called.
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
        # By origin, and by whether the address was required to be public.
        self._idle: dict[tuple[str, bool], list[tuple[float, socket.socket]]] = {}
        self._tls: ssl.SSLContext | None = None
        self._clock = clock

    def send(self, request: OutgoingRequest, seconds: float) -> HttpAnswer:
        """Send a request and return the answer.

        Args:
            request: What to send.
            seconds: After how long to give up.

        Raises:
            HttpFaultError: No complete answer came in time.
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
                    # The peer closed it while we were away, each kind of connection in its own way.
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
            # Costs tens of milliseconds, which a function that speaks plain HTTP need not pay.
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
    """Return what comes until the deadline: a byte a second is too slow, in the head as in the body."""
    reader, answer = AnswerReader(max_bytes), None
    while answer is None:
        connection.settimeout(seconds_left(deadline))
        answer = reader.feed(connection.recv(_RECEIVE_BYTES))
    return answer


def _is_silent(connection: socket.socket) -> bool:
    """Return whether nothing came since the last answer: neither its end nor unasked bytes."""
    waiting = select.poll()
    waiting.register(connection, select.POLLIN)
    return not waiting.poll(0)


def _request_bytes(request: OutgoingRequest, origin: str, target: str) -> bytes:
    """Return a request's bytes, to be sent at once: http.client would send head and body apart.

    Raises:
        ValueError: A line would end early and begin another.
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
        raise ValueError("a line of the request is broken")
    return "\r\n".join((*lines, "", "")).encode("latin-1") + (request.body or b"")
