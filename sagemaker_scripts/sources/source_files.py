"""Reads a source's files in batches: Parquet, CSV and JSONL."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from prediction_batches.object_store import ObjectStore
from sagemaker_scripts.sources.csv_files import csv_batches
from sagemaker_scripts.sources.json_line_files import json_line_batches
from sagemaker_scripts.sources.source_columns import SourceColumns
from sagemaker_scripts.sources.source_objects import SourceError, SourceObject, open_object

BATCH_ROWS = 65_536
BATCH_BYTES = 8 * 1024 * 1024
GROUP_BYTES = 128 * 1024 * 1024
BUFFER_BYTES = 4 * 1024 * 1024


def file_batches(
    store: ObjectStore, found: SourceObject, file_format: str, columns: SourceColumns
) -> Iterator[pa.Table]:
    """Yield the rows of a file in batches; the first batch has the columns and no rows.

    Args:
        store: The file's bucket.
        found: The file.
        file_format: `parquet`, `csv` or `jsonl`; the last two are gzipped if the file's name ends in `.gz`.
        columns: The columns to read; for `csv` and `jsonl` they must be declared.

    Raises:
        SourceError: The file is damaged or lacks a column, or a row does not fit; the error names column or
            row.
    """
    in_order = file_format != "parquet"
    with (
        translate_read_errors(found.address, columns.source),
        open_object(store, found, in_order=in_order) as opened,
    ):
        if file_format == "parquet":
            yield from _parquet_batches(opened, found, columns)
            return
        yield columns.schema.empty_table()
        if found.size:
            plain = pa.CompressedInputStream(opened, "gzip") if found.key.endswith(".gz") else opened
            yield from (csv_batches if file_format == "csv" else json_line_batches)(plain, found, columns)


@contextmanager
def translate_read_errors(where: str, source: str) -> Iterator[None]:
    """Replace an error of Arrow, which may quote a value, by an error that names the file."""
    try:
        yield
    except (pa.ArrowException, OSError, EOFError) as error:
        raise SourceError(
            f"{where} of source {source} cannot be read: it is damaged, or of another format",
            remedy="Deliver the file again, or correct the source's format in defs.yaml",
        ) from error


def _parquet_batches(opened: Any, found: SourceObject, columns: SourceColumns) -> Iterator[pa.Table]:
    metadata = pyarrow.parquet.read_metadata(opened)
    # Fetch a row group at once, unless it is too large for memory.
    is_small = _largest_group(metadata) <= GROUP_BYTES
    with pyarrow.parquet.ParquetFile(
        opened, metadata=metadata, pre_buffer=is_small, buffer_size=0 if is_small else BUFFER_BYTES
    ) as file:
        given = file.schema_arrow
        names = columns.wanted(given.names, found.address)
        yield columns.converted(given.empty_table().select(names), found.address)
        first = 0
        for number in range(file.num_row_groups):
            for before, rows in group_batches(file, number, names, columns):
                yield columns.converted(rows, found.address, first_row=first + before)
            first += metadata.row_group(number).num_rows


def _largest_group(metadata: pyarrow.parquet.FileMetaData) -> int:
    groups = map(metadata.row_group, range(metadata.num_row_groups))
    return max(
        (
            sum(group.column(place).total_compressed_size for place in range(group.num_columns))
            for group in groups
        ),
        default=0,
    )


def group_batches(
    file: pyarrow.parquet.ParquetFile, number: int, names: Iterable[str], columns: SourceColumns
) -> Iterator[tuple[int, pa.Table]]:
    """Yield the rows of a row group, unless its statistics show that all became known too late.

    Args:
        file: The file.
        number: The row group, from 0.
        names: The columns to read.
        columns: The source's columns, with `known_at` and `until`.

    Returns:
        Batches of bounded size, each with the number of rows before it in the row group.
    """
    if _is_late(file.metadata.row_group(number), columns):
        return
    before = 0
    for batch in file.iter_batches(batch_rows(file, number), row_groups=[number], columns=list(names)):
        yield before, pa.Table.from_batches([batch])
        before += batch.num_rows


def batch_rows(file: pyarrow.parquet.ParquetFile, number: int) -> int:
    """Return how many rows of a row group to read at a time, so that their memory is bounded."""
    group = file.metadata.row_group(number)
    # The size of encoded values may be far below their size in memory, so assume at least 8 bytes per value.
    row_bytes = max(8 * group.num_columns, group.total_byte_size // max(1, group.num_rows))
    return min(BATCH_ROWS, max(1, BATCH_BYTES // row_bytes))


def _is_late(group: Any, columns: SourceColumns) -> bool:
    """Tell whether a row group's statistics show that all its rows became known too late."""
    if columns.until is None or columns.known_at is None:
        return False
    for number in range(group.num_columns):
        column = group.column(number)
        if column.path_in_schema == columns.known_at and column.is_stats_set:
            return is_too_late(column.statistics.min if column.statistics.has_min_max else None, columns)
    return False


def is_too_late(first: object, columns: SourceColumns) -> bool:
    """Tell whether no partition needs rows that became known at the time `first` or later."""
    # A time without a zone cannot be compared, so the rows are read.
    if columns.until is None or not isinstance(first, datetime) or first.tzinfo is None:
        return False
    return first >= columns.until
