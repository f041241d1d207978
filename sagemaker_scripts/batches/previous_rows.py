"""The rows of the previous batch, read piece by piece, without those that no store took.

They are Arrow tables of the schema's columns, the key as `entity_id` and `json` as canonical text. They hold
what the model wrote, and where that is no value the default that the load gives it.
"""

# PyArrow makes its compute functions when it is imported, where no type checker sees them.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import logging
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from botocore.exceptions import ClientError
from isal.igzip import IGzipFile

from prediction_batches.arrow_types import arrow_type
from prediction_batches.object_store import ObjectStore
from prediction_batches.rows.column_encoder import ColumnEncoder
from prediction_contract.cleaning.row_cleaning import TRIMMED, row_parser
from prediction_contract.errors import InvalidRowError
from prediction_contract.manifests.manifest import InputObject, JsonPart
from prediction_contract.naming.s3_layout import delta_table_prefix
from prediction_contract.rows.checksums import batch_checksum
from prediction_contract.rows.row_contract import read_lines
from prediction_contract.rows.schema import Kind, PredictionSchema
from prediction_contract.stores.delta_table import CHECKSUM_COLUMN
from prediction_contract.text.canonical_json import canonical_json
from sagemaker_scripts.batches.previous_batch import PreviousBatch
from sagemaker_scripts.batches.schema_frame import frame_of_columns, values_as_given
from sagemaker_scripts.functions.entity_rows import ENTITY

_LOG = logging.getLogger(__name__)
# Their values take some thirty times as much.
_LINE_BYTES_AT_ONCE = 4 * 1024 * 1024
# Of all columns together, whichever is reached first.
_VALUES_AT_ONCE, _BYTES_AT_ONCE = 1_000_000, 32 * 1024 * 1024
# As much of each column's packed values is held while a row group is read.
_BUFFER_BYTES = 256 * 1024


class DeltaFile(NamedTuple):
    """A file that the previous batch added to the model's Delta table.

    Attributes:
        path: Relative to the table.
        rows: About how many rows it has.
    """

    path: str
    rows: int


PreviousFile = JsonPart | DeltaFile


@dataclass
class ReadRows:
    """What was read of the previous batch.

    Attributes:
        rows: The rows of data files.
        checksum: The sum of the checksums that stand beside them.
        left_out: How many rows no load takes, by reason.
    """

    rows: int = 0
    checksum: int = 0
    left_out: Counter[str] = field(default_factory=Counter)

    def add(self, other: ReadRows) -> None:
        """Count what was read elsewhere, too."""
        self.rows += other.rows
        self.checksum += other.checksum
        self.left_out += other.left_out


def previous_files(previous: PreviousBatch) -> Sequence[PreviousFile]:
    """Return the files to read: the data files, or the JSON parts if the load cleans rows.

    Columns are read ten times as fast as lines. But a row that cleaning mends is not whole in Delta.
    """
    manifest, paths = previous.manifest, previous.manifest.delta.files
    if previous.cleaning or not paths:
        return manifest.json_parts
    return [DeltaFile(path, manifest.row_count // len(paths)) for path in paths]


def is_whole(previous: PreviousBatch, files: Sequence[PreviousFile], read: ReadRows) -> bool:
    """Tell whether data files held what the manifest states; if not, the JSON parts are to be read.

    Args:
        previous: The batch.
        files: All files that were read. JSON parts are whole: the manifest states their digests.
        read: What was read of them.
    """
    manifest, checksum = previous.manifest, batch_checksum([read.checksum])
    if not any(isinstance(file, DeltaFile) for file in files):
        return True
    if (read.rows, checksum) == (manifest.row_count, manifest.checksum):
        return True
    _LOG.warning(
        "The data files of batch %s hold %d rows of the checksum %s, not %d of %s: its JSON parts are read",
        manifest.batch_id,
        read.rows,
        checksum,
        manifest.row_count,
        manifest.checksum,
    )
    return False


def previous_frame(store: ObjectStore, previous: PreviousBatch) -> pd.DataFrame:
    """Return all rows as `schema_frame` does, but all rows of a key that comes twice, which the load refuses.

    Raises:
        InputMissingError: A file is gone.
        ObjectAlteredError: A JSON part has not the digest that the manifest states.
    """
    schema = previous.manifest.schema
    for files in (previous_files(previous), previous.manifest.json_parts):
        read = ReadRows()
        found = [rows for file in files for rows in file_rows(store, previous, file, read)]
        if is_whole(previous, files, read):
            break
    report_left_out(previous, read.left_out)
    whole = pa.Table.from_batches(found, arrow_schema(schema))
    return frame_of_columns(schema, without_duplicates(previous, whole))


def file_rows(
    store: ObjectStore, previous: PreviousBatch, file: PreviousFile, read: ReadRows
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a file that a load accepts by themselves, and count what is read.

    Raises:
        InputMissingError: The file is gone.
        ObjectAlteredError: A JSON part has not the digest that the manifest states.
    """
    with tempfile.TemporaryDirectory(prefix="previous-") as folder:
        path = Path(folder, "rows")
        if isinstance(file, JsonPart):
            store.save_verified(InputObject(file.key, file.sha256), path)
            yield from _part_rows(previous, file, path, read)
        else:
            yield from _data_rows(store, previous, file, path, read)


def _data_rows(
    store: ObjectStore, previous: PreviousBatch, file: DeltaFile, path: Path, read: ReadRows
) -> Iterator[pa.RecordBatch]:
    """Yield the rows whose values have the checksum that stands beside them; a refused row has another."""
    schema = previous.manifest.schema
    encoder = ColumnEncoder(schema)
    wanted = pa.schema([*arrow_schema(schema, key=schema.key), pa.field(CHECKSUM_COLUMN, pa.int64())])
    try:
        with path.open("wb") as content:
            store.save(f"{delta_table_prefix(previous.manifest.model)}{file.path}", content)
        with pq.ParquetFile(path, pre_buffer=False, buffer_size=_BUFFER_BYTES) as parquet:
            # Few bytes may unpack to any number of rows.
            if parquet.metadata.num_rows > previous.manifest.row_count:
                return
            for batch in _batches(parquet, wanted.names):
                rows = batch.select(wanted.names).cast(wanted)
                stated = rows.column(CHECKSUM_COLUMN).fill_null(0).to_numpy()
                columns = rows.remove_column(len(wanted) - 1)
                taken = encoder.accepted(columns, stated)
                refused = len(taken) - int(taken.sum())
                read.add(ReadRows(len(taken), sum(stated.tolist()), Counter(refused=refused)))
                accepted = columns.filter(pa.array(taken)) if refused else columns
                yield accepted.rename_columns(arrow_schema(schema).names)
    except (ClientError, pa.ArrowException, KeyError) as error:
        _LOG.warning("The data file %s cannot be read: %s", file.path, error)


def _batches(file: pq.ParquetFile, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """Yield the rows in batches of some megabytes."""
    for number in range(file.num_row_groups):
        group = file.metadata.row_group(number)
        row_bytes = max(1, group.total_byte_size // max(1, group.num_rows))
        rows = max(1, min(_VALUES_AT_ONCE // len(columns), _BYTES_AT_ONCE // row_bytes))
        yield from file.iter_batches(rows, row_groups=[number], columns=columns)


def _part_rows(
    previous: PreviousBatch, part: JsonPart, path: Path, read: ReadRows
) -> Iterator[pa.RecordBatch]:
    schema = previous.manifest.schema
    accept = row_parser(schema, previous.cleaning)
    values_of = values_as_given(schema, previous.cleaning)
    with IGzipFile(path) as file:
        found: list[Mapping[str, Any]] = []
        size = 0
        # No more than the manifest promises: few bytes may unpack to any number.
        for ended in islice(read_lines(file), part.rows):
            line = ended.rstrip(b"\n")
            try:
                found.append(values_of(line, accept(line)))
            except InvalidRowError as error:
                read.left_out[error.reason] += 1
                continue
            size += len(line)
            if size >= _LINE_BYTES_AT_ONCE:
                yield _columns(schema, found)
                found, size = [], 0
        if found:
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


def arrow_schema(schema: PredictionSchema, *, key: str = ENTITY) -> pa.Schema:
    """Return the columns of the rows; `key` is the name of the key."""
    return pa.schema(
        [
            (key if column.name == schema.key else column.name, arrow_type(column.type))
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
