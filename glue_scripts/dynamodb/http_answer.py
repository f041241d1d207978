"""One HTTP answer, read from a connection as its bytes arrive."""

from __future__ import annotations

import zlib

_LONGEST_HEAD = 64 * 1024
_LONGEST_BODY = 64 * 1024 * 1024


class BrokenAnswerError(Exception):
    """What arrived is no whole HTTP answer; whether the request was carried out is not known."""


class HttpAnswer:
    """An answer on its way.

    Attributes:
        status: The HTTP status, once `is_whole`.
        body: The body, once `is_whole`.
        is_whole: Whether all of it has arrived.
        is_last: Whether the server closes the connection after it.
    """

    def __init__(self) -> None:
        self.status = 0
        self.body = b""
        self.is_whole = False
        self.is_last = False
        self._received = b""
        self._headers: dict[bytes, bytes] | None = None

    def feed(self, data: bytes) -> None:
        """Take in what has arrived.

        Raises:
            BrokenAnswerError: It is no HTTP answer, or not the body that DynamoDB summed up.
        """
        self._received += data
        if self._headers is None and not self._read_head():
            return
        assert self._headers is not None  # noqa: S101  # for type checkers
        if b"content-length" in self._headers:
            self._read_sized(self._headers[b"content-length"])
        elif self._headers.get(b"transfer-encoding", b"").lower() == b"chunked":
            self._read_chunks()
        else:
            raise BrokenAnswerError("an answer without a length")

    def _read_head(self) -> bool:
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            if len(self._received) > _LONGEST_HEAD:
                raise BrokenAnswerError("an answer with a head without end")
            return False
        line, _, rest = self._received[:end].partition(b"\r\n")
        parts = line.split(b" ", 2)
        if not parts[0].startswith(b"HTTP/1.") or len(parts) < 2 or not parts[1].isdigit():  # noqa: PLR2004
            raise BrokenAnswerError("no HTTP answer")
        self.status = int(parts[1])
        members = (header.partition(b":") for header in rest.split(b"\r\n"))
        self._headers = {name.strip().lower(): value.strip() for name, _, value in members}
        connection = self._headers.get(b"connection", b"").lower()
        self.is_last = connection == b"close" or (parts[0] == b"HTTP/1.0" and connection != b"keep-alive")
        self._received = self._received[end + 4 :]
        return True

    def _read_sized(self, length: bytes) -> None:
        if not length.isdigit() or int(length) > _LONGEST_BODY:
            raise BrokenAnswerError("an answer of no sensible length")
        if len(self._received) >= int(length):
            self._end(self._received[: int(length)])

    def _read_chunks(self) -> None:
        body, at = [], 0
        while (end := self._received.find(b"\r\n", at)) >= 0:
            try:
                size = int(self._received[at:end].partition(b";")[0], 16)
            except ValueError as error:
                raise BrokenAnswerError("a chunk without a size") from error
            if not 0 <= size <= _LONGEST_BODY:
                raise BrokenAnswerError("a chunk of no sensible size")
            # Every chunk, the last one of no bytes too, is followed by a line's end.
            if len(self._received) < end + 2 + size + 2:
                return
            if size == 0:
                self._end(b"".join(body))
                return
            body.append(self._received[end + 2 : end + 2 + size])
            at = end + 2 + size + 2

    def _end(self, body: bytes) -> None:
        assert self._headers is not None  # noqa: S101  # for type checkers
        summed = self._headers.get(b"x-amz-crc32")
        if summed is not None and summed != str(zlib.crc32(body)).encode():
            raise BrokenAnswerError("an answer that was altered on its way")
        self.body = body
        self.is_whole = True
