"""Checksums of rows and batches: they prove that the same rows arrived."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_CHECKSUM_SPAN = 1 << 64


@dataclass(frozen=True, slots=True, kw_only=True)
class RowTally:
    """How many rows there are, and the sum of their row checksums (any integer; compared modulo 2^64)."""

    rows: int
    checksum: int

    def plus(self, other: RowTally) -> RowTally:
        """Return both together."""
        return RowTally(rows=self.rows + other.rows, checksum=self.checksum + other.checksum)

    @property
    def checksum_text(self) -> str:
        """The checksum as `batch_checksum` writes it."""
        return batch_checksum((self.checksum,))


def row_checksum(canonical: bytes) -> int:
    """Return the signed 64-bit checksum of a row's canonical JSON."""
    return int.from_bytes(hashlib.blake2b(canonical, digest_size=8).digest(), "big", signed=True)


def refused_checksum(line: bytes) -> int:
    """Return the checksum that stands for a line no store can hold: over its bytes, the line ending left out.

    Producer and loader count refused lines by it, so that a batch's checksum always adds up.
    """
    return row_checksum(line.rstrip(b"\r\n"))


def batch_checksum(row_checksums: Iterable[int]) -> str:
    """Return the checksum of a batch: the sum of its rows' checksums modulo 2^64, as unsigned decimal text.

    The order of the rows does not matter, and sums of parts may be summed again. It is text because JSON
    readers round integers beyond 2^53.
    """
    return str(sum(row_checksums) % _CHECKSUM_SPAN)


def parse_batch_checksum(text: str) -> int:
    """Return a batch's checksum as an integer from 0 to 2^64 - 1.

    Raises:
        ValueError: The text is not what `batch_checksum` writes.
    """
    if text.isascii() and text.isdigit() and len(text) <= len(str(_CHECKSUM_SPAN)):
        value = int(text)
        if value < _CHECKSUM_SPAN and str(value) == text:
            return value
    raise ValueError(f"{text[:40]!r} is not a batch checksum. It is an integer below 2^64, as decimal text.")
