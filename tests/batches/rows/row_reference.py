"""The reference for encoded rows: each row written and judged on its own, by the contract."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pandas as pd
import pyarrow as pa

from prediction_batches.rows.column_encoder import ColumnEncoder
from prediction_batches.rows.encoded_rows import EncodedRows
from prediction_batches.rows.given_rows import given_rows, plain_column, python_values
from prediction_contract.cleaning.row_cleaning import delta_values
from prediction_contract.rows.prediction_line import PredictionLine, prediction_line
from prediction_contract.rows.row_contract import row_contract
from prediction_contract.rows.schema import Column, ColumnType, Kind, PredictionSchema
from prediction_contract.text.canonical_json import number_text


def schema_of(types: dict[str, str], key: str, *, required: frozenset[str] = frozenset()) -> PredictionSchema:
    """Return a schema with the given column types."""
    columns = [
        Column(name, ColumnType.parse(kind), nullable=name != key and name not in required)
        for name, kind in types.items()
    ]
    return PredictionSchema(tuple(columns), key)


def reference_lines(schema: PredictionSchema, table: pd.DataFrame | pa.Table) -> list[PredictionLine]:
    """Return the line of each row, made from its Python values alone."""
    if isinstance(table, pa.Table):
        plain = pa.table({name: plain_column(table[name]) for name in table.column_names})
        table = plain.to_pandas(types_mapper=pd.ArrowDtype, ignore_metadata=True)
    numbers = range(1, len(table) + 1)
    columns = [python_values(table[column.name], column, numbers) for column in schema.columns]
    contract = row_contract(schema)
    return [
        prediction_line(contract, dict(zip(schema.names, values, strict=True)))
        for values in zip(*columns, strict=True)
    ]


def encoded(schema: PredictionSchema, table: Any) -> EncodedRows:
    """Return a table's rows as the encoder writes them."""
    return ColumnEncoder(schema).encode(given_rows(schema, table))


def check_equal(schema: PredictionSchema, table: pd.DataFrame | pa.Table) -> list[PredictionLine]:
    """Check that the encoder's rows equal those of the reference, and return the reference lines."""
    want = reference_lines(schema, table)
    found = encoded(schema, table)
    assert found.lines.to_pylist() == [line.content for line in want]
    assert found.checksums.tolist() == [line.checksum for line in want]
    verdicts = {place: (refusal.reason, refusal.fault) for place, refusal in found.refusals.items()}
    assert verdicts == {
        place: (line.refusal, line.fault) for place, line in enumerate(want) if line.refusal is not None
    }
    # Types and texts are compared too, since 0.0 == -0.0.
    stored = [
        {name: (type(value), str(value)) for name, value in row.items()} for row in found.columns.to_pylist()
    ]
    assert stored == [
        {name: (type(value), str(value)) for name, value in stored_values(schema, line).items()}
        for line in want
    ]
    return want


def stored_values(schema: PredictionSchema, line: PredictionLine) -> dict[str, Any]:
    """Return what Delta stores for a line."""
    values: dict[str, Any] = dict.fromkeys(schema.names)
    if line.row is None:
        held = delta_values(schema, line.content)
    else:
        texts = dict(zip(sorted(schema.names), line.row.texts, strict=True))
        held = dict(line.row.values)
        held |= {
            column.name: texts[column.name] for column in schema.columns if column.type.kind is Kind.JSON
        }
    values |= {name: held.get(name) for name in values}
    for column in schema.columns:
        if column.type.kind is Kind.DECIMAL and values[column.name] is not None:
            # Trailing zeros are removed, since Arrow limits the number of digits.
            digits = Decimal(number_text(values[column.name]))
            kind = pa.decimal128(column.type.precision, column.type.scale)
            values[column.name] = pa.scalar(digits, kind).as_py()
    return values
