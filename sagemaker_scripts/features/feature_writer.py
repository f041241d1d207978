"""Writes prepared rows to S3 as Parquet files of bounded size."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import pyarrow as pa
import pyarrow.parquet

from prediction_batches.object_store import ObjectStore
from sagemaker_scripts.features.feature_files import FeatureFile, FeaturesError
from sagemaker_scripts.functions.entity_rows import ENTITY

# The size of a row group, which is the smallest unit of scoring's work and is read at once.
GROUP_ROWS = 100_000
GROUP_BYTES = 32 * 1024 * 1024
FILE_ROWS = 1_000_000
FILE_BYTES = 256 * 1024 * 1024


class FeatureFileWriter:
    """Writes rows as numbered Parquet files of bounded size; use it as a context manager.

    The same rows in the same pieces give the same bytes.

    Args:
        store: The bucket.
        prefix: The beginning of the files' keys: `<prefix>-00000.parquet`.
        schema: The schema of all rows.
        what: A description of the rows, with which error messages begin.
        model: The model's name.
    """

    def __init__(self, store: ObjectStore, prefix: str, schema: pa.Schema, what: str, model: str) -> None:
        self._store = store
        self._prefix = prefix
        self._schema = schema
        self._what = what
        self._model = model
        self._ends = ExitStack()
        self._pending: list[pa.Table] = []
        self._groups: list[int] = []
        self._written: list[FeatureFile] = []
        self._path = Path()
        self._parquet: pyarrow.parquet.ParquetWriter | None = None

    def __enter__(self) -> Self:
        folder = self._ends.enter_context(tempfile.TemporaryDirectory(prefix="features-"))
        self._path = Path(folder, "rows.parquet")
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.close()

    def write(self, rows: pa.Table) -> None:
        """Add rows.

        Raises:
            FeaturesError: Parquet cannot store a column's type.
        """
        first = 0
        while first < rows.num_rows:
            held = sum(each.num_rows for each in self._pending)
            held_bytes = sum(each.nbytes for each in self._pending)
            row_bytes = max(1, rows.nbytes // rows.num_rows)
            fitting = min(GROUP_ROWS - held, (GROUP_BYTES - held_bytes) // row_bytes)
            if fitting < 1 and self._pending:
                self._write_group()
                continue
            piece = rows.slice(first, max(1, fitting))
            self._pending.append(piece)
            first += piece.num_rows

    def close(self) -> tuple[FeatureFile, ...]:
        """Write the remaining rows, and return the files: at least one, which may have no rows."""
        if self._pending or not self._written:
            self._write_group()
        if self._groups:
            self._end_file()
        return tuple(self._written)

    def _write_group(self) -> None:
        rows = pa.concat_tables(self._pending) if self._pending else self._schema.empty_table()
        self._pending = []
        try:
            if self._parquet is None:
                # A dictionary of values that rarely repeat costs the reader memory and saves nothing.
                repeating = [
                    field.name
                    for field in self._schema
                    if field.name != ENTITY and not pa.types.is_floating(field.type)
                ]
                self._parquet = pyarrow.parquet.ParquetWriter(
                    self._path,
                    self._schema,
                    use_dictionary=repeating,  # pyright: ignore[reportArgumentType]  # its annotation lacks lists
                )
                self._ends.callback(self._parquet.close)
            self._parquet.write_table(rows, row_group_size=max(1, rows.num_rows))
        except pa.ArrowException as error:
            types = ", ".join(f"{field.name} {field.type}" for field in self._schema)
            raise FeaturesError(
                f"{self._what} cannot be written as Parquet; the columns are {types}"[:500],
                remedy="Return columns with types that Parquet supports",
                model=self._model,
            ) from error
        self._groups.append(rows.num_rows)
        if sum(self._groups) >= FILE_ROWS or self._path.stat().st_size >= FILE_BYTES:
            self._end_file()

    def _end_file(self) -> None:
        if self._parquet is not None:
            self._parquet.close()
        self._parquet = None
        key = f"{self._prefix}-{len(self._written):05}.parquet"
        self._written.append(FeatureFile(self._store.put_file(key, self._path), tuple(self._groups)))
        self._groups = []
