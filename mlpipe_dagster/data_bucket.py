"""The data bucket as Dagster uses it: done files in a window of days, and small JSON documents."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import Any

from prediction_contract.errors import ContractError
from prediction_contract.manifest import MANIFEST_BYTES
from prediction_contract.row import LINE_BYTES
from prediction_contract.s3_layout import done_prefix

_DONE = "done/"


class ObjectMissingError(ContractError):
    """An object that a step needs is not in the bucket."""


class ObjectUnreadableError(ContractError):
    """S3 refuses to give an object that is there."""


@dataclass(frozen=True, slots=True, order=True)
class ListedObject:
    """An object in a listing: its key, the ETag that changes with its content, and when it was put."""

    key: str
    etag: str
    modified_at: str


class DataBucket:
    """One bucket.

    Args:
        client: A boto3 S3 client.
        name: The bucket's name.
    """

    def __init__(self, client: Any, name: str) -> None:
        self._client = client
        self.name = name

    def done_files(self, since: date) -> Iterator[ListedObject]:
        """Yield the done files of batches minted on a UTC date or later, by key."""
        pages = self._client.get_paginator("list_objects_v2").paginate(
            # Keys begin with the date, so history costs nothing: the listing starts after it.
            Bucket=self.name,
            Prefix=_DONE,
            StartAfter=done_prefix(since),
        )
        for page in pages:
            for item in page.get("Contents", ()):
                yield ListedObject(item["Key"], item["ETag"].strip('"'), item["LastModified"].isoformat())

    def read(self, key: str, *, most_bytes: int = MANIFEST_BYTES) -> bytes:
        """Return an object's bytes, one more than allowed of one that is too large.

        Raises:
            ObjectMissingError: There is none.
            ObjectUnreadableError: S3 refuses to give it.
        """
        return self._open(key).read(most_bytes + 1)

    def _open(self, key: str) -> Any:
        try:
            return self._client.get_object(Bucket=self.name, Key=key)["Body"]
        except self._client.exceptions.NoSuchKey as error:
            raise ObjectMissingError(
                f"s3://{self.name}/{key} does not exist", remedy="Run the step that writes it, then this one"
            ) from error
        except self._client.exceptions.ClientError as error:
            raise ObjectUnreadableError(
                f"s3://{self.name}/{key} cannot be read: {error}",
                remedy="Look at the rights to it and to the key it is encrypted with",
            ) from error

    def lines(self, key: str) -> Iterator[bytes]:
        """Yield the lines of a gzip-compressed object as they come, none longer than any row may be.

        Raises:
            ObjectMissingError: There is none.
            ObjectUnreadableError: S3 refuses to give it.
        """
        with gzip.GzipFile(fileobj=self._open(key), mode="rb") as lines:
            while line := lines.readline(LINE_BYTES + 1):
                yield line

    def read_json(self, key: str) -> Any:
        """Return a JSON document that the platform itself has written.

        Raises:
            ObjectMissingError: There is none.
            ValueError: It is no JSON.
        """
        return json.loads(self.read(key))

    def find_json(self, key: str) -> Any | None:
        """Return a JSON document that the platform itself has written, or None if there is none."""
        try:
            return self.read_json(key)
        except ObjectMissingError:
            return None

    def put(self, key: str, content: bytes) -> None:
        """Write an object."""
        self._client.put_object(Bucket=self.name, Key=key, Body=content)
