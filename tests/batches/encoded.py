"""Python rows as schemas, DataFrames and encoded rows for tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from prediction_batches.rows.column_encoder import ColumnEncoder
from prediction_batches.rows.given_rows import given_rows
from tests.batches.rows import row_reference

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from prediction_batches.rows.encoded_rows import EncodedRows
    from prediction_contract.rows.schema import PredictionSchema


def schema_of(**types: str) -> PredictionSchema:
    """Return a schema with the key `entity_id` and nullable columns of the given types."""
    return row_reference.schema_of({"entity_id": "string", **types}, "entity_id")


def table_of(schema: PredictionSchema, rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Return rows as a DataFrame with unconverted values, and None for missing ones."""
    listed = list(rows)
    return pd.DataFrame(
        {name: pd.Series([row.get(name) for row in listed], dtype=object) for name in schema.names}
    )


def encoded(schema: PredictionSchema, rows: Iterable[Mapping[str, Any]]) -> EncodedRows:
    """Return the rows encoded as a share writes them."""
    return ColumnEncoder(schema).encode(given_rows(schema, table_of(schema, rows)))
