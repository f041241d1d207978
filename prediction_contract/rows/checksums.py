"""Checksums of rows and batches, which prove that the same rows arrived."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_CHECKSUM_SPAN = 1 << 64


@dataclass(frozen=True, slots=True, kw_only=True)
class RowTally:
    """A number of rows and the sum of their checksums. Sums are compared modulo 2^64."""

    rows: int
    checksum: int

    def plus(self, other: RowTally) -> RowTally:
        """Return the sum of both tallies."""
        return RowTally(rows=self.rows + other.rows, checksum=self.checksum + other.checksum)

    @property
    def checksum_text(self) -> str:
        """The checksum in the form of `batch_checksum`."""
        return batch_checksum((self.checksum,))


def row_checksum(canonical: bytes) -> int:
    """Return the signed 64-bit checksum of a row's canonical JSON."""
    return int.from_bytes(hashlib.blake2b(canonical, digest_size=8).digest(), "big", signed=True)


def refused_checksum(line: bytes) -> int:
    """Return the checksum of a line that no store can hold, over its bytes without the line ending.

    Producer and loader use it for refused lines, so that a batch's checksum always adds up.
    """
    return row_checksum(line.rstrip(b"\r\n"))


def batch_checksum(row_checksums: Iterable[int]) -> str:
    """Return the sum of row checksums modulo 2^64, as unsigned decimal text.

    The order of the rows does not matter, and the sums of parts can be added. The result is text because some
    JSON readers round integers above 2^53.
    """
    return str(sum(row_checksums) % _CHECKSUM_SPAN)


def parse_batch_checksum(text: str) -> int:
    """Return a batch's checksum as an integer from 0 to 2^64 - 1.

    Raises:
        ValueError: The text does not have the form of `batch_checksum`.
    """
    if text.isascii() and text.isdigit() and len(text) <= len(str(_CHECKSUM_SPAN)):
        value = int(text)
        if value < _CHECKSUM_SPAN and str(value) == text:
            return value
    raise ValueError(f"{text[:40]!r} is not a batch checksum. It is an integer below 2^64, as decimal text.")
