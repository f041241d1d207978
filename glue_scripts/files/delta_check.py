"""Parses the log entry of the batch's Delta commit, within limits, and compares it with the manifest."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import unquote

from botocore.exceptions import ClientError
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from glue_scripts.aws_clients import is_missing
from glue_scripts.errors import BatchFaultError
from glue_scripts.files.delivered_batch import DELIVER_AGAIN
from prediction_contract.errors import SchemaError
from prediction_contract.manifests.manifest_reader import LARGEST_NUMBER
from prediction_contract.stores.delta_table import BATCH_COLUMN, check_delta_table, deltalake_message
from prediction_contract.text.canonical_json import InvalidJsonError, count_values, parse_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prediction_contract.manifests.manifest import Manifest

# Enough for tens of thousands of files; a batch of a billion rows has a thousand.
MAX_BYTES = 64 * 1024 * 1024
MAX_VALUES = 2_000_000
# deltalake marks S3 errors with this text while it reads a checkpoint; elsewhere it raises OSError.
_S3_ERROR_MARK = "External: "


@dataclass(frozen=True, slots=True)
class CommittedFiles:
    """The data files that a commit adds to a table and removes from it, relative to the table.

    Attributes:
        added: The size in bytes of each added file, by path.
        removed: The paths of the removed files.
    """

    added: Mapping[str, int]
    removed: frozenset[str]


def check_delta(s3: Any, manifest: Manifest, options: Mapping[str, str]) -> None:
    """Compare the manifest with the model's Delta table as of the manifest's version.

    The rows in the files are counted later, when the files are staged.

    Args:
        s3: A boto3 client.
        manifest: The validated manifest.
        options: deltalake's storage options for the bucket.

    Raises:
        BatchFaultError: The version adds other files than the manifest names, a file is missing or truncated,
            or the table cannot be loaded as plain Parquet with the manifest's schema.
    """
    committed = _committed(s3, manifest)
    added = committed.added
    if added.keys() != set(manifest.delta.files):
        strange = sorted(added.keys() ^ set(manifest.delta.files))
        _fault(
            manifest,
            f"Version {manifest.delta.version} of the Delta table does not add the files that the manifest "
            f"names: {len(strange)} files differ, first {strange[0][:200]}",
        )
    for path, size in added.items():
        _check_file(s3, manifest, path, size)
    table = _opened(manifest, options, manifest.delta.version)
    try:
        check_delta_table(
            manifest.schema,
            table_schema=table.schema().to_json(),
            reader_version=table.protocol().min_reader_version,
            writer_version=table.protocol().min_writer_version,
            partition_columns=table.metadata().partition_columns,
            settings=table.metadata().configuration,
        )
    except SchemaError as error:
        _fault(manifest, error.what, error.remedy, error)
    if committed.removed:
        _check_removed(manifest, options, committed.removed)


def _opened(manifest: Manifest, options: Mapping[str, str], version: int) -> DeltaTable:
    uri = f"s3://{manifest.bucket}/{manifest.delta.table.rstrip('/')}"
    return opened_table(uri, version, options, model=manifest.model, batch_id=manifest.batch_id)


def opened_table(
    uri: str, version: int, options: Mapping[str, str], *, model: str, batch_id: str
) -> DeltaTable:
    """Return a version of a Delta table.

    Raises:
        BatchFaultError: The table does not exist, or its log cannot be read up to that version.
        DeltaError, OSError: A request to S3 failed.
    """
    try:
        return DeltaTable(uri, version=version, storage_options=dict(options))
    except DeltaError as error:
        if _S3_ERROR_MARK in str(error):
            raise
        words = deltalake_message(error)
        what = (
            f"There is no Delta table under {uri}"
            if isinstance(error, TableNotFoundError)
            else f"The log of the Delta table cannot be read up to version {version}: {words}"
        )
        raise BatchFaultError(what, remedy=DELIVER_AGAIN, model=model, batch_id=batch_id) from error


def _check_removed(manifest: Manifest, options: Mapping[str, str], removed: frozenset[str]) -> None:
    """Refuse a commit that removes any file not known to be of an earlier attempt at this batch."""
    version = manifest.delta.version
    own: set[str] = set()
    if version:
        files = _opened(manifest, options, version - 1).get_add_actions(flatten=True)
        ends = [f"{end}.{BATCH_COLUMN}" for end in ("min", "max")]
        if set(ends) <= set(files.schema.names):
            columns = [files[name].to_pylist() for name in ("path", *ends)]
            batch = (manifest.batch_id, manifest.batch_id)
            own = {unquote(path) for path, *found in zip(*columns, strict=True) if tuple(found) == batch}
    foreign = sorted(removed - own)
    if foreign:
        _fault(
            manifest,
            f"Version {version} of the Delta table removes {len(foreign)} files that may hold rows of other "
            f"batches, first {foreign[0][:200]}",
            "Score a new batch. If rows of other batches are gone, restore the table's previous version",
        )


def _committed(s3: Any, manifest: Manifest) -> CommittedFiles:
    """Return the files that the manifest's version of the table added and removed."""
    version = manifest.delta.version
    key = f"{manifest.delta.table}_delta_log/{version:020d}.json"
    try:
        answer = s3.get_object(Bucket=manifest.bucket, Key=key)
    except ClientError as error:
        if is_missing(s3, manifest.bucket, key, error):
            _fault(manifest, f"The Delta table has no log entry for version {version}", cause=error)
        raise
    try:
        return committed_files(answer["Body"].read(MAX_BYTES + 1))
    except SchemaError as error:
        _fault(manifest, f"{error.what} ({key})", error.remedy, error)


def _check_file(s3: Any, manifest: Manifest, path: str, size: int) -> None:
    key = f"{manifest.delta.table}{path}"
    try:
        found = s3.head_object(Bucket=manifest.bucket, Key=key)["ContentLength"]
    except ClientError as error:
        if is_missing(s3, manifest.bucket, key, error):
            _fault(manifest, f"Delta file {key} is missing", cause=error)
        raise
    if found != size:
        _fault(manifest, f"Delta file {key} has {found} bytes, but the table's log says {size}")


def committed_files(content: bytes) -> CommittedFiles:
    """Return the files of a commit's log entry.

    Args:
        content: The entry, one action per line. Pass only the first `MAX_BYTES` + 1 bytes of a larger entry.

    Raises:
        SchemaError: The entry is too large or malformed, names a file twice, or adds one with a deletion
            vector.
    """
    if len(content) > MAX_BYTES:
        _refuse(f"has more than {MAX_BYTES} bytes")
    values = count_values(content)
    if values > MAX_VALUES:
        _refuse(f"has up to {values} values, but only {MAX_VALUES} are allowed")
    added: dict[str, int] = {}
    removed: set[str] = set()
    for number, line in enumerate(io.BytesIO(content), 1):
        kind, action = _action(number, line)
        if kind not in {"add", "remove"}:
            continue
        path = action.get("path")
        if not isinstance(path, str):
            _refuse(f"has no path in line {number}")
        # Paths in the log are URL-encoded.
        path = unquote(path)
        if path in added or path in removed:
            _refuse(f"names the file {path[:200]} twice")
        if kind == "add":
            added[path] = _size(number, action)
        else:
            removed.add(path)
    return CommittedFiles(added, frozenset(removed))


def _action(number: int, line: bytes) -> tuple[str, dict[str, Any]]:
    """Return the kind and members of a line's only action; both are empty for an empty line."""
    if not line.strip():
        return "", {}
    try:
        document: Any = parse_json(line)
    except InvalidJsonError as error:
        _refuse(f"cannot be read in line {number}: {error.what}", error)
    actions = list(document.items()) if isinstance(document, dict) else []
    if len(actions) != 1 or not isinstance(actions[0][1], dict):
        _refuse(f"has no single action in line {number}")
    return actions[0]


def _size(number: int, action: Mapping[str, Any]) -> int:
    size = action.get("size")
    if type(size) is not int or not 0 <= size <= LARGEST_NUMBER:
        _refuse(f"has no size in bytes in line {number}")
    if action.get("deletionVector") is not None:
        _refuse(f"has a deletion vector in line {number}: Snowflake would copy the deleted rows")
    return size


def _refuse(what: str, cause: Exception | None = None) -> NoReturn:
    raise SchemaError(
        f"The log entry of the Delta table {what}",
        remedy="Score the batch again with the platform's own writer",
    ) from cause


def _fault(
    manifest: Manifest, what: str, remedy: str = DELIVER_AGAIN, cause: Exception | None = None
) -> NoReturn:
    raise BatchFaultError(what, remedy=remedy, model=manifest.model, batch_id=manifest.batch_id) from cause
