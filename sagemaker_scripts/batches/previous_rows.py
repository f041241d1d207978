"""The rows of the previous batch, read piece by piece, without those that no store took.

They are Arrow tables of the schema's columns, the key as `entity_id` and `json` as canonical text. They hold
what the model wrote, and where that is no value the default that the load gives it.
"""

# PyArrow makes its compute functions when it is imported, where no type checker sees them.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import io
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from isal.igzip import IGzipFile

from prediction_batches.arrow_types import arrow_type
from prediction_batches.object_store import ObjectStore
from prediction_contract.cleaning.row_cleaning import TRIMMED, row_parser
from prediction_contract.errors import InvalidRowError
from prediction_contract.manifests.manifest import InputObject, JsonPart
from prediction_contract.rows.row_contract import read_lines
from prediction_contract.rows.schema import Kind, PredictionSchema
from prediction_contract.text.canonical_json import canonical_json
from sagemaker_scripts.batches.previous_batch import PreviousBatch
from sagemaker_scripts.batches.schema_frame import frame_of_columns, values_as_given
from sagemaker_scripts.functions.entity_rows import ENTITY

_LOG = logging.getLogger(__name__)
_LINES_AT_ONCE = 10_000


def previous_frame(store: ObjectStore, previous: PreviousBatch) -> pd.DataFrame:
    """Return all rows as `schema_frame` does, but all rows of a key that comes twice, which the load refuses.

    Raises:
        InputMissingError: A part is gone.
        ObjectAlteredError: A part has not the digest that the manifest states.
    """
    schema, left_out = previous.manifest.schema, Counter[str]()
    found = [
        rows for part in previous.manifest.json_parts for rows in part_rows(store, previous, part, left_out)
    ]
    report_left_out(previous, left_out)
    whole = pa.Table.from_batches(found, arrow_schema(schema))
    return frame_of_columns(schema, without_duplicates(previous, whole))


def part_rows(
    store: ObjectStore, previous: PreviousBatch, part: JsonPart, left_out: Counter[str]
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a JSON part that a load accepts by themselves, and count the others by reason.

    Raises:
        InputMissingError: The part is gone.
        ObjectAlteredError: It has not the digest that the manifest states.
    """
    schema = previous.manifest.schema
    accept = row_parser(schema, previous.cleaning)
    values_of = values_as_given(schema, previous.cleaning)
    lines = _lines(store.get_verified(InputObject(part.key, part.sha256)), part.rows)
    while block := list(islice(lines, _LINES_AT_ONCE)):
        found: list[Mapping[str, Any]] = []
        for line in block:
            try:
                found.append(values_of(line, accept(line)))
            except InvalidRowError as error:
                left_out[error.reason] += 1
        yield _columns(schema, found)


def without_duplicates(previous: PreviousBatch, rows: pa.Table) -> pa.Table:
    """Return the rows without all those of a key that comes twice, as the load sees keys.

    Args:
        previous: Whose rows they are.
        rows: All rows that may share a key.
    """
    keys = rows[ENTITY]
    if any(rule.column == previous.manifest.schema.key and rule.trim for rule in previous.cleaning.rules):
        keys = pc.ascii_trim(keys, TRIMMED)
    counts = keys.value_counts()
    doubled = counts.filter(pc.greater(counts.field("counts"), 1))
    if not len(doubled):
        return rows
    unique = rows.filter(pc.invert(pc.is_in(keys, value_set=doubled.field("values"))))
    _LOG.warning(
        "%d rows of batch %s share their key and are left out",
        rows.num_rows - unique.num_rows,
        previous.manifest.batch_id,
    )
    return unique


def report_left_out(previous: PreviousBatch, left_out: Counter[str]) -> None:
    """Log how many rows are left out, by reason."""
    for reason, count in sorted(left_out.items()):
        _LOG.warning("%d rows of batch %s are left out: %s", count, previous.manifest.batch_id, reason)


def arrow_schema(schema: PredictionSchema) -> pa.Schema:
    """Return the columns of the rows."""
    return pa.schema(
        [
            (ENTITY if column.name == schema.key else column.name, arrow_type(column.type))
            for column in schema.columns
        ]
    )


def _columns(schema: PredictionSchema, rows: Sequence[Mapping[str, Any]]) -> pa.RecordBatch:
    arrays = []
    for column in schema.columns:
        values = [row[column.name] for row in rows]
        if column.type.kind is Kind.JSON:
            values = [None if value is None else canonical_json(value) for value in values]
        arrays.append(pa.array(values, arrow_type(column.type)))
    return pa.RecordBatch.from_arrays(arrays, schema=arrow_schema(schema))


def _lines(content: bytes, most: int) -> Iterator[bytes]:
    """Yield a part's lines, no more than its manifest promises: few bytes may unpack to any number."""
    with IGzipFile(fileobj=io.BytesIO(content)) as file:
        for line in islice(read_lines(file), most):
            yield line.rstrip(b"\n")
