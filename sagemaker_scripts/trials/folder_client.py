"""A folder with the layout of a bucket, behind the reading calls of boto3's S3 client that jobs use."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from prediction_batches.object_store import ObjectStore

_RANGE = re.compile("bytes=([0-9]+)-([0-9]+)")


class FolderClient:
    """Reads files as objects; every bucket is the same folder, and nothing can be written.

    Args:
        folder: The folder; the keys of objects are the files' paths below it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()

    def get_object(
        self,
        *,
        Bucket: str,  # noqa: N803  # boto3's names
        Key: str,  # noqa: N803
        Range: str = "",  # noqa: N803
        IfMatch: str = "",  # noqa: N803
    ) -> dict[str, Any]:
        """Return the bytes of a file, or a range of them."""
        path = self._path(Bucket, Key)
        etag = _etag(path)
        if IfMatch and IfMatch != etag:
            raise _refusal("PreconditionFailed", f"{path} was overwritten")
        found = _RANGE.fullmatch(Range)
        with path.open("rb") as file:
            file.seek(int(found[1]) if found else 0)
            content = file.read(int(found[2]) - int(found[1]) + 1 if found else -1)
        return {"Body": io.BytesIO(content), "ETag": etag, "ContentLength": len(content)}

    def head_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:  # noqa: N803  # boto3's names
        """Return a file's metadata without reading the file."""
        entry = _entry(Key, self._path(Bucket, Key))
        return {"ContentLength": entry["Size"], **{name: entry[name] for name in ("ETag", "LastModified")}}

    def get_paginator(self, operation: str) -> _Listing:
        """Return the paginator that lists the files; there are no other paginated operations."""
        if operation != "list_objects_v2":
            raise NotImplementedError(operation)
        return _Listing(self.folder)

    def _path(self, bucket: str, key: str) -> Path:
        path = self.folder / key
        # In a bucket, a//b and a/b are different keys, and nothing is above the bucket.
        is_key = path.is_relative_to(self.folder) and path.relative_to(self.folder).as_posix() == key
        if not is_key or ".." in path.parts or not path.is_file():
            raise _refusal("NoSuchKey", f"{self.folder} has no file {key} for the bucket {bucket}")
        return path


class FolderStore(ObjectStore):
    """A folder as a bucket; Delta tables are folders below it."""

    client: FolderClient

    def address(self, key: str) -> str:
        """Return the path of an object or a table."""
        return str(self.client.folder / key)


class _Listing:
    """A listing with a single page, in the order of keys."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def paginate(
        self,
        *,
        Bucket: str,  # noqa: ARG002, N803  # all buckets are this folder
        Prefix: str = "",  # noqa: N803
        Delimiter: str = "",  # noqa: N803
    ) -> Iterator[Mapping[str, Any]]:
        """Yield the only page."""
        contents, folders = [], dict[str, None]()
        for key, path in self._files(Prefix):
            rest, is_below, _ = key[len(Prefix) :].partition(Delimiter) if Delimiter else (key, "", "")
            if is_below:
                folders[f"{Prefix}{rest}{Delimiter}"] = None
                continue
            contents.append(_entry(key, path))
        yield {"Contents": contents, "CommonPrefixes": [{"Prefix": each} for each in folders]}

    def _files(self, prefix: str) -> list[tuple[str, Path]]:
        # Search only the folder that can contain keys with the prefix.
        beginning = self._folder / prefix.rpartition("/")[0]
        if ".." in beginning.parts or not beginning.is_relative_to(self._folder):
            return []
        found = (path for path in beginning.rglob("*") if path.is_file())
        keys = ((path.relative_to(self._folder).as_posix(), path) for path in found)
        return sorted(pair for pair in keys if pair[0].startswith(prefix))


def _entry(key: str, path: Path) -> dict[str, Any]:
    status = path.stat()
    modified = datetime.fromtimestamp(int(status.st_mtime), UTC)
    return {"Key": key, "Size": status.st_size, "ETag": _etag(path), "LastModified": modified}


def _etag(path: Path) -> str:
    status = path.stat()
    return f'"{status.st_mtime_ns:x}-{status.st_size:x}"'


def _refusal(code: str, message: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, "GetObject")
