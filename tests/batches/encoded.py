"""Rows of Python values, encoded one by one: what the encoder of columns must come to as well."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from prediction_batches.arrow_types import arrow_type
from prediction_batches.rows.encoded_rows import EncodedRows, Refusal
from prediction_contract.cleaning.row_cleaning import delta_values
from prediction_contract.rows.prediction_line import prediction_line
from prediction_contract.rows.row_contract import row_contract
from prediction_contract.rows.schema import PredictionSchema

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def schema_of(**types: str) -> PredictionSchema:
    """Return a schema of the key `entity_id` and columns of these types that take null."""
    columns = [{"name": name, "type": kind, "nullable": True} for name, kind in types.items()]
    key = {"name": "entity_id", "type": "string", "nullable": False}
    return PredictionSchema.from_document({"key": "entity_id", "columns": [key, *columns]})


def encoded(schema: PredictionSchema, rows: Iterable[Mapping[str, Any]]) -> EncodedRows:
    """Return rows in all forms that a batch has of them."""
    values = [{name: row.get(name) for name in schema.names} for row in rows]
    lines = [prediction_line(row_contract(schema), row) for row in values]
    held = [delta_values(schema, line.content) for line in lines]
    columns = pa.RecordBatch.from_arrays(
        [
            pa.array([row.get(column.name) for row in held], arrow_type(column.type))
            for column in schema.columns
        ],
        names=list(schema.names),
    )
    refusals = {
        number: Refusal(line.refusal, str(line.fault))
        for number, line in enumerate(lines)
        if line.refusal is not None
    }
    return EncodedRows(
        pa.array([line.content for line in lines], pa.binary()),
        np.array([line.checksum for line in lines], np.int64),
        refusals,
        columns,
    )
