"""Outgoing HTTP: kept-alive connections, a deadline and a size limit on every answer, no redirects."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection, RemoteDisconnected
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

_KEPT_PER_ORIGIN = 4
_CHUNK = 65_536
# What a peer does to a kept-alive connection that it closed while we were away.
_CLOSED_MEANWHILE = (RemoteDisconnected, BrokenPipeError, ConnectionResetError)


class HttpFaultError(Exception):
    """No complete answer came: unreachable, too slow, too long, or not HTTP."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A request that may be sent twice: all that the API sends are reads.

    Attributes:
        url: `http` or `https`.
        method: GET or POST.
        headers: Beside Host and Content-Length.
        body: For POST.
        most_bytes: A longer answer is a fault.
        public_only: Whether an address of a private network is a fault, by whatever name it is called.
    """

    url: str
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    most_bytes: int = 1_048_576
    public_only: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer, whatever its status; a redirect is one too."""

    status: int
    body: bytes


class HttpConnections:
    """A few connections per origin, shared by threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: dict[str, list[HTTPConnection]] = {}
        self._tls: ssl.SSLContext | None = None

    def send(self, request: Outgoing, seconds: float) -> Answer:
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
            while (kept := self._take(origin)) is not None:
                try:
                    return self._exchange(kept, origin, target, request, deadline)
                except _CLOSED_MEANWHILE:
                    continue
            return self._exchange(self._connect(origin, request, deadline), origin, target, request, deadline)
        except (OSError, HTTPException, ValueError) as error:
            raise HttpFaultError(f"{origin} gave no answer: {type(error).__name__}") from error

    def _take(self, origin: str) -> HTTPConnection | None:
        with self._lock:
            kept = self._idle.get(origin)
            return kept.pop() if kept else None

    def _connect(self, origin: str, request: Outgoing, deadline: float) -> HTTPConnection:
        parts = urlsplit(origin)
        host = parts.hostname or ""
        left = _left(deadline)
        if parts.scheme == "https":
            connection: HTTPConnection = HTTPSConnection(
                host, parts.port, timeout=left, context=self._tls_context()
            )
        else:
            connection = HTTPConnection(host, parts.port, timeout=left)
        try:
            connection.connect()
            if request.public_only:
                # Judged by the address that was reached: a name may mean another one at every look-up.
                _require_public(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _tls_context(self) -> ssl.SSLContext:
        if self._tls is None:
            # Costs tens of milliseconds, which a function that speaks plain HTTP need not pay.
            import ssl  # noqa: PLC0415

            self._tls = ssl.create_default_context()
        return self._tls

    def _exchange(
        self, connection: HTTPConnection, origin: str, target: str, request: Outgoing, deadline: float
    ) -> Answer:
        try:
            _set_timeout(connection, deadline)
            connection.request(request.method, target, body=request.body, headers=dict(request.headers))
            _set_timeout(connection, deadline)
            response = connection.getresponse()
            body = _read(response, connection, request.most_bytes, deadline)
            # Read to its end, and still open for http.client, which would refuse the next request.
            response.close()
        except BaseException:
            connection.close()
            raise
        if response.will_close:
            connection.close()
        else:
            self._keep(origin, connection)
        return Answer(response.status, body)

    def _keep(self, origin: str, connection: HTTPConnection) -> None:
        with self._lock:
            kept = self._idle.setdefault(origin, [])
            if len(kept) < _KEPT_PER_ORIGIN:
                kept.append(connection)
                return
        connection.close()


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _set_timeout(connection: HTTPConnection, deadline: float) -> None:
    if connection.sock is not None:
        connection.sock.settimeout(_left(deadline))


def _read(response: HTTPResponse, connection: HTTPConnection, most_bytes: int, deadline: float) -> bytes:
    """Return the whole body, watching the clock at every piece: one byte a second is too slow as well."""
    pieces: list[bytes] = []
    length = 0
    while piece := response.read1(_CHUNK):
        length += len(piece)
        if length > most_bytes:
            raise ValueError("the answer is too long")
        pieces.append(piece)
        _set_timeout(connection, deadline)
    if response.length:
        raise ValueError("the answer was cut off")
    return b"".join(pieces)


def _require_public(connection: HTTPConnection) -> None:
    import ipaddress  # noqa: PLC0415 -- only calls to third parties need it

    address = ipaddress.ip_address(connection.sock.getpeername()[0].partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    if not (mapped or address).is_global:
        raise ValueError("the address is private")
