"""Reads sources' objects: lists them once, and reads the version that was listed."""

from __future__ import annotations

import io
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
from botocore.exceptions import ClientError

from prediction_batches.object_store import ObjectStore
from prediction_contract.errors import ContractError

_CHUNK = 8 * 1024 * 1024
_CHANGED = {"PreconditionFailed", "412"}
_GONE = {"NoSuchKey", "404", "NotFound"}


class SourceError(ContractError):
    """A source does not match its declaration, or cannot be read."""


class SourceMissingError(SourceError):
    """A source has no data for the partition itself."""


@dataclass(frozen=True, slots=True)
class SourceRead:
    """The record of an object, table or query that was read for a source, for the features' index.

    Attributes:
        source: The source's name.
        bucket: The bucket of an object or a Delta table.
        key: The object's key, or the table's path.
        size: The object's bytes.
        etag: The object's ETag.
        version: The Delta table's version.
        query_id: The query's id.
        rows: The query's rows.
        sha256: The digest of the query's rows.
    """

    source: str
    bucket: str | None = None
    key: str | None = None
    size: int | None = None
    etag: str | None = None
    version: int | None = None
    query_id: str | None = None
    rows: int | None = None
    sha256: str | None = None

    def to_document(self) -> dict[str, Any]:
        """Return the members that have a value."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, slots=True)
class SourceObject:
    """The version of an object that was found.

    Attributes:
        bucket: The object's bucket.
        key: The object's key.
        size: The object's size in bytes.
        etag: The object's ETag, without quotes; None if it is not known.
    """

    bucket: str
    key: str
    size: int
    etag: str | None

    @property
    def address(self) -> str:
        """The object's address, for people."""
        return f"s3://{self.bucket}/{self.key}"

    def as_read(self, source: str) -> SourceRead:
        """Return the object's record for the features' index."""
        return SourceRead(source, bucket=self.bucket, key=self.key, size=self.size, etag=self.etag)


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A Parquet file of a source.

    Attributes:
        object: The file.
        constants: The name and value of each column that is not in the file because all its rows have the
            same value.
    """

    object: SourceObject
    constants: tuple[tuple[str, str | None], ...] = ()


class SourceFiles(NamedTuple):
    """The Parquet files of a source for a partition.

    Attributes:
        files: The files, in the order of their rows.
        given: The columns of a Delta table to read, whose files may lack some; None for plain files.
        reads: The records for the features' index.
    """

    files: list[SourceFile]
    given: pa.Schema | None
    reads: list[SourceRead]


def objects_below(store: ObjectStore, prefix: str) -> list[SourceObject]:
    """Return all objects whose keys begin with a prefix, by key."""
    pages = store.client.get_paginator("list_objects_v2").paginate(Bucket=store.bucket, Prefix=prefix)
    return [
        SourceObject(store.bucket, item["Key"], item["Size"], item["ETag"].strip('"'))
        for page in pages
        for item in page.get("Contents", ())
    ]


def find_object(store: ObjectStore, key: str) -> tuple[SourceObject, bytes] | None:
    """Return an object and its bytes, or None if it does not exist."""
    try:
        answer = store.client.get_object(Bucket=store.bucket, Key=key)
    except ClientError as error:
        if error.response["Error"]["Code"] in _GONE:
            return None
        if store.find(key) is None:
            return None
        raise
    content = answer["Body"].read()
    return SourceObject(store.bucket, key, len(content), answer["ETag"].strip('"')), content


def save_object(store: ObjectStore, found: SourceObject, path: Path) -> str:
    """Save the found version of an object as a file, and return the SHA-256 of its bytes.

    Raises:
        SourceError: The object was overwritten or deleted since.
    """
    try:
        with path.open("wb") as file:
            return store.save(found.key, file, etag=found.etag)
    except ClientError as error:
        raise _as_changed(found, error) from error


def open_object(store: ObjectStore, found: SourceObject, *, in_order: bool) -> Any:
    """Return a binary file that reads ranges of the found version of an object.

    Reading raises SourceError if the object was overwritten or deleted since.

    Args:
        store: The object's bucket.
        found: The object.
        in_order: Whether the file is read from beginning to end; otherwise each read is one range.
    """
    file = _ObjectFile(store, found)
    if found.size <= _CHUNK:
        return io.BytesIO(file.read(found.size) if found.size else b"")
    return io.BufferedReader(file, _CHUNK) if in_order else file


class _ObjectFile(io.RawIOBase):
    """Reads ranges of one version of an object."""

    def __init__(self, store: ObjectStore, found: SourceObject) -> None:
        super().__init__()
        self._store = store
        self._found = found
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._found.size}[whence]
        self._place = max(0, base + offset)
        return self._place

    def readinto(self, buffer: Any) -> int:
        last = min(self._place + len(buffer), self._found.size) - 1
        if last < self._place:
            return 0
        content = self._range(self._place, last)
        buffer[: len(content)] = content
        self._place += len(content)
        return len(content)

    def _range(self, first: int, last: int) -> bytes:
        try:
            answer = self._store.client.get_object(
                Bucket=self._found.bucket,
                Key=self._found.key,
                Range=f"bytes={first}-{last}",
                IfMatch=f'"{self._found.etag}"',
            )
        except ClientError as error:
            raise _as_changed(self._found, error) from error
        return answer["Body"].read()


def _as_changed(found: SourceObject, error: ClientError) -> Exception:
    if error.response["Error"]["Code"] not in _CHANGED | _GONE:
        return error
    return SourceError(
        f"{found.address} was overwritten or deleted while it was read",
        remedy="Start the job again, and do not change a source's files after their delivery",
    )
