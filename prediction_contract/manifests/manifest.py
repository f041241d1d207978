"""The manifest (done file): a JSON document that lists all parts of a batch; untrusted until validated."""

from __future__ import annotations

import json
from importlib import resources
from typing import TYPE_CHECKING, Any

from prediction_contract.errors import InvalidManifestError
from prediction_contract.limits import MAX_OBJECT_KEY_BYTES
from prediction_contract.manifests.manifest_reader import read_manifest
from prediction_contract.manifests.manifest_records import (
    MANIFEST_VERSION,
    DeltaCommit,
    InputObject,
    Inputs,
    JsonPart,
    Manifest,
    ModelPackage,
    Producer,
)
from prediction_contract.naming.batch import BatchId, ModelName, Partition
from prediction_contract.naming.s3_layout import delta_table_prefix
from prediction_contract.text.canonical_json import InvalidJsonError, parse_json
from prediction_contract.text.utc_time import format_utc

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from prediction_contract.rows.schema import PredictionSchema
    from prediction_contract.text.canonical_json import JsonValue

__all__ = [
    "MANIFEST_BYTES",
    "MANIFEST_VERSION",
    "DeltaCommit",
    "InputObject",
    "Inputs",
    "JsonPart",
    "Manifest",
    "ModelPackage",
    "Producer",
    "build_manifest",
    "manifest_json_schema",
    "parse_manifest",
    "validate",
]

MANIFEST_BYTES = 16 * 1024 * 1024
# The cost of parsing depends on the values. A manifest of `MANIFEST_BYTES` with the most parts has 400,000.
MANIFEST_VALUES = 500_000
MANIFEST_DEPTH = 64


def build_manifest(
    *,
    model: str,
    batch_id: str,
    attempt: int,
    partition: str,
    bucket: str,
    created_at: datetime,
    model_version: str,
    code_version: str,
    schema: PredictionSchema,
    json_parts: Iterable[JsonPart],
    delta_version: int,
    delta_files: Iterable[str],
    checksum: str,
    inputs: Inputs | None = None,
    previous_batch_id: str | None = None,
    producer: Producer | None = None,
    model_package: ModelPackage | None = None,
) -> Manifest:
    """Return the manifest of a batch whose parts and Delta commit are written.

    The row count of the batch and of the Delta commit is the sum of the parts' rows.

    Raises:
        InvalidNameError: The model's name, the batch id or the partition is invalid.
        InvalidManifestError: Readers would refuse the manifest.
    """
    parts = tuple(json_parts)
    rows = sum(part.rows for part in parts)
    manifest = Manifest(
        model=ModelName(model),
        batch_id=BatchId(batch_id),
        attempt=attempt,
        partition=Partition(partition),
        bucket=bucket,
        created_at=format_utc(created_at),
        model_version=model_version,
        code_version=code_version,
        previous_batch_id=None if previous_batch_id is None else BatchId(previous_batch_id),
        inputs=inputs or Inputs(),
        schema=schema,
        json_parts=parts,
        delta=DeltaCommit(delta_table_prefix(model), delta_version, tuple(delta_files), rows),
        row_count=rows,
        checksum=checksum,
        producer=producer or Producer(),
        model_package=model_package,
    )
    validate(parse_manifest(manifest.to_bytes()), bucket=bucket, key=manifest.key)
    return manifest


def parse_manifest(content: bytes) -> Manifest:
    """Return the manifest in a done file. Call `validate` before acting on it.

    Raises:
        InvalidManifestError: It is larger than `MANIFEST_BYTES`, has more than `MANIFEST_VALUES` values,
            nests deeper than `MANIFEST_DEPTH`, is not JSON, or a member is missing or invalid.
        UnsupportedManifestVersionError: It has another major version.
    """
    if len(content) > MANIFEST_BYTES:
        raise InvalidManifestError(
            f"The manifest has {len(content)} bytes; at most {MANIFEST_BYTES} are allowed",
            remedy="Write fewer and larger parts",
        )
    try:
        document = parse_json(content, most_values=MANIFEST_VALUES)
        _check_depth(document)
        manifest = read_manifest(document)
        # The digest fails for a document that cannot be written again, for example with lone surrogates.
        _ = manifest.digest
    except InvalidJsonError as error:
        raise InvalidManifestError(
            f"The manifest is not valid JSON: {error.what}",
            remedy="Write it with build_manifest and deliver it again",
        ) from error
    return manifest


def _check_depth(document: JsonValue) -> None:
    """Refuse a deeply nested document, which could exhaust the stack when it is written."""
    level: list[JsonValue] = [document]
    for _ in range(MANIFEST_DEPTH):
        inner = [value for value in level if isinstance(value, list | dict)]
        if not inner:
            return
        level = [
            member for value in inner for member in (value.values() if isinstance(value, dict) else value)
        ]
    raise InvalidJsonError("too_deep", f"The document nests deeper than {MANIFEST_DEPTH} levels")


def validate(manifest: Manifest, *, bucket: str, key: str) -> None:
    """Refuse a manifest that refers to objects outside its batch or contradicts itself.

    Args:
        manifest: The result of `parse_manifest`.
        bucket: The configured bucket.
        key: The key from which the manifest was read.

    Raises:
        InvalidManifestError: The manifest must not be acted on.
    """
    if manifest.bucket != bucket:
        _refuse(manifest, f"bucket is {manifest.bucket}, but the platform's is {bucket}")
    if manifest.key != key:
        _refuse(
            manifest, f"model and batch_id belong to {manifest.key}, but the manifest is at {key[:200]!r}"
        )
    if manifest.previous_batch_id == manifest.batch_id:
        _refuse(manifest, "previous_batch_id is the batch itself")
    package = manifest.model_package
    if package is not None and package.digest != manifest.model_version:
        _refuse(
            manifest,
            f"model_package.digest is {package.digest}, but model_version is {manifest.model_version}",
        )
    _validate_parts(manifest)
    _validate_delta(manifest)


def _validate_parts(manifest: Manifest) -> None:
    seen: set[str] = set()
    for number, part in enumerate(manifest.json_parts):
        if not part.key.startswith(manifest.json_prefix):
            _refuse(manifest, f"json_parts[{number}].key is not under {manifest.json_prefix}")
        if part.key in seen:
            _refuse(manifest, f"json_parts[{number}].key is named twice")
        seen.add(part.key)
    rows = sum(part.rows for part in manifest.json_parts)
    if rows != manifest.row_count:
        _refuse(manifest, f"row_count is {manifest.row_count}, but json_parts have {rows} rows")


def _validate_delta(manifest: Manifest) -> None:
    delta = manifest.delta
    table = delta_table_prefix(manifest.model)
    if delta.table != table:
        _refuse(manifest, f"delta.table is not the model's own table {table}")
    for number, file in enumerate(delta.files):
        if len(table) + len(file) > MAX_OBJECT_KEY_BYTES:
            _refuse(manifest, f"delta.files[{number}] makes a key of more than {MAX_OBJECT_KEY_BYTES} bytes")
    if len(set(delta.files)) != len(delta.files):
        _refuse(manifest, "delta.files names a file twice")
    if delta.rows != manifest.row_count:
        _refuse(manifest, f"row_count is {manifest.row_count}, but delta.rows is {delta.rows}")
    if delta.rows and not delta.files:
        _refuse(manifest, "delta.files is empty, but delta.rows is not 0")


def _refuse(manifest: Manifest, what: str) -> None:
    raise InvalidManifestError(
        what,
        remedy="Deliver a manifest that names this batch's own objects, or score a new batch",
        model=manifest.model,
        batch_id=manifest.batch_id,
    )


def manifest_json_schema() -> dict[str, Any]:
    """Return the published JSON Schema (2020-12) of a manifest of major version 1.

    It describes the form of each member. `validate` checks the members against each other.
    """
    text = (
        resources.files("prediction_contract.manifests").joinpath("manifest.schema.json").read_text("utf-8")
    )
    return json.loads(text)
