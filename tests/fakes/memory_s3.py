"""An in-memory bucket with the boto3 S3 calls that the scoring scripts make."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, BinaryIO

from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from collections.abc import Iterator

_START = datetime(2013, 2, 1, tzinfo=UTC)


@dataclass
class MemoryS3:
    """One bucket, in which each put is a second later than the previous one.

    Attributes:
        objects: Bytes by key.
        denied: Keys that may not be read.
        denies_missing: Whether a missing object is reported as access denied.
        conflicts: The number of conditional puts that get a conflict before the first success.
        reads: The key of each object or range that was read, in order.
    """

    objects: dict[str, bytes] = field(default_factory=dict)
    conflicts: int = 0
    denied: set[str] = field(default_factory=set)
    denies_missing: bool = False
    reads: list[str] = field(default_factory=list)
    _written: dict[str, datetime] = field(default_factory=dict)

    def get_object(
        self,
        *,
        Bucket: str,  # noqa: ARG002, N803  # boto3's names
        Key: str,  # noqa: N803
        Range: str = "",  # noqa: N803
        IfMatch: str = "",  # noqa: N803
    ) -> dict[str, Any]:
        """Return an object's body or a range of it, if it has the requested ETag."""
        if Key in self.denied or (self.denies_missing and Key not in self.objects):
            raise _error("AccessDenied", "GetObject")
        if Key not in self.objects:
            raise _error("NoSuchKey", "GetObject")
        content = self.objects[Key]
        if IfMatch and IfMatch != _etag(content):
            raise _error("PreconditionFailed", "GetObject")
        self.reads.append(Key)
        etag = _etag(content)
        if Range:
            first, last = Range.removeprefix("bytes=").split("-")
            content = content[int(first) : int(last) + 1 if last else None]
        return {"Body": io.BytesIO(content), "ContentLength": len(content), "ETag": etag}

    def head_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:  # noqa: ARG002, N803  # boto3's names
        """Return an object's size and the time of its last put."""
        if Key not in self.objects:
            raise _error("404", "HeadObject")
        return {"ContentLength": len(self.objects[Key]), "LastModified": self._written.get(Key, _START)}

    def put_object(
        self,
        *,
        Bucket: str,  # noqa: ARG002, N803  # boto3's names
        Key: str,  # noqa: N803
        Body: bytes | str | BinaryIO,  # noqa: N803
        IfNoneMatch: str = "",  # noqa: N803
    ) -> None:
        """Write an object, unless it must be new and exists already."""
        if IfNoneMatch and self.conflicts:
            self.conflicts -= 1
            raise _error("ConditionalRequestConflict", "PutObject")
        if IfNoneMatch and Key in self.objects:
            raise _error("PreconditionFailed", "PutObject")
        content = Body if isinstance(Body, bytes | str) else Body.read()
        self.objects[Key] = content.encode() if isinstance(content, str) else content
        self._written[Key] = _START + timedelta(seconds=len(self._written))

    def get_paginator(self, operation: str) -> MemoryS3:
        """Return the paginator for listings."""
        assert operation == "list_objects_v2"
        return self

    def paginate(self, *, Bucket: str, Prefix: str, Delimiter: str = "") -> Iterator[dict[str, Any]]:  # noqa: ARG002, N803  # boto3's names
        """Yield a page for each object or common prefix."""
        folders = set()
        for key in sorted(self.objects):
            if not key.startswith(Prefix):
                continue
            head, slash, _ = key[len(Prefix) :].partition("/")
            if Delimiter and slash:
                folders.add(f"{Prefix}{head}/")
            else:
                content = self.objects[key]
                item = {"Key": key, "Size": len(content), "ETag": _etag(content)}
                yield {"Contents": [{**item, "LastModified": self._written.get(key, _START)}]}
        for folder in sorted(folders):
            yield {"CommonPrefixes": [{"Prefix": folder}]}


def _etag(content: bytes) -> str:
    return f'"{hashlib.md5(content).hexdigest()}"'


def _error(code: str, operation: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": code}}, operation)
