"""The files of a batch whose done file came before them, as it may where they are copied to the bucket."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from os.path import commonpath
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from glue_scripts.files.missing_objects import is_missing
from prediction_contract.text.utc_time import format_utc

if TYPE_CHECKING:
    from glue_scripts.progress import Progress
    from prediction_contract.jobs.job_arguments import LoadArguments
    from prediction_contract.manifests.manifest import Manifest

_PAUSE_SECONDS = 10.0
# Each is asked for by itself; a hostile manifest may name a million.
_MAX_DELTA_FILES = 1000


def wait_for_files(s3: Any, manifest: Manifest, arguments: LoadArguments, progress: Progress) -> None:
    """Wait until every file is there, or the declared while since the done file was put is over.

    What is missing then is for the checks that follow to refuse.

    Args:
        s3: A boto3 client.
        manifest: The validated manifest.
        arguments: The load's; `wait_minutes` is the while, None for none.
        progress: Receives the key of the missing file.
    """
    if arguments.wait_minutes is None:
        return
    put_at = s3.head_object(Bucket=arguments.bucket, Key=arguments.manifest_key)["LastModified"]
    until = min(put_at, now()) + timedelta(minutes=arguments.wait_minutes)
    while (left := (until - now()).total_seconds()) > 0:
        key = _missing_file(s3, manifest)
        if key is None:
            return
        progress.tell("waiting", {"missing": key, "until": format_utc(until)})
        pause(min(left, _PAUSE_SECONDS))


def now() -> datetime:
    """Return the present moment, UTC."""
    return datetime.now(UTC)


def pause(seconds: float) -> None:
    """Let some time pass."""
    time.sleep(seconds)


def _missing_file(s3: Any, manifest: Manifest) -> str | None:
    """Return the key of one file that the manifest names and the bucket lacks; None if it lacks none."""
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
