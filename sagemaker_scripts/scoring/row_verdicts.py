"""Finds the rows of a chunk that the load will refuse: invalid rows, and all rows that share a key."""

# PyArrow creates its compute functions when it is imported, where no type checker sees them.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prediction_batches.rows.encoded_rows import EncodedRows, Refusal
from prediction_contract.errors import InvalidRowError
from prediction_contract.rows.row_contract import Row

# This many rows fit into the 1024 characters of a job's message.
_NAMED_ROWS = 5
_SHARED_KEY = Refusal("duplicate_key", "another row has the same key")

# Cleans and checks a line like the load; raises InvalidRowError.
ParseRow = Callable[[bytes], Row]


class RefusedRows:
    """Counts the rows that the load will refuse; `str` gives the counts by reason and the first rows."""

    def __init__(self) -> None:
        self._reasons: Counter[str] = Counter()
        self._first: list[str] = []

    def add(self, rows: EncodedRows, first_row: int) -> None:
        """Count the refused rows among these rows.

        Args:
            rows: The rows.
            first_row: The number of the batch's rows before them.
        """
        for number, refusal in sorted(rows.refusals.items()):
            self._reasons[refusal.reason] += 1
            if len(self._first) < _NAMED_ROWS:
                self._first.append(f"row {first_row + number + 1}: {refusal.fault}")

    @property
    def count(self) -> int:
        """The number of refused rows."""
        return self._reasons.total()

    def __str__(self) -> str:
        counted = ", ".join(f"{count} {reason}" for reason, count in self._reasons.items())
        return "; ".join([counted, *self._first])


def judge_rows(pieces: Sequence[EncodedRows], key: str, parse_row: ParseRow | None) -> list[EncodedRows]:
    """Return the rows with all their refusals by the load, also because of shared keys.

    Args:
        pieces: All rows that may share a key.
        key: The schema's key.
        parse_row: Cleans and checks a line like the load; None if nothing is cleaned.
    """
    refusals: list[dict[int, Refusal]] = []
    keys: list[pa.Array] = []
    for piece in pieces:
        found, taken = _verdicts(piece, key, parse_row)
        refusals.append(found)
        keys.append(taken)
    shared = _shared(pa.chunked_array(keys, pa.string()))
    for found, taken in zip(refusals, keys, strict=True):
        if len(shared):
            duplicates = np.flatnonzero(pc.is_in(taken, value_set=shared).to_numpy(zero_copy_only=False))
            found.update(dict.fromkeys(duplicates.tolist(), _SHARED_KEY))
    return [replace(piece, refusals=found) for piece, found in zip(pieces, refusals, strict=True)]


def _verdicts(
    piece: EncodedRows, key: str, parse_row: ParseRow | None
) -> tuple[dict[int, Refusal], pa.Array]:
    """Return the rows refused without regard to other rows, and the stored keys, null for refused rows."""
    if parse_row is None:
        keys = piece.columns.column(key)
        if piece.refusals:
            taken = np.ones(len(piece), bool)
            taken[list(piece.refusals)] = False
            keys = pc.if_else(pa.array(taken), keys, pa.scalar(None, keys.type))
        return dict(piece.refusals), keys
    found: dict[int, Refusal] = {}
    texts: list[str | None] = []
    for number, line in enumerate(piece.lines.to_pylist()):
        try:
            texts.append(parse_row(line.rstrip(b"\n")).key)
        except InvalidRowError as error:
            found[number] = Refusal(error.reason, error.what)
            texts.append(None)
    return found, pa.array(texts, pa.string())


def _shared(keys: pa.ChunkedArray) -> pa.Array:
    """Return the keys of more than one row."""
    given = keys.drop_null()
    if len(given.unique()) == len(given):
        return pa.array([], pa.string())
    counts = given.value_counts()
    return counts.filter(pc.greater(counts.field("counts"), 1)).field("values")
