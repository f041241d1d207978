"""DataFrames of a model's rows; each column's type depends only on the schema, never on the values.

| column type  | in a DataFrame         | no value |
|--------------|------------------------|----------|
| string       | str                    | NaN      |
| long         | Int64                  | NA       |
| decimal(p,s) | decimal128(p,s), Arrow | NA       |
| double       | Float64                | NA       |
| boolean      | boolean                | NA       |
| date         | date32, Arrow          | NA       |
| timestamp    | datetime64[us, UTC]    | NaT      |
| json         | Python values, object  | None     |

pandas' own types are used where they hold every value and null, because features have the same types and can
be combined with them. pandas has no types for decimals and dates, so these are Arrow's. A plain `float64` has
no null. A plain `int64` becomes `float64` once a value is missing, which rounds integers beyond 2^53.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from prediction_batches.arrow_types import arrow_type
from prediction_batches.object_store import ObjectStore
from prediction_contract.cleaning.cleaning_rules import Cleaning
from prediction_contract.cleaning.row_cleaning import values_as_written
from prediction_contract.errors import SchemaError
from prediction_contract.rows.column_values import file_decoder_for
from prediction_contract.rows.row_contract import Row
from prediction_contract.rows.schema import Column, Kind, PredictionSchema
from prediction_contract.text.canonical_json import InvalidJsonError, parse_as_written, parse_json

# For other types, the DataFrame has Arrow's types.
_PANDAS_TYPES = {
    Kind.STRING: pd.StringDtype(na_value=np.nan),
    Kind.LONG: pd.Int64Dtype(),
    Kind.DOUBLE: pd.Float64Dtype(),
    Kind.BOOLEAN: pd.BooleanDtype(),
    Kind.TIMESTAMP: pd.DatetimeTZDtype("us", "UTC"),
}


def read_columns(store: ObjectStore, key: str) -> tuple[PredictionSchema, Cleaning]:
    """Return the predictions' schema and the load's cleaning rules from a document on S3.

    Raises:
        InputMissingError: The document does not exist.
        SchemaError: The schema or its rules are invalid.
    """
    try:
        schema = PredictionSchema.from_document(parse_json(store.get(key)))
        rules = schema.extra.get("cleaning", "{}")
        # A manifest's schema does not contain these members.
        return replace(schema, extra={}), Cleaning.parse(str(rules))
    except InvalidJsonError as error:
        raise SchemaError(
            f"{key} is not JSON: {error.what}", remedy="Write the schema there again"
        ) from error


def schema_frame(schema: PredictionSchema, values: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return rows, each a mapping from column to value, as a DataFrame in the schema's column order."""
    return pd.DataFrame(
        {column.name: _series(column, [row[column.name] for row in values]) for column in schema.columns}
    )


def entity_frame(
    schema: PredictionSchema, cleaning: Cleaning, rows: Sequence[tuple[bytes, Row]]
) -> pd.DataFrame:
    """Return the rows that a load accepts, in the form of `schema_frame`, with the key as `entity_id`.

    Their values are those of `values_before_cleaning`. Rows that share a key are left out, because the load
    refuses them.

    Args:
        schema: The model's columns.
        cleaning: The load's cleaning rules.
        rows: Each line with the row that `row_parser` made from it.
    """
    keys = Counter(row.key for _, row in rows)
    values_of = values_before_cleaning(schema, cleaning)
    accepted = [values_of(line, row) for line, row in rows if keys[row.key] == 1]
    return schema_frame(schema, accepted).rename(columns={schema.key: "entity_id"})


def values_before_cleaning(
    schema: PredictionSchema, cleaning: Cleaning
) -> Callable[[bytes, Row], Mapping[str, Any]]:
    """Return a function that takes a line and its parsed row and returns the row's values for `predict`.

    The values are those that the model wrote; missing values have the default of the load.
    """
    if not cleaning:
        return lambda _, row: row.values
    defaults = [
        (column.source.name, column.stored.name)
        for column in cleaning.columns(schema)
        if column.default is not None and column.stored.type == column.source.type
    ]

    def values_of(line: bytes, row: Row) -> Mapping[str, Any]:
        values = values_as_written(schema, line)
        given = {source: row.values[stored] for source, stored in defaults if values[source] is None}
        return {**values, **given}

    return values_of


def frame_of_columns(schema: PredictionSchema, rows: pa.Table) -> pd.DataFrame:
    """Return rows in the form of `schema_frame`, with the key as `entity_id`.

    Args:
        schema: The model's columns.
        rows: The rows in Arrow's types, with `json` as canonical text and the key as `entity_id`.
    """
    names = ["entity_id" if column.name == schema.key else column.name for column in schema.columns]
    series = {}
    for name, column in zip(names, schema.columns, strict=True):
        if column.type.kind is Kind.JSON:
            decode = file_decoder_for(column)
            series[name] = _series(
                column,
                [
                    None if text is None else decode(parse_as_written(text.encode()))[0]
                    for text in rows[name].to_pylist()
                ],
            )
        else:
            series[name] = _of_arrow(rows[name], column)
    return pd.DataFrame(series)


def _series(column: Column, values: list[Any]) -> pd.Series:
    if column.type.kind is Kind.JSON:
        return pd.Series(values, dtype=object)
    return _of_arrow(pa.array(values, type=arrow_type(column.type)), column)


def _of_arrow(values: pa.Array | pa.ChunkedArray, column: Column) -> pd.Series:
    dtype = _PANDAS_TYPES.get(column.type.kind) or pd.ArrowDtype(values.type)
    return pd.Series(dtype.__from_arrow__(values))
