"""Transfers between S3 and local files, with a job's own credentials."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from infra.local.job_executor.jobs.job_records import JobExecutionError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


@dataclass(frozen=True)
class S3Location:
    """A bucket and a key or key prefix."""

    bucket: str
    key: str

    @classmethod
    def parse(cls, uri: str) -> S3Location:
        """Parse an `s3://bucket/key` address.

        Raises:
            JobExecutionError: The text is not such an address.
        """
        scheme, _, rest = uri.partition("://")
        bucket, _, key = rest.partition("/")
        if scheme != "s3" or not bucket:
            raise JobExecutionError(f"ClientError: {uri} is not an s3:// address.")
        return cls(bucket, key)

    def under(self, relative: str) -> S3Location:
        """Return the location of a relative path below this prefix."""
        return S3Location(self.bucket, f"{self.key.rstrip('/')}/{relative}" if self.key else relative)


def inside(directory: Path, relative: str) -> Path:
    """Return a path below a directory.

    Raises:
        JobExecutionError: The relative path, which comes from an S3 key, leads out of the directory.
    """
    target = (directory / relative).resolve()
    if not target.is_relative_to(directory.resolve()) or target == directory.resolve():
        raise JobExecutionError(
            f"ClientError: the S3 key {relative!r} would be written outside its directory."
        )
    return target


class S3Transfer:
    """The downloads and uploads of one job.

    Args:
        client: A boto3 S3 client with the credentials of the job's role.
    """

    def __init__(self, client: Any) -> None:
        self._client = client

    def download_object(self, uri: str, target: Path) -> None:
        """Download one object to a file."""
        location = S3Location.parse(uri)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._client.download_file(location.bucket, location.key, str(target))
        except (BotoCoreError, ClientError) as error:
            raise JobExecutionError(f"ClientError: {uri} cannot be downloaded: {error}") from error

    def keys(self, uri: str, data_type: str) -> list[tuple[S3Location, str]]:
        """List the objects of a data source in key order, each with its path below the local directory.

        Args:
            uri: The address of a key prefix, or of a manifest that lists objects.
            data_type: `S3Prefix` or `ManifestFile`.

        Raises:
            JobExecutionError: There are no objects, or the manifest cannot be read.
        """
        location = S3Location.parse(uri)
        try:
            if data_type == "ManifestFile":
                found = self._manifest(location)
            else:
                found = [
                    (S3Location(location.bucket, key), _below(location.key, key))
                    for key in self._list(location)
                ]
        except (BotoCoreError, ClientError, ValueError) as error:
            raise JobExecutionError(f"ClientError: Data download failed for {uri}: {error}") from error
        if not found:
            raise JobExecutionError(
                f'ClientError: No S3 objects found under S3 URL "{uri}" given in input data source. '
                f"Please ensure that the bucket exists in the selected region and that objects exist "
                f"under that S3 prefix."
            )
        return found

    def download(self, objects: Iterable[tuple[S3Location, str]], directory: Path) -> None:
        """Download listed objects below a directory."""
        directory.mkdir(parents=True, exist_ok=True)
        for location, relative in objects:
            self.download_object(f"s3://{location.bucket}/{location.key}", inside(directory, relative))

    def upload_tree(self, directory: Path, uri: str) -> int:
        """Upload all files below a directory to a prefix, and return their number."""
        files = sorted(path for path in directory.rglob("*") if path.is_file()) if directory.is_dir() else []
        for path in files:
            self.upload_object(path, S3Location.parse(uri).under(path.relative_to(directory).as_posix()))
        return len(files)

    def upload_object(self, path: Path, location: S3Location) -> None:
        """Upload one file."""
        try:
            self._client.upload_file(str(path), location.bucket, location.key)
        except (BotoCoreError, ClientError, OSError) as error:
            raise JobExecutionError(
                f"ClientError: Data upload failed for s3://{location.bucket}/{location.key}: {error}"
            ) from error

    def _list(self, location: S3Location) -> list[str]:
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=location.bucket, Prefix=location.key
        )
        return sorted(
            item["Key"] for page in pages for item in page.get("Contents", ()) if item["Key"][-1] != "/"
        )

    def _manifest(self, location: S3Location) -> list[tuple[S3Location, str]]:
        body = self._client.get_object(Bucket=location.bucket, Key=location.key)["Body"].read()
        head, *names = json.loads(body)
        prefix = S3Location.parse(head["prefix"])
        return [(S3Location(prefix.bucket, prefix.key + name), name) for name in names]


def _below(prefix: str, key: str) -> str:
    """Return an object's path below the local directory, as SageMaker does for a prefix."""
    if prefix in {"", key}:
        return key.rsplit("/", 1)[-1] if prefix else key
    if prefix.endswith("/"):
        return key[len(prefix) :]
    if key.startswith(f"{prefix}/"):
        return key[len(prefix) + 1 :]
    # The prefix ends inside a name, so paths begin after the last whole folder.
    return key[prefix.rfind("/") + 1 :]
