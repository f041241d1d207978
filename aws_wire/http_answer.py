"""Reads HTTP/1.1 responses from bytes as they arrive, without I/O of its own.

http.client needs a blocking socket, takes longer than the rest of a request, and imports the email package.
"""

from __future__ import annotations

import re
from binascii import crc32
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

_LONGEST_HEAD = 65_536
_LONGEST_LINE = 1_024
# Possessive quantifiers, so that an invalid head is refused quickly.
_HEAD = re.compile(
    rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: [^\r\n]*+)?+"
    rb"(?:\r\n[!#$%&'*+.^_`|~0-9A-Za-z-]++:[^\r\n]*+)*+"
)
# The headers for the end of the body, its checksum, and the reuse of the connection.
_HEADERS = re.compile(rb"\r\n(content-length|transfer-encoding|connection|x-amz-crc32):[ \t]*([^\r\n]*)")
_LENGTH = re.compile(rb"[0-9]{1,15}")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,12})[ \t]*(?:;.*)?")
_FIRST_FINAL = 200
_WITHOUT_BODY = frozenset({204, 304})
_MAX_INTERIM = 8


class BrokenAnswerError(ValueError):
    """The response is cut off, too long, altered, or not HTTP.

    It is unknown whether the request was carried out.
    """


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """A complete response with any final status, redirects included.

    Attributes:
        status: The HTTP status, 200 or higher.
        body: The body.
        is_reusable: Whether the connection may carry another request.
    """

    status: int
    body: bytes
    is_reusable: bool


class AnswerReader:
    """Reads one response from a connection.

    Args:
        max_bytes: The maximum size of the body.
        needs_length: Whether to refuse a response without a length. Such a response ends when the connection
            closes, and may be cut off.
    """

    def __init__(self, max_bytes: int, *, needs_length: bool = False) -> None:
        self._max_bytes = max_bytes
        self._needs_length = needs_length
        self._held = bytearray()
        self._steps = self._read()
        next(self._steps)

    def feed(self, data: bytes) -> HttpAnswer | None:
        """Add received bytes, and return the response once it is complete. After that, do not call it again.

        Args:
            data: The bytes; empty if the peer has closed the connection.

        Raises:
            BrokenAnswerError: The bytes are not a valid response.
            ConnectionResetError: The peer closed the connection before the first byte.
        """
        self._held += data
        try:
            self._steps.send(bool(data))
        except StopIteration as end:
            return end.value
        return None

    # Each step below yields to wait for bytes, and receives False if the connection was closed.

    def _read(self) -> Generator[None, bool, HttpAnswer]:
        if not (yield):
            raise ConnectionResetError("closed before an answer")
        for _ in range(_MAX_INTERIM):
            version, status, headers = _head((yield from self._read_until(b"\r\n\r\n", _LONGEST_HEAD)))
            if status >= _FIRST_FINAL:
                break
        else:
            raise BrokenAnswerError("no final answer")
        body, is_delimited = yield from self._body(status, headers)
        checksum = headers.get(b"x-amz-crc32")
        if checksum is not None and checksum != b"%d" % crc32(body):
            raise BrokenAnswerError("the answer was altered on its way")
        # Extra bytes after an answer would be read as the next answer.
        keeps_open = is_delimited and version == b"1" and not self._held
        return HttpAnswer(status, body, keeps_open and b"close" not in headers.get(b"connection", b""))

    def _body(self, status: int, headers: Mapping[bytes, bytes]) -> Generator[None, bool, tuple[bytes, bool]]:
        """Return the body, and whether it ended before the connection did."""
        if status in _WITHOUT_BODY:
            return b"", True
        coding, length = headers.get(b"transfer-encoding"), headers.get(b"content-length")
        if coding is not None:
            if coding != b"chunked" or length is not None:
                raise BrokenAnswerError("the end of the answer is not clear")
            return (yield from self._chunks()), True
        if length is None:
            if self._needs_length:
                raise BrokenAnswerError("the answer has no length")
            return (yield from self._read_to_end()), False
        if not _LENGTH.fullmatch(length):
            raise BrokenAnswerError("the end of the answer is not clear")
        if int(length) > self._max_bytes:
            raise _too_long()
        return (yield from self._read_exactly(int(length))), True

    def _chunks(self) -> Generator[None, bool, bytes]:
        body = bytearray()
        while True:
            size = _CHUNK_SIZE.fullmatch((yield from self._read_until(b"\r\n", _LONGEST_LINE)))
            if not size:
                raise BrokenAnswerError("a chunk is broken")
            count = int(size[1], 16)
            if count == 0:
                break
            if len(body) + count > self._max_bytes:
                raise _too_long()
            body += yield from self._read_exactly(count)
            if (yield from self._read_exactly(2)) != b"\r\n":
                raise BrokenAnswerError("a chunk is broken")
        # Trailers are not needed.
        while (yield from self._read_until(b"\r\n", _LONGEST_LINE)):
            pass
        return bytes(body)

    def _read_until(self, end: bytes, most: int) -> Generator[None, bool, bytes]:
        """Return the bytes before `end`, and drop `end`."""
        looked = 0
        while (found := self._held.find(end, looked)) < 0:
            looked = max(0, len(self._held) - len(end) + 1)
            if len(self._held) > most:
                raise _too_long()
            if not (yield):
                raise _cut_off()
        if found > most:
            raise _too_long()
        return self._taken(found, found + len(end))

    def _read_exactly(self, count: int) -> Generator[None, bool, bytes]:
        """Return `count` bytes."""
        while len(self._held) < count:
            if not (yield):
                raise _cut_off()
        return self._taken(count, count)

    def _read_to_end(self) -> Generator[None, bool, bytes]:
        """Return all bytes until the peer closes the connection."""
        while len(self._held) <= self._max_bytes and (yield):
            pass
        if len(self._held) > self._max_bytes:
            raise _too_long()
        return self._taken(len(self._held), len(self._held))

    def _taken(self, count: int, dropped: int) -> bytes:
        taken = bytes(self._held[:count])
        del self._held[:dropped]
        return taken


def _head(content: bytes) -> tuple[bytes, int, Mapping[bytes, bytes]]:
    """Return the minor version, the status, and the relevant headers in lower case."""
    begun = _HEAD.fullmatch(content)
    if not begun:
        raise BrokenAnswerError("not the head of an HTTP/1.1 answer")
    headers: dict[bytes, bytes] = {}
    for name, value in _HEADERS.findall(content.lower()):
        stripped = value.rstrip(b" \t")
        # A repeated header becomes a list, which is invalid for headers with a single value.
        headers[name] = b"%b,%b" % (headers[name], stripped) if name in headers else stripped
    return begun[1], int(begun[2]), headers


def _too_long() -> BrokenAnswerError:
    return BrokenAnswerError("the answer is too long")


def _cut_off() -> BrokenAnswerError:
    return BrokenAnswerError("the answer was cut off")
