"""Rows in all forms that a batch has of them: lines of JSON, checksums, verdicts, and columns for Delta."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a row will be quarantined.

    Attributes:
        reason: One of `row_contract.REASONS`.
        fault: What is wrong, in words that quote no value.
    """

    reason: str
    fault: str


@dataclass(frozen=True, slots=True, eq=False)
class EncodedRows:
    """Consecutive rows of a batch, each in the same place of every form.

    Attributes:
        lines: Binary, or large binary; each line of JSON with its line ending. Together they are the text of
            a JSON part.
        checksums: Signed 64-bit; the row's, or the line's if no store can hold it.
        refusals: By the row's number, from 0.
        columns: The schema's columns, in its order, as Delta holds them: of `json` the canonical text, of a
            refused row what `delta_values` returns. Batch and checksum are not among them.
    """

    lines: pa.Array
    checksums: np.ndarray
    refusals: dict[int, Refusal]
    columns: pa.RecordBatch

    def __len__(self) -> int:
        return len(self.checksums)
