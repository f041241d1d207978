"""Reads and validates a delivered batch's manifest, and waits for files that arrive late.

When files are copied to the bucket, the done file may arrive before the files that it names.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from os.path import commonpath
from typing import TYPE_CHECKING, Any, NoReturn

from botocore.exceptions import ClientError

from glue_scripts.aws_clients import is_missing
from glue_scripts.errors import BatchFaultError, LoadFailedError
from glue_scripts.files.part_lines import PartSource
from prediction_contract.cleaning.cleaning_rules import NO_CLEANING, Cleaning
from prediction_contract.errors import InvalidManifestError
from prediction_contract.manifests.manifest import MANIFEST_BYTES, Manifest, parse_manifest, validate
from prediction_contract.rows.checksums import RowTally, parse_batch_checksum
from prediction_contract.text.utc_time import format_utc

if TYPE_CHECKING:
    from glue_scripts.progress import Progress
    from prediction_contract.jobs.job_arguments import LoadArguments
    from prediction_contract.rows.schema import PredictionSchema

DELIVER_AGAIN = "Score the batch again, or deliver what is missing and its manifest again"
_PAUSE_SECONDS = 10.0
# Each file takes a request of its own, and a hostile manifest may name a million.
_MAX_DELTA_FILES = 1000


@dataclass(frozen=True)
class DeliveredBatch:
    """A batch's validated manifest, and the values that both stores derive from it.

    Attributes:
        manifest: The manifest.
        cleaning: The rules that turn the files' rows into the stores' rows.
    """

    manifest: Manifest
    cleaning: Cleaning = NO_CLEANING

    @cached_property
    def expected(self) -> RowTally:
        """The number and the checksum of the rows that the manifest declares."""
        return RowTally(rows=self.manifest.row_count, checksum=parse_batch_checksum(self.manifest.checksum))

    @cached_property
    def stored_schema(self) -> PredictionSchema:
        """The columns that the stores hold."""
        return self.cleaning.stored_schema(self.manifest.schema)

    @cached_property
    def sources(self) -> list[PartSource]:
        """A source for each JSON part, in the manifest's order."""
        manifest = self.manifest
        return [
            PartSource(
                manifest.model,
                manifest.batch_id,
                manifest.bucket,
                part,
                self.stored_schema,
                written=manifest.schema,
                cleaning=self.cleaning,
            )
            for part in manifest.json_parts
        ]


def read_manifest(s3: Any, arguments: LoadArguments) -> Manifest:
    """Return the manifest that the load was claimed for.

    Raises:
        BatchFaultError: The manifest is invalid.
        LoadFailedError: The manifest is missing, or was replaced after the load was claimed.
    """
    try:
        answer = s3.get_object(Bucket=arguments.bucket, Key=arguments.manifest_key)
        content = answer["Body"].read(MANIFEST_BYTES + 1)
    except ClientError as error:
        if is_missing(s3, arguments.bucket, arguments.manifest_key, error):
            raise LoadFailedError(
                f"There is no manifest under {arguments.manifest_key}",
                remedy="Deliver the manifest again, or retire the batch",
                model=arguments.model,
                batch_id=arguments.batch_id,
            ) from error
        raise
    try:
        manifest = parse_manifest(content)
    except InvalidManifestError as error:
        # Content that cannot be parsed has no canonical form, so its bytes were digested for the claim.
        _check_digest(arguments, hashlib.sha256(content).hexdigest())
        _refuse(arguments, error)
    _check_digest(arguments, manifest.digest)
    try:
        validate(manifest, bucket=arguments.bucket, key=arguments.manifest_key)
    except InvalidManifestError as error:
        _refuse(arguments, error)
    return manifest


def wait_for_files(s3: Any, manifest: Manifest, arguments: LoadArguments, progress: Progress) -> None:
    """Wait until every file exists, at most `wait_minutes` after the done file was put.

    Later checks refuse the batch if a file is still missing.

    Args:
        s3: A boto3 client.
        manifest: The validated manifest.
        arguments: The load's arguments; without `wait_minutes` this returns at once.
        progress: Reports the key of a missing file.
    """
    if arguments.wait_minutes is None:
        return
    put_at = s3.head_object(Bucket=arguments.bucket, Key=arguments.manifest_key)["LastModified"]
    until = min(put_at, now()) + timedelta(minutes=arguments.wait_minutes)
    while (left := (until - now()).total_seconds()) > 0:
        key = _missing_file(s3, manifest)
        if key is None:
            return
        progress.report("waiting", {"missing": key, "until": format_utc(until)})
        pause(min(left, _PAUSE_SECONDS))


def now() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(UTC)


def pause(seconds: float) -> None:
    """Sleep."""
    time.sleep(seconds)


def _missing_file(s3: Any, manifest: Manifest) -> str | None:
    """Return the key of a file that the manifest names and the bucket lacks, if there is one."""
    parts = {part.key for part in manifest.json_parts}
    # There may be a hundred thousand parts, and a page lists a thousand.
    pages = s3.get_paginator("list_objects_v2")
    listed = pages.paginate(Bucket=manifest.bucket, Prefix=commonpath(sorted(parts))) if parts else ()
    for page in listed:
        parts.difference_update(item["Key"] for item in page.get("Contents", ()))
        if not parts:
            break
    if parts:
        return min(parts)
    log_entry = f"_delta_log/{manifest.delta.version:020d}.json"
    for path in (log_entry, *manifest.delta.files[:_MAX_DELTA_FILES]):
        key = f"{manifest.delta.table}{path}"
        try:
            s3.head_object(Bucket=manifest.bucket, Key=key)
        except ClientError as error:
            if not is_missing(s3, manifest.bucket, key, error):
                raise
            return key
    return None


def _check_digest(arguments: LoadArguments, digest: str) -> None:
    if digest != arguments.manifest_digest:
        raise LoadFailedError(
            f"The manifest has digest {digest}, but the load was claimed for {arguments.manifest_digest}",
            remedy="Do nothing: the new done file has a run of its own that loads the batch",
            model=arguments.model,
            batch_id=arguments.batch_id,
        )


def _refuse(arguments: LoadArguments, error: InvalidManifestError) -> NoReturn:
    raise BatchFaultError(
        error.what, remedy=error.remedy, model=arguments.model, batch_id=arguments.batch_id
    ) from error
