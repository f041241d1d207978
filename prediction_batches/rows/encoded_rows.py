"""Rows in all forms that a batch stores: lines of JSON, checksums, refusals, and columns for Delta."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Refusal:
    """The refusal of a row, which will be quarantined.

    Attributes:
        reason: One of `row_contract.REASONS`.
        fault: The fault in words that quote no value.
    """

    reason: str
    fault: str


@dataclass(frozen=True, slots=True, eq=False)
class EncodedRows:
    """Consecutive rows of a batch; each row has the same position in every form.

    Attributes:
        lines: An array of binary or large binary; each line of JSON includes its line ending. Together they
            are the text of a JSON part.
        checksums: The signed 64-bit checksum of each row, or of its line if no store can hold the row.
        refusals: The refused rows, by the row's number, from 0.
        columns: The schema's columns, in its order, with their values for Delta: for `json` the canonical
            text, for a refused row the result of `delta_values`. They do not include batch and checksum.
    """

    lines: pa.Array
    checksums: np.ndarray
    refusals: dict[int, Refusal]
    columns: pa.RecordBatch

    def __len__(self) -> int:
        return len(self.checksums)
