"""Files of prepared rows: written in row groups of bounded size, kept on local disk while they are read."""

from __future__ import annotations

import fcntl
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet

from prediction_batches.object_store import ObjectStore
from prediction_contract.errors import ContractError
from prediction_contract.manifests.manifest import InputObject
from prediction_contract.text.json_members import member, members_of

# One row group is read at a time, and is the least that scoring divides its work by.
GROUP_ROWS = 100_000
GROUP_BYTES = 32 * 1024 * 1024
FILE_ROWS = 1_000_000
FILE_BYTES = 256 * 1024 * 1024
# As much of each column's packed values is held while a row group is read.
_BUFFER_BYTES = 256 * 1024


class FeaturesError(ContractError):
    """Prepared features are missing, or not what their index says."""


@dataclass(frozen=True)
class FeatureFile:
    """One Parquet file of prepared rows.

    Attributes:
        object: The file; it lies in the data bucket unless it names another.
        row_groups: How many rows each of its row groups gives.
    """

    object: InputObject
    row_groups: tuple[int, ...]

    @property
    def bucket(self) -> str | None:
        """Its bucket; None for the data bucket."""
        return self.object.bucket

    @property
    def rows(self) -> int:
        """The rows that it gives."""
        return sum(self.row_groups)

    def fetched(self, store: ObjectStore, folder: Path) -> LocalRows:
        """Return its rows on local disk, after fetching it unless it is there.

        Several processes may ask for it at once: one of them fetches it.

        Args:
            store: The data bucket.
            folder: Where copies are kept.

        Raises:
            InputMissingError: The file is gone.
            ObjectAlteredError: It is not the one that was indexed.
        """
        path = folder / f"{self.object.sha256}.parquet"
        with (folder / f"{path.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists():
                of_file = store if self.bucket is None else store.beside(self.bucket)
                of_file.save_verified(self.object, path)
        return LocalRows(path)

    @classmethod
    def parse(cls, document: object) -> Self:
        """Return a file of its entry in an index.

        Raises:
            ValueError: The entry has another form.
        """
        entry = members_of(document, "a file")
        groups = member(entry, "row_groups", list)
        if any(type(rows) is not int or rows < 0 for rows in groups):
            raise ValueError("row_groups holds something else than numbers of rows")
        return cls(object_of_entry(entry), tuple(groups))

    def to_document(self) -> dict[str, Any]:
        """Return its entry in an index."""
        bucket = {} if self.bucket is None else {"bucket": self.bucket}
        return {
            **bucket,
            "key": self.object.key,
            "sha256": self.object.sha256,
            "row_groups": list(self.row_groups),
        }


def object_of_entry(entry: Mapping[str, Any]) -> InputObject:
    """Return the object that an entry of an index names.

    Raises:
        ValueError: The entry has another form.
    """
    bucket = member(entry, "bucket", str) if "bucket" in entry else None
    return InputObject(member(entry, "key", str), member(entry, "sha256", str), bucket)


class FeatureFileWriter:
    """Writes rows as Parquet files of bounded size, whose names count from 0.

    Use it as a context. The same rows, given in the same pieces, make the same bytes.

    Args:
        store: The bucket.
        prefix: What their keys begin with: `<prefix>-00000.parquet`.
        schema: Of all rows.
        what: What they hold, to begin a sentence with.
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
            FeaturesError: A column is of a type that Parquet does not have.
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
        """Write what is left, and return the files: at least one, which may have no row."""
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
                self._parquet = pyarrow.parquet.ParquetWriter(self._path, self._schema)
                self._ends.callback(self._parquet.close)
            self._parquet.write_table(rows, row_group_size=max(1, rows.num_rows))
        except pa.ArrowException as error:
            types = ", ".join(f"{field.name} {field.type}" for field in self._schema)
            raise FeaturesError(
                f"{self._what} cannot be written as Parquet, with the columns {types}"[:500],
                remedy="Return columns of types that Parquet has",
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


@dataclass(frozen=True)
class LocalRows:
    """The rows of one file, on local disk.

    Attributes:
        path: The file.
    """

    path: Path

    @property
    def schema(self) -> pa.Schema:
        """The columns of each batch."""
        return pyarrow.parquet.read_schema(self.path)

    def batches(
        self, first_group: int = 0, groups: int | None = None, rows_per_batch: int = GROUP_ROWS
    ) -> Iterator[pa.RecordBatch]:
        """Yield the rows of some row groups in their order.

        Args:
            first_group: The first row group, counted from 0.
            groups: How many row groups; None for all from the first on.
            rows_per_batch: The rows of each batch but the last, which may have fewer.
        """
        with pyarrow.parquet.ParquetFile(self.path, buffer_size=_BUFFER_BYTES) as file:
            end = file.num_row_groups if groups is None else first_group + groups
            found = file.iter_batches(rows_per_batch, row_groups=range(first_group, end))
            yield from of_size(found, rows_per_batch)


def of_size(batches: Iterable[pa.RecordBatch], rows: int) -> Iterator[pa.RecordBatch]:
    """Yield the same rows in batches of one size; the last may have fewer."""
    held: list[pa.RecordBatch] = []
    count = 0
    for batch in batches:
        first = 0
        while first < batch.num_rows:
            piece = batch.slice(first, rows - count)
            held.append(piece)
            first += piece.num_rows
            count += piece.num_rows
            if count == rows:
                yield _one(held)
                held, count = [], 0
    if held:
        yield _one(held)


def _one(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    return batches[0] if len(batches) == 1 else pa.concat_batches(batches)
