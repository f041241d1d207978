"""Files of text, read forwards up to the bytes that one may have unpacked."""

from __future__ import annotations

import io
from typing import Any

from sagemaker_scripts.sources.source_objects import SourceError, SourceObject

# Few bytes unpack to any number.
LARGEST_TEXT_FILE = 8 * 1024 * 1024 * 1024


class BoundedFile(io.RawIOBase):
    """A file that is read forwards, up to the largest that a file of text may be.

    Args:
        opened: The file, unpacked.
        found: The object that it is.
        source: The source's name.

    Attributes:
        beginning: What came first.
    """

    def __init__(self, opened: Any, found: SourceObject, source: str) -> None:
        super().__init__()
        self._opened = opened
        self._found = found
        self._source = source
        self._left = LARGEST_TEXT_FILE
        self.beginning = b""

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes.

        Raises:
            SourceError: The file has more than it may have.
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
