"""Gzip of JSON parts. The same text gives the same bytes with the same version of the library."""

from __future__ import annotations

import hashlib
from typing import IO

from isal import isal_zlib
from isal.igzip import BadGzipFile, IGzipFile
from isal.igzip_lib import IsalError

# Nine times as fast as zlib's level 6, with files as small.
_LEVEL = 1
# A gzip header without a time and a name.
_GZIP = 31
_BLOCK_BYTES = 1024 * 1024


class GzipStream:
    """Compresses one text that comes in pieces."""

    def __init__(self) -> None:
        self._compressor = isal_zlib.compressobj(_LEVEL, isal_zlib.DEFLATED, _GZIP)
        self._packed: list[bytes] = []

    def add(self, text: bytes | memoryview) -> None:
        """Add the next piece."""
        self._packed.append(self._compressor.compress(text))

    def finish(self) -> bytes:
        """Return the gzip file."""
        self._packed.append(self._compressor.flush())
        return b"".join(self._packed)


def text_digest(packed: IO[bytes], most: int) -> str | None:
    """Return the SHA-256 of a gzip file's text, which does not depend on the compressor.

    Args:
        packed: The gzip file.
        most: The maximum bytes of text.

    Returns:
        Lower-case hexadecimal digits; None if the file is not gzip or its text is longer.
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
