"""Writes the data files of one share: Parquet in the model's Delta table, not committed yet."""

# pyarrow's annotations lack the functions of its compute module.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from prediction_batches.arrow_types import arrow_type
from prediction_batches.files.share_location import ShareLocation
from prediction_batches.files.uploads import Uploads
from prediction_contract.rows.schema import PredictionSchema
from prediction_contract.stores.delta_table import BATCH_COLUMN, CHECKSUM_COLUMN

# A file ends at this number of rows, or of bytes in Arrow. Ordinary columns take a quarter of these bytes or
# less once compressed.
FILE_ROWS = 1_000_000
FILE_BYTES = 512 * 1024 * 1024
_GROUP_ROWS = 100_000
_GROUP_BYTES = 32 * 1024 * 1024
# The maximum number of pieces waiting for their row group. Each takes some kilobytes, even with a single row.
_MOST_PENDING = 1000
_SAMPLE_ROWS = 10_000
# A column gets a dictionary if each value occurs in at least this many rows on average.
_ROWS_PER_VALUE = 8
_COMPARED_ROWS = 50_000


@dataclass(frozen=True)
class DataFile:
    """A data file: its path below the Delta table, its rows and its bytes."""

    path: str
    rows: int
    bytes: int


class DataFiles:
    """Parquet files of the columns of a model's Delta table; a context manager over a temporary folder.

    A file is written on disk and uploaded when full, while the next one is being written. An existing object
    is never overwritten; one with the same rows is adopted.

    Args:
        location: The share.
        schema: The model's columns.
        file_rows: The maximum rows of a file.
        file_bytes: A file ends once its columns have this many bytes in Arrow.
    """

    def __init__(
        self,
        location: ShareLocation,
        schema: PredictionSchema,
        *,
        file_rows: int = FILE_ROWS,
        file_bytes: int = FILE_BYTES,
    ) -> None:
        self._location = location
        self._key = schema.key
        fields = [pa.field(column.name, arrow_type(column.type)) for column in schema.columns]
        own = [pa.field(BATCH_COLUMN, pa.string()), pa.field(CHECKSUM_COLUMN, pa.int64())]
        self._schema = pa.schema([*fields, *own])
        self._file_rows = file_rows
        self._file_bytes = file_bytes
        self._dictionaries: list[str] | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="mlpipe-data-")
        self._uploads = Uploads()
        self._files: list[DataFile] = []
        self._finished = 0
        self._pending: list[pa.RecordBatch] = []
        self._pending_rows = self._pending_bytes = 0
        self._writer: pq.ParquetWriter | None = None
        self._rows = self._bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.close()
        self._folder.cleanup()

    def write(self, columns: pa.RecordBatch, checksums: np.ndarray) -> None:
        """Add rows.

        Args:
            columns: The schema's columns in their Arrow types.
            checksums: The checksum of each row, signed 64-bit.

        Raises:
            ShareConflictError: The object exists with other rows.
        """
        batch_ids = pa.repeat(pa.scalar(self._location.batch_id), columns.num_rows)
        arrays = [*columns.columns, batch_ids, pa.array(checksums, pa.int64())]
        rest = pa.RecordBatch.from_arrays(arrays, schema=self._schema)
        while rest.num_rows:
            fitting = self._fitting_rows(rest)
            self._pending.append(rest.slice(0, fitting))
            self._pending_rows += fitting
            self._pending_bytes += self._pending[-1].nbytes
            rest = rest.slice(fitting)
            if len(self._pending) == _MOST_PENDING:
                self._pending = pa.Table.from_batches(self._pending).combine_chunks().to_batches()
            if self._room() <= 0 or self._pending_bytes >= _GROUP_BYTES:
                self._write_group()

    def close(self) -> list[DataFile]:
        """Write the last file, and return all files; none if there were no rows."""
        if self._pending:
            self._write_group()
        if self._writer is not None:
            self._finish()
        self._uploads.finish()
        return self._files

    def _room(self) -> int:
        """Return how many more rows the row group may take."""
        return min(_GROUP_ROWS, self._file_rows - self._rows) - self._pending_rows

    def _fitting_rows(self, rows: pa.RecordBatch) -> int:
        by_size = (_GROUP_BYTES - self._pending_bytes) * rows.num_rows // max(rows.nbytes, 1)
        return max(min(rows.num_rows, self._room(), by_size), 1)

    def _write_group(self) -> None:
        group = pa.Table.from_batches(self._pending)
        if self._dictionaries is None:
            self._dictionaries = [BATCH_COLUMN, *self._repetitive_columns(group)]
        if self._writer is None:
            self._writer = pq.ParquetWriter(
                self._path,
                self._schema,
                compression="zstd",
                compression_level=1,
                use_dictionary=self._dictionaries,  # pyright: ignore[reportArgumentType]  # its annotation lacks lists
                # Only Arrow's own readers use it.
                store_schema=False,
            )
        self._writer.write_table(group, row_group_size=group.num_rows)
        self._rows += group.num_rows
        self._bytes += self._pending_bytes
        self._pending, self._pending_rows, self._pending_bytes = [], 0, 0
        if self._rows >= self._file_rows or self._bytes >= self._file_bytes:
            self._finish()

    def _repetitive_columns(self, group: pa.Table) -> list[str]:
        """Return the columns whose values repeat often in the share's first rows."""
        sample = group.slice(0, _SAMPLE_ROWS)
        candidates = [
            name for name in sample.column_names if name not in {self._key, BATCH_COLUMN, CHECKSUM_COLUMN}
        ]
        return [
            name
            for name in candidates
            if pc.count_distinct(sample[name]).as_py() * _ROWS_PER_VALUE <= sample.num_rows
        ]

    def _finish(self) -> None:
        if self._writer is None:
            return
        self._writer.close()
        rows, self._writer = self._rows, None
        self._rows = self._bytes = 0
        self._uploads.start(partial(self._put, self._finished, rows, self._path))
        self._finished += 1

    @property
    def _path(self) -> Path:
        """The local path of the file that is being written."""
        return Path(self._folder.name) / f"{self._finished}.parquet"

    def _put(self, number: int, rows: int, path: Path) -> None:
        key, size = self._location.data_key(number), path.stat().st_size
        with path.open("rb") as file:
            is_new = self._location.store.put_new(key, file)
        size = size if is_new else self._adopted_size(key, path)
        self._files.append(DataFile(self._location.data_path(number), rows, size))
        path.unlink(missing_ok=True)

    def _adopted_size(self, key: str, path: Path) -> int:
        """Return the size of the existing object if it has the same rows."""
        found = path.with_name("found")
        with found.open("wb") as file:
            digest = self._location.store.save(key, file)
        if digest != _digest(path) and not _same_rows(found, path):
            raise self._location.conflict(key)
        size = found.stat().st_size
        found.unlink()
        return size


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _same_rows(left: Path, right: Path) -> bool:
    """Whether two Parquet files hold the same columns and rows in the same order, whatever their encoding."""
    try:
        with pq.ParquetFile(left) as one, pq.ParquetFile(right) as other:
            same = one.schema_arrow == other.schema_arrow and one.metadata.num_rows == other.metadata.num_rows
            return same and all(
                rows.equals(others) for rows, others in zip(_slices(one), _slices(other), strict=True)
            )
    except pa.ArrowException:
        return False


def _slices(file: pq.ParquetFile) -> Iterator[pa.Table]:
    """Yield a file's rows in slices of `_COMPARED_ROWS`, whatever its row groups are."""
    pending: list[pa.RecordBatch] = []
    rows = 0
    for batch in file.iter_batches(_COMPARED_ROWS):
        rest = batch
        while rows + rest.num_rows >= _COMPARED_ROWS:
            yield pa.Table.from_batches([*pending, rest.slice(0, _COMPARED_ROWS - rows)])
            rest, pending, rows = rest.slice(_COMPARED_ROWS - rows), [], 0
        if rest.num_rows:
            pending.append(rest)
            rows += rest.num_rows
    if pending:
        yield pa.Table.from_batches(pending)
