"""The shares of a batch: pieces of work that do not depend on the number of processes and hosts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

# With fewer shares, processes would be without work at the end. With more, files would be small.
_WANTED_SHARES = 32
# The maximum chunks of a share; it limits the work repeated after a crash and the size of a data file.
_MOST_CHUNKS = 10


class Span(NamedTuple):
    """Consecutive row groups of one file of features.

    Attributes:
        file: The file's position among the files of features, from 0.
        first_group: The first row group, from 0.
        groups: The number of row groups.
    """

    file: int
    first_group: int
    groups: int


class Share(NamedTuple):
    """One piece of the work.

    Attributes:
        name: The share's name in keys and messages.
        rows: The number of rows of features; None for a share of buckets, which are not filled yet.
        first_row: The number of rows of features before this share.
        spans: The row groups with its rows; empty for a share of buckets.
        buckets: The numbers of its buckets; empty for a share of row groups.
    """

    name: str
    rows: int | None = None
    first_row: int = 0
    spans: tuple[Span, ...] = ()
    buckets: tuple[int, ...] = ()

    def __str__(self) -> str:
        return f"share {self.name}"

    def rows_of_chunk(self, chunk_rows: int) -> int:
        """Return the number of rows per chunk, at most `chunk_rows`, that gives chunks of similar size."""
        rows = self.rows or 1
        chunks = -(-rows // chunk_rows)
        return -(-rows // chunks)

    @classmethod
    def of_document(cls, document: Any) -> Self:
        """Return a share from its JSON form."""
        return cls(
            str(document["name"]),
            document["rows"],
            int(document["first_row"]),
            tuple(Span(*map(int, span)) for span in document["spans"]),
            tuple(map(int, document["buckets"])),
        )


def shares_of_groups(files: Sequence[Sequence[int]], chunk_rows: int) -> tuple[Share, ...]:
    """Return shares of consecutive row groups, each with enough rows for full chunks.

    There is at least one share; it may have no rows.

    Args:
        files: The rows of each row group of each file.
        chunk_rows: The maximum number of rows that `predict` receives at once.
    """
    wanted = chunk_rows * _chunks_of_share(sum(map(sum, files)), chunk_rows)
    shares: list[Share] = []
    spans: list[Span] = []
    rows = first_row = 0

    def end_share() -> None:
        nonlocal rows, first_row
        shares.append(Share(_name(len(shares)), rows, first_row, tuple(spans)))
        spans.clear()
        first_row += rows
        rows = 0

    for file, groups in enumerate(files):
        for group, group_rows in enumerate(groups):
            if spans and spans[-1].file == file:
                spans[-1] = spans[-1]._replace(groups=spans[-1].groups + 1)
            else:
                spans.append(Span(file, group, 1))
            rows += group_rows
            if rows >= wanted:
                end_share()
    if rows or not shares:
        end_share()
    return tuple(shares)


def shares_of_buckets(buckets: int) -> tuple[Share, ...]:
    """Return shares of consecutive buckets; each bucket is one chunk."""
    each = _chunks_of_share(buckets, 1)
    return tuple(
        Share(_name(number), buckets=tuple(range(first, min(first + each, buckets))))
        for number, first in enumerate(range(0, buckets, each))
    )


def _chunks_of_share(rows: int, chunk_rows: int) -> int:
    return min(max(rows // (chunk_rows * _WANTED_SHARES), 1), _MOST_CHUNKS)


def _name(number: int) -> str:
    return f"{number:05d}"
