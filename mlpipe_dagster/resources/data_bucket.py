"""The data bucket: done files by date, small JSON documents, and reading, listing and deleting objects."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Any

from prediction_contract.errors import ContractError
from prediction_contract.limits import MAX_DELETED_OBJECTS
from prediction_contract.manifests.manifest import MANIFEST_BYTES
from prediction_contract.naming.s3_layout import done_prefix
from prediction_contract.rows.row_contract import read_lines


class ObjectMissingError(ContractError):
    """An object that a step needs does not exist."""


class ObjectUnreadableError(ContractError):
    """S3 refuses to return an existing object."""


class ObjectNotDeletedError(ContractError):
    """S3 refuses to delete an object."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object's key, its size in bytes, and when it was put."""

    key: str
    size: int
    put_at: datetime


@dataclass(frozen=True, slots=True, order=True)
class ListedObject:
    """An object in a listing: its key, its ETag, when it was put, and its size in bytes.

    The same ETag means the same content. Another ETag does not mean other content: under SSE-KMS, S3 gives
    equal bytes a new ETag at each put.
    """

    key: str
    etag: str
    modified_at: str
    size: int = 0


class DataBucket:
    """Access to the data bucket.

    Args:
        client: A boto3 S3 client.
        name: The bucket's name.
    """

    def __init__(self, client: Any, name: str) -> None:
        self._client = client
        self.name = name

    def done_page(self, day: str, *, after: str = "") -> tuple[list[ListedObject], bool]:
        """Return up to 1,000 done files of batches minted on a UTC date, and whether there are more.

        Args:
            day: The date at the start of the files' keys, so that older files are not listed.
            after: The key after which to continue.
        """
        start = {"StartAfter": after} if after else {}
        page = self._client.list_objects_v2(Bucket=self.name, Prefix=done_prefix(day), **start)
        return [_listed(item["Key"], item) for item in page.get("Contents", ())], page["IsTruncated"]

    def look(self, key: str) -> ListedObject | None:
        """Return an object's key, ETag, time and size; None if it does not exist.

        Raises:
            ObjectUnreadableError: S3 refuses to answer.
        """
        try:
            return _listed(key, self._client.head_object(Bucket=self.name, Key=key))
        except self._client.exceptions.ClientError as error:
            if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") == HTTPStatus.NOT_FOUND:
                return None
            raise self._unreadable(key, error) from error

    def read(self, key: str, *, most_bytes: int = MANIFEST_BYTES) -> bytes:
        """Return an object's bytes, at most `most_bytes` + 1, so that the caller can detect a larger object.

        Raises:
            ObjectMissingError: The object does not exist.
            ObjectUnreadableError: S3 refuses to return it.
        """
        return self._open(key).read(most_bytes + 1)

    def sha256(self, key: str) -> str:
        """Return the SHA-256 of an object's bytes in hex, read piece by piece.

        Raises:
            ObjectMissingError: The object does not exist.
            ObjectUnreadableError: S3 refuses to return it.
        """
        return hashlib.file_digest(self._open(key), "sha256").hexdigest()

    def _open(self, key: str) -> Any:
        try:
            return self._client.get_object(Bucket=self.name, Key=key)["Body"]
        except self._client.exceptions.NoSuchKey as error:
            raise ObjectMissingError(
                f"s3://{self.name}/{key} does not exist", remedy="Run the step that writes it, then this one"
            ) from error
        except self._client.exceptions.ClientError as error:
            raise self._unreadable(key, error) from error

    def _unreadable(self, key: str, error: Exception) -> ObjectUnreadableError:
        return ObjectUnreadableError(
            f"s3://{self.name}/{key} cannot be read: {error}",
            remedy="Check the permissions for it and for its encryption key",
        )

    def lines(self, key: str) -> Iterator[bytes]:
        """Yield the lines of a gzip-compressed object, with the limits of `read_lines`.

        Raises:
            ObjectMissingError: The object does not exist.
            ObjectUnreadableError: S3 refuses to return it.
        """
        with gzip.GzipFile(fileobj=self._open(key), mode="rb") as lines:
            yield from read_lines(lines)

    def read_json(self, key: str) -> Any:
        """Return a JSON document that the platform itself has written.

        Raises:
            ObjectMissingError: The object does not exist.
            ValueError: The object is not JSON.
        """
        return json.loads(self.read(key))

    def put(self, key: str, content: bytes) -> None:
        """Write an object."""
        self._client.put_object(Bucket=self.name, Key=key, Body=content)

    def below(self, prefix: str, *, after: str = "") -> Iterator[StoredObject]:
        """Yield the objects below a prefix in key order, optionally after a key; pages are read as needed."""
        start = {"StartAfter": after} if after else {}
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self.name, Prefix=prefix, **start
        )
        for page in pages:
            for item in page.get("Contents", ()):
                yield StoredObject(item["Key"], item["Size"], item["LastModified"])

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; objects that do not exist count as deleted.

        Raises:
            ObjectNotDeletedError: S3 refuses to delete one.
        """
        left = list(keys)
        for first in range(0, len(left), MAX_DELETED_OBJECTS):
            named = [{"Key": key} for key in left[first : first + MAX_DELETED_OBJECTS]]
            answer = self._client.delete_objects(Bucket=self.name, Delete={"Objects": named, "Quiet": True})
            for error in answer.get("Errors", ()):
                raise ObjectNotDeletedError(
                    f"s3://{self.name}/{error.get('Key')} cannot be deleted: {error.get('Message')}",
                    remedy="Check the permissions for it, then run the step again",
                )


def _listed(key: str, described: Mapping[str, Any]) -> ListedObject:
    # HEAD answers give whole seconds, and listings may give fractions.
    put_at = described["LastModified"].replace(microsecond=0)
    size = described["Size"] if "Size" in described else described["ContentLength"]
    return ListedObject(key, described["ETag"].strip('"'), put_at.isoformat(), size)
