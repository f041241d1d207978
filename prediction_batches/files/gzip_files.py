"""Gzip of JSON parts: the same text gives the same bytes while the library stays the same."""

from __future__ import annotations

import hashlib
from typing import IO

from isal import isal_zlib
from isal.igzip import BadGzipFile, IGzipFile
from isal.igzip_lib import IsalError

# Nine times as fast as level 6 of zlib, and its files are as small.
_LEVEL = 1
# A gzip header without a time and a name.
_GZIP = 31
_BLOCK_BYTES = 1024 * 1024


class GzipStream:
    """Packs one text that comes in pieces."""

    def __init__(self) -> None:
        self._compressor = isal_zlib.compressobj(_LEVEL, isal_zlib.DEFLATED, _GZIP)
        self._packed: list[bytes] = []

    def add(self, text: bytes | memoryview) -> None:
        """Add the next piece."""
        self._packed.append(self._compressor.compress(text))

    def finish(self) -> bytes:
        """Return the whole file."""
        self._packed.append(self._compressor.flush())
        return b"".join(self._packed)


def text_digest(packed: IO[bytes], most: int) -> str | None:
    """Return the SHA-256 of the text that a gzip file holds, whatever packed it.

    Args:
        packed: The file.
        most: The most bytes of text that are unpacked.

    Returns:
        Lower-case hexadecimal digits; None if this is no such file or its text is longer.
    """
    digest, size = hashlib.sha256(), 0
    try:
        with IGzipFile(fileobj=packed, mode="rb") as file:
            while text := file.read(_BLOCK_BYTES):
                size += len(text)
                if size > most:
                    return None
                digest.update(text)
    except (BadGzipFile, EOFError, IsalError):  # type: ignore[misc]  # isal's stub has it as an instance
        return None
    return digest.hexdigest()
