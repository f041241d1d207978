"""The batch's manifest and its Delta commit, read from S3 and believed only after they were verified."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import unquote

from botocore.exceptions import ClientError
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from glue_scripts.errors import BatchFaultError, LoadFailedError
from glue_scripts.files.delta_log import MAX_BYTES, CommittedFiles, committed_files
from glue_scripts.files.missing_objects import is_missing
from prediction_contract.errors import InvalidManifestError, SchemaError
from prediction_contract.manifests.manifest import MANIFEST_BYTES, Manifest, parse_manifest, validate
from prediction_contract.stores.delta_table import BATCH_COLUMN, check_delta_table, deltalake_message

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prediction_contract.jobs.job_arguments import LoadArguments

_DELIVER_AGAIN = "Score the batch again, or deliver what is missing and its manifest again"
# deltalake marks S3 errors by this text while it reads a checkpoint; elsewhere it raises OSError.
_TROUBLE_OF_S3 = "External: "


def read_manifest(s3: Any, arguments: LoadArguments) -> Manifest:
    """Return the batch's manifest, which is the one that the load was claimed for.

    Raises:
        BatchFaultError: It is no manifest that the platform may act on.
        LoadFailedError: There is none, or another one since the load was claimed.
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
        # What cannot be parsed has no canonical form: its bytes are what was claimed.
        _check_digest(arguments, hashlib.sha256(content).hexdigest())
        _fault(arguments, error.what, error.remedy, error)
    _check_digest(arguments, manifest.digest)
    try:
        validate(manifest, bucket=arguments.bucket, key=arguments.manifest_key)
    except InvalidManifestError as error:
        _fault(arguments, error.what, error.remedy, error)
    return manifest


def check_delta(s3: Any, manifest: Manifest, arguments: LoadArguments, options: Mapping[str, str]) -> None:
    """Compare the model's Delta table, as of the stated version, with what the manifest says of it.

    What the files themselves hold is counted when they are staged.

    Args:
        s3: A boto3 client.
        manifest: The validated manifest.
        arguments: The load's.
        options: What deltalake needs to reach the bucket.

    Raises:
        BatchFaultError: The version adds other files than the manifest names, a file is missing or cut off,
            or the table cannot be loaded as plain Parquet of the manifest's schema.
    """
    committed = _committed(s3, manifest, arguments)
    added = committed.added
    if added.keys() != set(manifest.delta.files):
        strange = sorted(added.keys() ^ set(manifest.delta.files))
        _fault(
            arguments,
            f"Version {manifest.delta.version} of the Delta table does not add the files that the manifest "
            f"names: {len(strange)} differ, the first is {strange[0][:200]}",
        )
    for path, size in added.items():
        _check_file(s3, manifest, arguments, path, size)
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
        _fault(arguments, error.what, error.remedy, error)
    if committed.removed:
        _check_removed(manifest, arguments, options, committed.removed)


def _opened(manifest: Manifest, options: Mapping[str, str], version: int) -> DeltaTable:
    uri = f"s3://{manifest.bucket}/{manifest.delta.table.rstrip('/')}"
    return opened_table(uri, version, options, model=manifest.model, batch_id=manifest.batch_id)


def opened_table(
    uri: str, version: int, options: Mapping[str, str], *, model: str, batch_id: str
) -> DeltaTable:
    """Return a version of a Delta table.

    Raises:
        BatchFaultError: There is no table, or its log cannot be read up to that version.
        DeltaError, OSError: S3 does not answer as it should.
    """
    try:
        return DeltaTable(uri, version=version, storage_options=dict(options))
    except DeltaError as error:
        if _TROUBLE_OF_S3 in str(error):
            raise
        words = deltalake_message(error)
        what = (
            f"There is no Delta table under {uri}"
            if isinstance(error, TableNotFoundError)
            else f"The log of the Delta table cannot be read up to version {version}: {words}"
        )
        raise BatchFaultError(what, remedy=_DELIVER_AGAIN, model=model, batch_id=batch_id) from error


def _check_removed(
    manifest: Manifest, arguments: LoadArguments, options: Mapping[str, str], removed: frozenset[str]
) -> None:
    """Refuse a commit that removes what is not known to be an earlier attempt at the same batch."""
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
            arguments,
            f"Version {version} of the Delta table removes {len(foreign)} files that may hold rows of other "
            f"batches, the first is {foreign[0][:200]}",
            "Score a new batch. If rows of others are gone, restore the table's version before this one",
        )


def _committed(s3: Any, manifest: Manifest, arguments: LoadArguments) -> CommittedFiles:
    """Return what the stated version of the table added and removed."""
    version = manifest.delta.version
    key = f"{manifest.delta.table}_delta_log/{version:020d}.json"
    try:
        answer = s3.get_object(Bucket=manifest.bucket, Key=key)
    except ClientError as error:
        if is_missing(s3, manifest.bucket, key, error):
            _fault(arguments, f"The Delta table has no version {version} any more, or not yet", cause=error)
        raise
    try:
        return committed_files(answer["Body"].read(MAX_BYTES + 1))
    except SchemaError as error:
        _fault(arguments, f"{error.what} ({key})", error.remedy, error)


def _check_file(s3: Any, manifest: Manifest, arguments: LoadArguments, path: str, size: int) -> None:
    key = f"{manifest.delta.table}{path}"
    try:
        found = s3.head_object(Bucket=manifest.bucket, Key=key)["ContentLength"]
    except ClientError as error:
        if is_missing(s3, manifest.bucket, key, error):
            _fault(arguments, f"Delta file {key} is missing", cause=error)
        raise
    if found != size:
        _fault(arguments, f"Delta file {key} has {found} bytes, and the table's log says {size}")


def _check_digest(arguments: LoadArguments, digest: str) -> None:
    if digest != arguments.manifest_digest:
        raise LoadFailedError(
            f"The manifest has the digest {digest}, and the load was claimed for {arguments.manifest_digest}",
            remedy="Let the new done file's own run load the batch",
            model=arguments.model,
            batch_id=arguments.batch_id,
        )


def _fault(
    arguments: LoadArguments,
    what: str,
    remedy: str = _DELIVER_AGAIN,
    cause: Exception | None = None,
) -> NoReturn:
    raise BatchFaultError(what, remedy=remedy, model=arguments.model, batch_id=arguments.batch_id) from cause
