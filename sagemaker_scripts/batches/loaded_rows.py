"""Simulates a load of predictions: the accepted rows, and why the others are refused."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa

from prediction_batches.rows.column_encoder import ColumnEncoder
from prediction_batches.rows.given_rows import given_rows
from prediction_contract.cleaning.cleaning_rules import Cleaning
from prediction_contract.cleaning.row_cleaning import row_parser
from prediction_contract.errors import InvalidRowError
from prediction_contract.rows.row_contract import Row
from prediction_contract.rows.schema import PredictionSchema


class RefusedPrediction(NamedTuple):
    """A row that the load would quarantine.

    Attributes:
        row: The row's number, from 1.
        reason: One of `row_contract.REASONS`.
        column: The column at fault, if there is one.
        what: The fault in words that quote no value.
    """

    row: int
    reason: str
    column: str | None
    what: str


@dataclass(frozen=True, slots=True)
class LoadedRows:
    """The result of a simulated load.

    Attributes:
        accepted: The accepted rows, each as a line of JSON and as the row that the stores hold.
        refused: The other rows, in order: those that do not fit the schema, and all that share a key.
        keys: The keys of all rows, as `predict` returned them.
    """

    accepted: list[tuple[bytes, Row]]
    refused: list[RefusedPrediction]
    keys: pa.ChunkedArray

    def __len__(self) -> int:
        return len(self.accepted) + len(self.refused)

    def reasons(self) -> Counter[str]:
        """Return how many rows are refused for each reason."""
        return Counter(each.reason for each in self.refused)


def loaded_rows(schema: PredictionSchema, cleaning: Cleaning, predictions: Any) -> LoadedRows:
    """Simulate a load of predictions, and return its result; memory holds all rows.

    Args:
        schema: The model's schema.
        cleaning: The load's cleaning rules.
        predictions: The predictions in a form that `given_rows` accepts.

    Raises:
        PredictionsError: The columns are not the schema's, a value's type has no JSON form, or a `long` may
            have lost digits.
    """
    parse = row_parser(schema, cleaning)
    parsed: list[tuple[bytes, Row | InvalidRowError]] = []
    found_keys: list[pa.Array] = []
    for piece in ColumnEncoder(schema).pieces(given_rows(schema, predictions)):
        found_keys.append(piece.columns.column(schema.key))
        for ended in piece.lines.to_pylist():
            line = ended.removesuffix(b"\n")
            try:
                parsed.append((line, parse(line)))
            except InvalidRowError as error:
                parsed.append((line, error))
    keys = Counter(row.key for _, row in parsed if isinstance(row, Row))
    found = LoadedRows([], [], pa.chunked_array(found_keys, pa.string()))
    for number, (line, row) in enumerate(parsed, start=1):
        if isinstance(row, InvalidRowError):
            found.refused.append(RefusedPrediction(number, row.reason, row.column, row.what))
        elif keys[row.key] > 1:
            found.refused.append(
                RefusedPrediction(number, "duplicate_key", schema.key, "Another row has the same key")
            )
        else:
            found.accepted.append((line, row))
    return found
