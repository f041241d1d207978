"""The rows of a batch: from what `predict` returned to JSON parts and an Arrow table of the same rows."""

# pandas' own annotations call every column "Series | DataFrame".
# pyright: reportArgumentType=false

from __future__ import annotations

import gzip
import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import pandas as pd
import pyarrow as pa

from prediction_batches.arrow_types import arrow_type
from prediction_batches.errors import PredictionsError
from prediction_batches.object_store import ObjectStore
from prediction_contract.cleaning.row_cleaning import delta_values
from prediction_contract.errors import ContractError, InvalidRowError
from prediction_contract.manifests.manifest import JsonPart
from prediction_contract.naming.s3_layout import json_part_key
from prediction_contract.rows.prediction_line import PredictionLine, prediction_line
from prediction_contract.rows.quarantine_tolerance import QuarantineTolerance
from prediction_contract.rows.row_contract import Row, row_contract
from prediction_contract.rows.schema import Kind, PredictionSchema
from prediction_contract.stores.delta_table import BATCH_COLUMN, CHECKSUM_COLUMN
from sagemaker_scripts.batches.schema_frame import python_values

_LOG = logging.getLogger(__name__)
# Together they fit the 1024 characters of a job's message.
_NAMED_ROWS = 5
# Of uncompressed lines, so that a loader's memory is bounded too.
PART_BYTES = 32_000_000

# Cleans and checks a line as the load will; raises InvalidRowError.
ParseRow = Callable[[bytes], Row]


class PartConflictError(ContractError):
    """Two job runs of the same attempt have scored different rows."""


def prediction_lines(schema: PredictionSchema, predictions: pd.DataFrame) -> list[PredictionLine]:
    """Return the line of every prediction, in order.

    Args:
        schema: The model's schema.
        predictions: Exactly its columns, in any order. What is no value in them `python_values` tells; a NaN
            of a `double` or `decimal` column is a number that went wrong, and its row will be quarantined.

    Raises:
        PredictionsError: The columns are not the schema's, a value is of a type that JSON does not know, or
            a `long` may have lost digits. The message names column and row, and quotes no value.
    """
    if set(predictions.columns) != set(schema.names) or not predictions.columns.is_unique:
        raise PredictionsError(
            f"predict returned the columns {', '.join(map(str, predictions.columns))}, "
            f"and the schema declares {', '.join(schema.names)}",
            remedy="Correct the model's predict function or the schema in its defs.yaml",
        )
    contract = row_contract(schema)
    columns = [python_values(predictions[column.name], column) for column in schema.columns]
    lines: list[PredictionLine] = []
    for number, values in enumerate(zip(*columns, strict=True), start=1):
        try:
            lines.append(prediction_line(contract, dict(zip(schema.names, values, strict=True))))
        except TypeError as error:
            raise PredictionsError(
                f"Row {number} of what predict returned cannot be written. {error}",
                remedy="Convert it to a plain Python value in the model's predict function",
            ) from error
    return lines


class RefusedRows(NamedTuple):
    """The rows of a batch that the load will refuse. As text: reasons, and the first rows without values.

    Attributes:
        reasons: How many rows are refused for each reason.
        first: What is wrong with the first of them.
    """

    reasons: Counter[str]
    first: list[str]

    def __str__(self) -> str:
        return "; ".join([counted_reasons(self.reasons), *self.first])


def counted_reasons(reasons: Mapping[str, int]) -> str:
    """Return how many rows each reason concerns, in words."""
    return ", ".join(f"{count} {reason}" for reason, count in reasons.items())


def refused_rows(lines: Sequence[PredictionLine], parse_row: ParseRow | None = None) -> RefusedRows:
    """Return which rows the load will refuse: those that do not fit the schema, and all that share a key.

    Args:
        lines: All of the batch.
        parse_row: Cleans and checks a line as the load will; None where nothing is cleaned.
    """
    found = RefusedRows(Counter(), [])
    for number, reason, what in _each_refusal([_parsed_row(line, parse_row) for line in lines]):
        found.reasons[reason] += 1
        if len(found.first) < _NAMED_ROWS:
            found.first.append(f"row {number}: {what}")
    return found


def check_refused_rows(
    lines: Sequence[PredictionLine],
    tolerance: QuarantineTolerance,
    *,
    model: str,
    batch_id: str,
    parse_row: ParseRow | None = None,
) -> None:
    """Refuse a batch that its load would refuse, before anything of it is delivered.

    The message names rows by their place, and quotes no value: the job does not know which are sensitive.

    Args:
        lines: All of the batch.
        tolerance: What the model tolerates.
        model: The model's name.
        batch_id: The batch.
        parse_row: As in `refused_rows`.

    Raises:
        PredictionsError: No row is left, or more rows than tolerated do not fit the schema or share a key.
    """
    found = refused_rows(lines, parse_row)
    fault = tolerance.fault(len(lines), found.reasons.total())
    if fault is not None:
        raise PredictionsError(
            f"{fault}: {found}" if found.first else fault,
            remedy="Correct the model's predict function, or the columns or quality in its defs.yaml",
            model=model,
            batch_id=batch_id,
        )
    if found.first:
        _LOG.warning("rows will be quarantined: %s", found)


def accepted_rows(
    lines: Sequence[PredictionLine], parse_row: ParseRow | None = None
) -> list[tuple[bytes, Row]]:
    """Return the lines that a load takes by themselves, each with the row that it stores.

    Args:
        lines: All of the batch.
        parse_row: As in `refused_rows`.
    """
    parsed = [(line.content.rstrip(b"\n"), _parsed_row(line, parse_row)) for line in lines]
    return [(content, row) for content, row in parsed if isinstance(row, Row)]


def _parsed_row(line: PredictionLine, parse_row: ParseRow | None) -> Row | tuple[str, str]:
    """Return the row that the load will store, or reason and fault for which it will refuse the line."""
    if parse_row is None:
        return line.row or (str(line.refusal), str(line.fault))
    try:
        return parse_row(line.content.rstrip(b"\n"))
    except InvalidRowError as error:
        return error.reason, error.what


def _each_refusal(parsed: Sequence[Row | tuple[str, str]]) -> Iterator[tuple[int, str, str]]:
    """Yield number, reason and fault of each row that the load will refuse."""
    keys = Counter(row.key for row in parsed if isinstance(row, Row))
    for number, row in enumerate(parsed, start=1):
        if not isinstance(row, Row):
            yield number, *row
        elif keys[row.key] > 1:
            yield number, "duplicate_key", "another row has its key"


def write_parts(
    store: ObjectStore,
    lines: Iterable[PredictionLine],
    *,
    model: str,
    partition: str,
    batch_id: str,
    attempt: int,
    part_bytes: int = PART_BYTES,
) -> list[JsonPart]:
    """Write the lines as gzipped JSON parts, at least one, each of at most `part_bytes` uncompressed bytes.

    The same lines give the same bytes. A part that is there is never overwritten: the manifest of another job
    run of the same attempt may name it.

    Raises:
        PredictionsError: A line is longer than a part may be.
        PartConflictError: An earlier job run of the attempt has written other rows.
    """
    parts = []
    for number, (content, rows) in enumerate(_chunks(lines, part_bytes)):
        packed = gzip.compress(content, compresslevel=6, mtime=0)
        key = json_part_key(model, partition, batch_id, attempt, number)
        if not store.put_new(key, packed) and store.get(key) != packed:
            raise PartConflictError(
                f"Another job run of attempt {attempt} has written other rows to {key}",
                remedy="Start the next attempt",
                model=model,
                batch_id=batch_id,
            )
        parts.append(JsonPart(key, rows, len(packed), hashlib.sha256(packed).hexdigest()))
    return parts


def _chunks(lines: Iterable[PredictionLine], part_bytes: int) -> Iterator[tuple[bytes, int]]:
    pending: list[bytes] = []
    size = 0
    for number, line in enumerate(lines):
        if len(line.content) > part_bytes:
            raise PredictionsError(
                f"Row {number} has {len(line.content)} bytes, and a whole part may have {part_bytes}",
                remedy="Correct the model's predict function",
            )
        if pending and size + len(line.content) > part_bytes:
            yield b"".join(pending), len(pending)
            pending, size = [], 0
        pending.append(line.content)
        size += len(line.content)
    yield b"".join(pending), len(pending)


def delta_rows(schema: PredictionSchema, lines: list[PredictionLine], batch_id: str) -> pa.Table:
    """Return the same rows as an Arrow table of the columns of the model's Delta table.

    Of a row that no store can hold as it is, those values are there that its columns' types hold: cleaning
    may make a row of it. All of them are in the JSON part, as they were.
    """
    arrays: dict[str, pa.Array] = {}
    # A row's texts are in the order of its values.
    json_places = {name: place for place, name in enumerate(sorted(schema.names))}
    unfit = [delta_values(schema, line.content) if line.row is None else {} for line in lines]
    for column in schema.columns:
        name, place = column.name, json_places[column.name]
        is_json = column.type.kind is Kind.JSON
        values = [
            found.get(name)
            if line.row is None
            else line.row.texts[place]
            if is_json
            else line.row.values[name]
            for line, found in zip(lines, unfit, strict=True)
        ]
        arrays[column.name] = pa.array(values, type=arrow_type(column.type))
    arrays[BATCH_COLUMN] = pa.array([batch_id] * len(lines), type=pa.string())
    arrays[CHECKSUM_COLUMN] = pa.array([line.checksum for line in lines], type=pa.int64())
    return pa.table(arrays)
