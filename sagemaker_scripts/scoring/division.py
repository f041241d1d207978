"""Pieces of tables, whose rows several processes divide into buckets by key."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from sagemaker_scripts.batches.previous_rows import PreviousFile
from sagemaker_scripts.features.feature_files import FeatureFile

# The rows of a piece. Pieces are small, so that all processes have work until nearly the end.
_PIECE_ROWS = 500_000


class Piece(NamedTuple):
    """Consecutive rows of features or outcomes.

    Attributes:
        table: The name of the table.
        file: The file's position among those of the table, from 0.
        first_group: The first row group, from 0.
        groups: The number of row groups.
        first_row: The number of the first row in the table, from 0.
        rows: The number of rows.
    """

    table: Literal["features", "outcomes"]
    file: int
    first_group: int
    groups: int
    first_row: int
    rows: int

    def __str__(self) -> str:
        return f"row group {self.first_group} of file {self.file} of the {self.table}"


class PreviousPiece(NamedTuple):
    """A file of the previous batch."""

    file: PreviousFile

    def __str__(self) -> str:
        return f"{self.file} of the previous batch"


def pieces_of_files(table: Literal["features", "outcomes"], files: Sequence[FeatureFile]) -> Iterator[Piece]:
    """Yield the pieces of a table of features or outcomes."""
    first_row = 0
    for number, file in enumerate(files):
        first = rows = 0
        for group, group_rows in enumerate(file.row_groups):
            rows += group_rows
            if rows >= _PIECE_ROWS or group == len(file.row_groups) - 1:
                yield Piece(table, number, first, group + 1 - first, first_row, rows)
                first, first_row, rows = group + 1, first_row + rows, 0
