"""Reads text files forwards, up to a limit of unpacked bytes."""

from __future__ import annotations

import io
from typing import Any

from sagemaker_scripts.sources.source_objects import SourceError, SourceObject

# A small file may unpack to any size.
LARGEST_TEXT_FILE = 8 * 1024 * 1024 * 1024


class BoundedFile(io.RawIOBase):
    """A file that is read forwards, up to `LARGEST_TEXT_FILE` bytes.

    Args:
        opened: The file of unpacked bytes.
        found: The file's object.
        source: The source's name.

    Attributes:
        beginning: The first bytes of the file.
    """

    def __init__(self, opened: Any, found: SourceObject, source: str) -> None:
        super().__init__()
        self._opened = opened
        self._found = found
        self._source = source
        self._left = LARGEST_TEXT_FILE
        self.beginning = b""

    def readable(self) -> bool:
        """Return true: the file is readable."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes.

        Raises:
            SourceError: The file is larger than the limit.
        """
        content: bytes = self._opened.read(size)
        self._left -= len(content)
        if self._left < 0:
            raise SourceError(
                f"{self._found.address} of source {self._source} has more than {LARGEST_TEXT_FILE} bytes "
                "unpacked",
                remedy="Deliver it as several files, or as Parquet",
            )
        self.beginning = self.beginning or content
        return content
