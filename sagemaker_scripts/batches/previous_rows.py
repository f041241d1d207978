"""Reads the rows of the previous batch in pieces, without the rows that its load refuses.

Rows are Arrow data in the schema's columns; the key is named `entity_id`, and `json` is canonical text. The
values are those that the model wrote; missing values have the default of the load.
"""

# PyArrow creates its compute functions when it is imported, where no type checker sees them.
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
from sagemaker_scripts.batches.schema_frame import frame_of_columns, values_before_cleaning
from sagemaker_scripts.functions.entity_rows import ENTITY

_LOG = logging.getLogger(__name__)
# The parsed values of these lines take about thirty times as many bytes.
_LINE_BYTES_AT_ONCE = 4 * 1024 * 1024
# The limits of one batch of rows, over all columns.
_VALUES_AT_ONCE, _BYTES_AT_ONCE = 1_000_000, 32 * 1024 * 1024
# The compressed bytes of each column in memory while a row group is read.
_BUFFER_BYTES = 256 * 1024


class DeltaFile(NamedTuple):
    """A file that the previous batch added to the model's Delta table.

    Attributes:
        path: The path relative to the table.
        rows: The approximate number of rows.
    """

    path: str
    rows: int


PreviousFile = JsonPart | DeltaFile


@dataclass
class ReadRows:
    """Counts of the rows read from the previous batch.

    Attributes:
        rows: The number of rows in data files.
        checksum: The sum of their stored checksums.
        left_out: The number of rows that a load refuses, by reason.
    """

    rows: int = 0
    checksum: int = 0
    left_out: Counter[str] = field(default_factory=Counter)

    def add(self, other: ReadRows) -> None:
        """Add the counts of another reader."""
        self.rows += other.rows
        self.checksum += other.checksum
        self.left_out += other.left_out


def previous_files(previous: PreviousBatch) -> Sequence[PreviousFile]:
    """Return the files to read: the data files, or the JSON parts if the load cleans rows.

    Data files are read ten times as fast. But Delta does not hold all values of a row that needs cleaning.
    """
    manifest, paths = previous.manifest, previous.manifest.delta.files
    if previous.cleaning or not paths:
        return manifest.json_parts
    return [DeltaFile(path, manifest.row_count // len(paths)) for path in paths]


def is_whole(previous: PreviousBatch, files: Sequence[PreviousFile], read: ReadRows) -> bool:
    """Return whether the rows match the manifest; if not, the caller reads the JSON parts instead.

    Args:
        previous: The batch.
        files: All files that were read. JSON parts always match, because their digests are verified.
        read: The counts of the rows read from them.
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
    """Return the rows in the form of `schema_frame`, without rows that share a key.

    Raises:
        InputMissingError: A file does not exist.
        ObjectAlteredError: The digest of a JSON part differs from the manifest's.
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
    """Yield a file's rows that a load accepts, including rows that share a key; add counts to `read`.

    Raises:
        InputMissingError: The file does not exist.
        ObjectAlteredError: The digest of a JSON part differs from the manifest's.
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
    """Yield the rows whose values match the stored checksum; those of refused rows do not."""
    schema = previous.manifest.schema
    encoder = ColumnEncoder(schema)
    wanted = pa.schema([*arrow_schema(schema, key=schema.key), pa.field(CHECKSUM_COLUMN, pa.int64())])
    try:
        with path.open("wb") as content:
            store.save(f"{delta_table_prefix(previous.manifest.model)}{file.path}", content)
        with pq.ParquetFile(path, pre_buffer=False, buffer_size=_BUFFER_BYTES) as parquet:
            # A small file may unpack to any number of rows.
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
    """Yield the rows in batches of a few megabytes."""
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
    values_of = values_before_cleaning(schema, previous.cleaning)
    with IGzipFile(path) as file:
        found: list[Mapping[str, Any]] = []
        size = 0
        # Read at most the rows that the manifest states, because a small file may unpack to any number.
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
    """Return the rows without those that share a key after cleaning.

    Args:
        previous: The batch of the rows.
        rows: All rows that may share a key.
    """
    keys = rows[ENTITY]
    if any(rule.column == previous.manifest.schema.key and rule.trim for rule in previous.cleaning.rules):
        keys = pc.ascii_trim(keys, TRIMMED)
    counts = keys.value_counts()
    duplicates = counts.filter(pc.greater(counts.field("counts"), 1))
    if not len(duplicates):
        return rows
    unique = rows.filter(pc.invert(pc.is_in(keys, value_set=duplicates.field("values"))))
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
    """Return the schema of the rows; `key` is the name of the key column."""
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
