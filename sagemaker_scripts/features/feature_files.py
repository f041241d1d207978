"""Parquet files of prepared rows: their entries in an index, and their copies on local disk."""

from __future__ import annotations

import fcntl
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet

from prediction_batches.object_store import InputMissingError, ObjectAlteredError, ObjectStore
from prediction_contract.errors import ContractError
from prediction_contract.manifests.manifest import InputObject
from prediction_contract.text.json_members import member, members_of
from sagemaker_scripts.features.files_elsewhere import Constants, RowsElsewhere, local_parquet
from sagemaker_scripts.sources.source_files import batch_rows


class FeaturesError(ContractError):
    """Prepared features are missing, or do not match their index."""


@dataclass(frozen=True)
class FeatureFile:
    """One Parquet file of prepared rows.

    Attributes:
        object: The file; it is in the data bucket unless it names another bucket.
        row_groups: The number of prepared rows that each of its row groups yields.
        elsewhere: The conversion of its rows to features; None if the platform prepared it.
        constants: The names and values of columns that a file prepared elsewhere does not contain.
    """

    object: InputObject
    row_groups: tuple[int, ...]
    elsewhere: RowsElsewhere | None = None
    constants: Constants = ()

    @property
    def bucket(self) -> str | None:
        """The file's bucket; None for the data bucket."""
        return self.object.bucket

    @property
    def rows(self) -> int:
        """The number of rows."""
        return sum(self.row_groups)

    def fetched(self, store: ObjectStore, folder: Path) -> LocalRows:
        """Return the file's rows on local disk; download the file if there is no copy yet.

        Several processes may call this at the same time; one of them downloads the file.

        Args:
            store: The data bucket.
            folder: The folder for copies.

        Raises:
            InputMissingError: The file is missing.
            ObjectAlteredError: The file has changed since it was indexed.
        """
        path = self._copy(folder)
        with (folder / f"{path.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists():
                self._fetch(store, path)
        return LocalRows(path, self)

    def drop_copy(self, folder: Path) -> None:
        """Delete the local copy, if there is one."""
        self._copy(folder).unlink(missing_ok=True)

    def _copy(self, folder: Path) -> Path:
        return folder / f"{self.object.sha256}.parquet"

    def _fetch(self, store: ObjectStore, path: Path) -> None:
        of_file = store if self.bucket is None else store.with_bucket(self.bucket)
        try:
            of_file.save_verified(self.object, path)
        except (InputMissingError, ObjectAlteredError) as error:
            if self.elsewhere is None:
                raise
            raise type(error)(
                f"{error.what}; the features of {self.elsewhere.rows.partition} are read from this file",
                remedy="Run the features job for this partition again, and do not change files of source "
                f"{self.elsewhere.rows.source} after their delivery",
                model=self.elsewhere.rows.model,
            ) from error

    @classmethod
    def parse(cls, document: object, elsewhere: RowsElsewhere | None) -> Self:
        """Parse a file's entry in an index.

        Args:
            document: The entry.
            elsewhere: The conversion of rows to features, if the files were prepared elsewhere.

        Raises:
            ValueError: The entry is malformed.
        """
        entry = members_of(document, "a file")
        groups = member(entry, "row_groups", list)
        if any(type(rows) is not int or rows < 0 for rows in groups):
            raise ValueError("row_groups must be numbers of rows")
        constants = member(entry, "constants", dict) if "constants" in entry else {}
        return cls(object_of_entry(entry), tuple(groups), elsewhere, tuple(constants.items()))

    def to_document(self) -> dict[str, Any]:
        """Return the file's entry in an index."""
        document = {
            "bucket": self.bucket,
            "key": self.object.key,
            "sha256": self.object.sha256,
            "row_groups": list(self.row_groups),
            "constants": dict(self.constants) or None,
        }
        return {name: value for name, value in document.items() if value is not None}


def object_of_entry(entry: Mapping[str, Any]) -> InputObject:
    """Return the object of an entry in an index.

    Raises:
        ValueError: The entry is malformed.
    """
    bucket = member(entry, "bucket", str) if "bucket" in entry else None
    return InputObject(member(entry, "key", str), member(entry, "sha256", str), bucket)


@dataclass(frozen=True)
class LocalRows:
    """The rows of one file, on local disk.

    Attributes:
        path: The local copy.
        file: The file that was copied.
    """

    path: Path
    file: FeatureFile

    @property
    def schema(self) -> pa.Schema:
        """The schema of all batches."""
        known = self.file.elsewhere and self.file.elsewhere.schema
        return known or pyarrow.parquet.read_schema(self.path)

    def batches(
        self, first_group: int = 0, groups: int | None = None, rows_per_batch: int | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Yield the rows of consecutive row groups in their order.

        Args:
            first_group: The first row group, from 0.
            groups: The number of row groups; None for all from `first_group` on.
            rows_per_batch: The rows of each batch except the last, which may have fewer; None for batches of
                at most about 8 MB.
        """
        end = len(self.file.row_groups) if groups is None else first_group + groups
        found = self._batches(range(first_group, end))
        return found if rows_per_batch is None else rebatch(found, rows_per_batch)

    def _batches(self, groups: Iterable[int]) -> Iterator[pa.RecordBatch]:
        elsewhere = self.file.elsewhere
        if elsewhere is None:
            with local_parquet(self.path) as file:
                for number in groups:
                    yield from file.iter_batches(batch_rows(file, number), row_groups=[number])
            return
        key = self.file.object.key
        with elsewhere.opened(self.path, key) as file:
            for number in groups:
                for table in elsewhere.group(file, number, key, self.file.constants):
                    yield from table.to_batches()


def rebatch(batches: Iterable[pa.RecordBatch], rows: int) -> Iterator[pa.RecordBatch]:
    """Yield the same rows in batches of equal size; the last may have fewer rows."""
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
                # Release the other batches while this one is used.
                whole, held, count = _one(held), [], 0
                yield whole
    if held:
        yield _one(held)


def _one(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    return batches[0] if len(batches) == 1 else pa.concat_batches(batches)
