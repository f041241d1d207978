"""HTTP answers off a socket: status, length, body, and whether another may follow.

http.client does the same; it costs more than the rest of a request, and imports the email package first.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from api_lambda.http.addresses import seconds_left

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping

_PIECE = 65_536
_LONGEST_HEAD = 65_536
_LONGEST_LINE = 1_024
_STATUS_LINE = re.compile(r"HTTP/1\.([01]) ([1-5][0-9]{2})(?: .*)?")
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_LENGTH = re.compile("[0-9]{1,15}")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,12})[ \t]*(?:;.*)?")
_FIRST_FINAL = 200
_WITHOUT_BODY = frozenset({204, 304})
_MAX_INTERIM = 8


class BrokenAnswerError(ValueError):
    """What came is not one whole answer: cut off, too long, or not HTTP."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer, whatever its status; a redirect is one too."""

    status: int
    body: bytes


class _Incoming:
    """Bytes as they come, until a deadline: a byte a second is too slow, in the head as in the body."""

    def __init__(self, peer: socket.socket, deadline: float) -> None:
        self._peer = peer
        self._deadline = deadline
        self.held = bytearray()

    def receive(self) -> bool:
        """Wait for more; tell whether there is any."""
        self._peer.settimeout(seconds_left(self._deadline))
        piece = self._peer.recv(_PIECE)
        self.held += piece
        return bool(piece)

    def through(self, end: bytes, most: int) -> bytes:
        """Return what comes before `end`, and drop that."""
        looked = 0
        while (found := self.held.find(end, looked)) < 0:
            looked = max(0, len(self.held) - len(end) + 1)
            if len(self.held) > most:
                raise _too_long()
            if not self.receive():
                raise _cut_off()
        if found > most:
            raise _too_long()
        return self._taken(found + len(end))[:found]

    def exactly(self, count: int) -> bytes:
        """Return so many bytes."""
        while len(self.held) < count:
            if not self.receive():
                raise _cut_off()
        return self._taken(count)

    def to_the_end(self, most: int) -> bytes:
        """Return all that comes until the peer closes."""
        while len(self.held) <= most and self.receive():
            pass
        if len(self.held) > most:
            raise _too_long()
        return self._taken(len(self.held))

    def _taken(self, count: int) -> bytes:
        taken = bytes(self.held[:count])
        del self.held[:count]
        return taken


def _too_long() -> BrokenAnswerError:
    return BrokenAnswerError("the answer is too long")


def _cut_off() -> BrokenAnswerError:
    return BrokenAnswerError("the answer was cut off")


def read_answer(peer: socket.socket, deadline: float, most_bytes: int) -> tuple[Answer, bool]:
    """Return an answer, and whether the connection may be used again.

    Args:
        peer: The connection, the request sent.
        deadline: By `time.monotonic`.
        most_bytes: Of the body.

    Raises:
        BrokenAnswerError: It is none.
        ConnectionResetError: The peer closed before the first byte.
        OSError: The connection failed, or the deadline passed.
    """
    incoming = _Incoming(peer, deadline)
    if not incoming.receive():
        raise ConnectionResetError("closed before an answer")
    for _ in range(_MAX_INTERIM):
        version, status, headers = _head(incoming.through(b"\r\n\r\n", _LONGEST_HEAD))
        if status >= _FIRST_FINAL:
            break
    else:
        raise BrokenAnswerError("no final answer")
    body, delimited = _body(incoming, status, headers, most_bytes)
    # What comes after an answer that nobody asked for would be taken for the next one.
    again = delimited and version == "1" and not incoming.held
    return Answer(status, body), again and "close" not in headers.get("connection", "").lower()


def _head(content: bytes) -> tuple[str, int, Mapping[str, str]]:
    first, *lines = content.decode("latin-1").split("\r\n")
    begun = _STATUS_LINE.fullmatch(first)
    if not begun:
        raise BrokenAnswerError("no HTTP/1.1")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not _NAME.fullmatch(name):
            raise BrokenAnswerError("a header line is broken")
        lowered, value = name.lower(), value.strip(" \t")
        # Two of a kind are a list; where there may be no list it is refused as such.
        headers[lowered] = f"{headers[lowered]},{value}" if lowered in headers else value
    return begun[1], int(begun[2]), headers


def _body(
    incoming: _Incoming, status: int, headers: Mapping[str, str], most_bytes: int
) -> tuple[bytes, bool]:
    """Return the body, and whether its end was told other than by closing."""
    if status in _WITHOUT_BODY:
        return b"", True
    coding, length = headers.get("transfer-encoding"), headers.get("content-length")
    if coding is not None:
        if coding.lower() != "chunked" or length is not None:
            raise BrokenAnswerError("where the answer ends is not clear")
        return _chunks(incoming, most_bytes), True
    if length is None:
        return incoming.to_the_end(most_bytes), False
    if not _LENGTH.fullmatch(length):
        raise BrokenAnswerError("where the answer ends is not clear")
    if int(length) > most_bytes:
        raise _too_long()
    return incoming.exactly(int(length)), True


def _chunks(incoming: _Incoming, most_bytes: int) -> bytes:
    body = bytearray()
    while True:
        size = _CHUNK_SIZE.fullmatch(incoming.through(b"\r\n", _LONGEST_LINE))
        if not size:
            raise BrokenAnswerError("a chunk is broken")
        count = int(size[1], 16)
        if count == 0:
            break
        if len(body) + count > most_bytes:
            raise _too_long()
        body += incoming.exactly(count)
        if incoming.exactly(2) != b"\r\n":
            raise BrokenAnswerError("a chunk is broken")
    # Trailers tell nothing that we asked for.
    while incoming.through(b"\r\n", _LONGEST_LINE):
        pass
    return bytes(body)
