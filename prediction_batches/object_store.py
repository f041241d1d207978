"""Access to the data bucket: whole objects, verified inputs, and puts that never overwrite."""

from __future__ import annotations

import hashlib
import os
import random
import threading
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError, HTTPClientError, IncompleteReadError, ResponseStreamingError

from prediction_contract.errors import ContractError
from prediction_contract.manifests.manifest import InputObject

_MISSING = {"NoSuchKey", "404", "NotFound"}
_DENIED = {"AccessDenied", "403"}
_TAKEN = {"PreconditionFailed", "412"}
# S3's error for simultaneous conditional puts of one key. The put must be repeated.
_CONFLICT = {"ConditionalRequestConflict", "409"}
_MAX_CONFLICTS = 5
_FIRST_PAUSE = 0.2
_PIECE_BYTES = 1024 * 1024
# The number of consecutive broken downloads without a whole piece after which the error is raised.
_MAX_BREAKS = 5
# Threads may share a client but must not create clients at the same time.
_CLIENT_LOCK = threading.Lock()
AWS_CONFIG = Config(connect_timeout=5, read_timeout=60, retries={"mode": "standard", "total_max_attempts": 6})


class InputMissingError(ContractError):
    """An object that a job needs is not in the bucket."""


class ObjectTooLargeError(ContractError):
    """An object has more bytes than may be read at once."""


class ObjectAlteredError(ContractError):
    """An object's bytes do not match its SHA-256."""


class ListingEntry(NamedTuple):
    """An object in a listing: its key, its time of writing in whole seconds, and its size in bytes."""

    key: str
    modified: datetime
    size: int


def input_object(key: str, content: bytes) -> InputObject:
    """Return an `InputObject` with the SHA-256 of the bytes."""
    return InputObject(key, hashlib.sha256(content).hexdigest())


class ObjectStore:
    """One bucket.

    Args:
        client: A boto3 S3 client.
        bucket: The bucket's name.
    """

    def __init__(self, client: Any, bucket: str) -> None:
        self.client = client
        self.bucket = bucket

    @classmethod
    def of_job(cls, bucket: str) -> ObjectStore:
        """Return a bucket, accessed with the job's own credentials."""
        with _CLIENT_LOCK:
            return cls(boto3.client("s3", config=AWS_CONFIG), bucket)

    def with_bucket(self, bucket: str) -> ObjectStore:
        """Return another bucket with the same client."""
        return type(self)(self.client, bucket)

    def address(self, key: str) -> str:
        """Return the S3 URI of an object or a table."""
        return f"s3://{self.bucket}/{key}"

    def find(self, key: str, *, largest: int | None = None) -> bytes | None:
        """Return an object's bytes, or None if it does not exist.

        Raises:
            ObjectTooLargeError: The object has more bytes than `largest`.
        """
        try:
            found = self.client.get_object(Bucket=self.bucket, Key=key)
            if largest is not None and found["ContentLength"] > largest:
                found["Body"].close()
                raise ObjectTooLargeError(
                    f"s3://{self.bucket}/{key} has {found['ContentLength']} bytes, "
                    f"but at most {largest} are allowed",
                    remedy="Write a smaller object",
                )
            return found["Body"].read()
        except ClientError as error:
            code = error.response["Error"]["Code"]
            # Without permission to list the bucket, S3 denies access to an object that does not exist.
            if code in _MISSING:
                return None
            if code in _DENIED and all(item.key != key for item in self.listing(key)):
                return None
            raise

    def get(self, key: str, *, largest: int | None = None) -> bytes:
        """Return an object's bytes.

        Raises:
            InputMissingError: The object does not exist.
            ObjectTooLargeError: The object has more bytes than `largest`.
        """
        content = self.find(key, largest=largest)
        if content is None:
            raise self._missing(key)
        return content

    def get_verified(self, source: InputObject) -> bytes:
        """Return the bytes of an object whose SHA-256 is known.

        Raises:
            InputMissingError: The object does not exist.
            ObjectAlteredError: The object has another SHA-256.
        """
        content = self.get(source.key)
        if input_object(source.key, content).sha256 != source.sha256:
            raise self._altered(source)
        return content

    def save_verified(self, source: InputObject, path: Path) -> None:
        """Save an object whose SHA-256 is known as a file, which appears once it is complete.

        After a broken connection, the download resumes where it stopped.

        Raises:
            InputMissingError: The object does not exist.
            ObjectAlteredError: The object has another SHA-256.
        """
        partial = path.with_name(f"{path.name}.partial")
        try:
            with partial.open("wb") as file:
                found = self.save(source.key, file)
        except ClientError as error:
            if error.response["Error"]["Code"] not in _MISSING:
                raise
            raise self._missing(source.key) from error
        if found != source.sha256:
            raise self._altered(source)
        partial.replace(path)

    def save(self, key: str, file: BinaryIO, *, etag: str | None = None) -> str:
        """Write an object's bytes to a file, and return their SHA-256.

        Args:
            key: The object's key.
            file: The file for its bytes.
            etag: The ETag of the version, without quotes; None for the newest version.

        Raises:
            ClientError: The object does not exist or was overwritten.
        """
        digest = hashlib.sha256()
        version = {} if etag is None else {"IfMatch": f'"{etag}"'}
        done, size, broken = 0, 1, 0
        while done < size:
            found = self.client.get_object(
                Bucket=self.bucket, Key=key, **version, **({"Range": f"bytes={done}-"} if done else {})
            )
            version = {"IfMatch": found["ETag"]}
            first, size = done, done + found["ContentLength"]
            try:
                while content := found["Body"].read(_PIECE_BYTES):
                    file.write(content)
                    digest.update(content)
                    done += len(content)
            except (HTTPClientError, ResponseStreamingError, IncompleteReadError):
                broken = broken + 1 if done - first < _PIECE_BYTES else 1
                if broken == _MAX_BREAKS:
                    raise
        return digest.hexdigest()

    def put_file(self, key: str, path: Path) -> InputObject:
        """Write a file of at most 5 GB as an object, or replace it, and return its key and SHA-256."""
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
            self.client.put_object(Bucket=self.bucket, Key=key, Body=file)
        return InputObject(key, digest)

    def _missing(self, key: str) -> InputMissingError:
        return InputMissingError(
            f"s3://{self.bucket}/{key} does not exist", remedy="Run the step that writes it, then this one"
        )

    def _altered(self, source: InputObject) -> ObjectAlteredError:
        return ObjectAlteredError(
            f"s3://{self.bucket}/{source.key} does not have SHA-256 {source.sha256}",
            remedy="Run the step that wrote it again, or restore the object's earlier version",
        )

    def put(self, key: str, content: bytes) -> InputObject:
        """Write or replace an object, and return its key and SHA-256."""
        self.client.put_object(Bucket=self.bucket, Key=key, Body=content)
        return input_object(key, content)

    def put_new(self, key: str, content: bytes | BinaryIO) -> bool:
        """Write an object unless it exists, and return whether this call wrote it.

        If the response to a successful put was lost, its repetition returns False. So compare the existing
        object.

        Args:
            key: The object's key.
            content: Its bytes, or a file with at most 5 GB.
        """
        for conflict in range(_MAX_CONFLICTS):
            if not isinstance(content, bytes):
                content.seek(0)
            try:
                self.client.put_object(Bucket=self.bucket, Key=key, Body=content, IfNoneMatch="*")
            except ClientError as error:
                code = error.response["Error"]["Code"]
                if code in _TAKEN:
                    return False
                if code not in _CONFLICT or conflict == _MAX_CONFLICTS - 1:
                    raise
                time.sleep(random.uniform(0, _FIRST_PAUSE * 2**conflict))  # noqa: S311  # spreads load, guards nothing
            else:
                return True
        return False

    def listing(self, prefix: str) -> list[ListingEntry]:
        """Return all objects below a prefix, by key."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        return [
            ListingEntry(item["Key"], item["LastModified"], item["Size"])
            for page in pages
            for item in page.get("Contents", ())
        ]

    def folders(self, prefix: str) -> list[str]:
        """Return the names of the folders directly below a prefix, by name."""
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=prefix, Delimiter="/"
        )
        return [item["Prefix"][len(prefix) : -1] for page in pages for item in page.get("CommonPrefixes", ())]


def storage_options(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return deltalake's options for S3, with conditional puts for commits.

    deltalake finds credentials and, on AWS, the endpoint by itself, like every AWS client.
    """
    given = os.environ if environment is None else environment
    options = {"conditional_put": "etag", "timeout": "60s", "connect_timeout": "5s"}
    region = given.get("AWS_REGION") or given.get("AWS_DEFAULT_REGION")
    if region:
        options["AWS_REGION"] = region
    endpoint = given.get("AWS_ENDPOINT_URL_S3") or given.get("AWS_ENDPOINT_URL")
    if endpoint:
        options["AWS_ENDPOINT_URL"] = endpoint
        if endpoint.startswith("http://"):
            options["AWS_ALLOW_HTTP"] = "true"
    return options
