"""Validates done files, and records each in the registry as a batch or as a refusal with its reason."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime

from mlpipe_dagster.resources.data_bucket import DataBucket
from prediction_contract.errors import (
    ContractError,
    InvalidManifestError,
    InvalidNameError,
    RuleViolationError,
)
from prediction_contract.manifests.manifest import Manifest, parse_manifest, validate
from prediction_contract.naming.batch import BatchId
from prediction_contract.naming.s3_layout import DoneKey, parse_done_key
from prediction_contract.registry.manifest_rules import ManifestFacts, refuse_manifest, register_batch
from prediction_contract.registry.records import LONGEST_REASON, BatchRecord, LoadState
from prediction_contract.registry.table import RegistryTable
from prediction_contract.text.utc_time import CLOCK_SKEW


class UnknownBatchError(ContractError):
    """The registry does not know the batch."""


class ManifestReplacedError(ContractError):
    """A batch's done file differs from the one that the registry recorded."""


@dataclass(frozen=True, kw_only=True)
class DoneFile:
    """A done file and the result of its registration.

    Attributes:
        key: The file's key.
        name: Date, model and batch from the key; None if the key is invalid.
        digest: The digest of the manifest, or of the file's bytes if they are not a manifest; empty if
            unread.
        manifest: The valid manifest, or None.
        refusal: Why the batch must not be loaded, or None.
        is_recorded: Whether the registry recorded the refusal.
        awaits_model: Whether the file loads once the code location knows its model.
        record: The batch's record after its registration; None if it was not registered.
    """

    key: str
    name: DoneKey | None = None
    digest: str = ""
    manifest: Manifest | None = None
    refusal: str | None = None
    is_recorded: bool = False
    awaits_model: bool = False
    record: BatchRecord | None = None


def register_done_file(
    bucket: DataBucket, registry: RegistryTable, key: str, *, redelivered: bool = False
) -> DoneFile:
    """Read and validate a done file, and record it in the registry as a batch to load or as refused.

    Doing this again changes nothing. A file that replaces one whose load has begun is refused, and leaves
    that batch unchanged.

    Args:
        bucket: The data bucket.
        registry: The registry.
        key: The file's key.
        redelivered: Whether the same file was delivered again, which makes a refused batch loadable again.

    Raises:
        ObjectMissingError: The file does not exist.
        RegistryUnavailableError: The registry did not take the change in time.
    """
    parsed = parse_done_file(bucket, key, done_file_content(bucket, key))
    return record_done_file(registry, parsed, redelivered=redelivered)


def done_file_content(bucket: DataBucket, key: str) -> bytes:
    """Return a done file's bytes; empty if the key is not a done file's.

    Raises:
        ObjectMissingError: The file does not exist.
    """
    try:
        parse_done_key(key)
    except InvalidNameError:
        return b""
    return bucket.read(key)


def parse_done_file(bucket: DataBucket, key: str, content: bytes) -> DoneFile:
    """Parse and validate a done file's bytes, which takes up to a few seconds of CPU time."""
    try:
        name = parse_done_key(key)
    except InvalidNameError as error:
        return DoneFile(key=key, refusal=_shortened(str(error)))
    try:
        manifest = parse_manifest(content)
        validate(manifest, bucket=bucket.name, key=key)
        _refuse_future(manifest)
    except ContractError as error:
        digest = hashlib.sha256(content).hexdigest()
        return DoneFile(key=key, name=name, digest=digest, refusal=_shortened(str(error)))
    return DoneFile(key=key, name=name, digest=manifest.digest, manifest=manifest)


def unread_done_file(key: str, reason: str) -> DoneFile:
    """Return the refusal of a done file that is not read."""
    try:
        return DoneFile(key=key, name=parse_done_key(key), refusal=reason)
    except InvalidNameError:
        return DoneFile(key=key, refusal=reason)


def record_done_file(registry: RegistryTable, read: DoneFile, *, redelivered: bool) -> DoneFile:
    """Record a parsed done file in the registry, as a batch to load or as refused.

    Raises:
        RegistryUnavailableError: The registry did not take the change in time.
    """
    name, manifest = read.name, read.manifest
    if name is None:
        return read
    if manifest is None:
        reason = read.refusal or ""
        recorded = _refuse(registry, _facts(name, read.key, read.digest), reason)
        return dataclasses.replace(read, is_recorded=recorded)
    facts = manifest_facts(manifest)
    try:
        registry.carry_out(
            lambda: register_batch(facts, registry.batch(name.model, name.batch_id), redelivered=redelivered)
        )
    except RuleViolationError as violation:
        return dataclasses.replace(read, manifest=None, refusal=_shortened(str(violation)))
    record = registry.batch(name.model, name.batch_id)
    if record is None:
        return read
    is_refused = record.load_state == LoadState.REFUSED
    return dataclasses.replace(
        read,
        refusal=record.refusal_reason if is_refused else None,
        is_recorded=is_refused,
        record=record,
    )


def _refuse_future(manifest: Manifest) -> None:
    """Refuse a batch id from the future: until that time, all later batches would become history."""
    minted_at = BatchId(manifest.batch_id).minted_at
    if minted_at > datetime.now(UTC) + CLOCK_SKEW:
        raise InvalidManifestError(
            f"The batch id was minted at {minted_at:%Y-%m-%d %H:%M:%S} UTC, more than "
            f"{CLOCK_SKEW.total_seconds() / 60:.0f} minutes in the future",
            remedy="Correct the clock of the machine that minted it, and deliver the batch with a new id",
            model=manifest.model,
            batch_id=manifest.batch_id,
        )


def refuse(registry: RegistryTable, done_file: DoneFile, reason: str) -> DoneFile:
    """Record a batch as refused although its manifest is valid; return the done file with the reason."""
    if done_file.manifest is None:
        return done_file
    return DoneFile(
        key=done_file.key,
        name=done_file.name,
        digest=done_file.digest,
        refusal=reason,
        is_recorded=_refuse(registry, manifest_facts(done_file.manifest), reason),
    )


def registered_batch(registry: RegistryTable, model: str, batch_id: str) -> BatchRecord:
    """Return a batch's record.

    Raises:
        UnknownBatchError: The registry does not know the batch.
    """
    record = registry.batch(model, batch_id)
    if record is None:
        raise UnknownBatchError(
            "The registry does not know the batch",
            remedy=f"See `mlpipe batches {model}`, or load its done file with `mlpipe load`",
            model=model,
            batch_id=batch_id,
        )
    return record


def registered_manifest(bucket: DataBucket, record: BatchRecord) -> Manifest:
    """Return the manifest with which a batch was registered.

    Raises:
        ObjectMissingError: The done file does not exist.
        ManifestReplacedError: Another done file has replaced it.
    """
    content = bucket.read(record.manifest_key)
    try:
        manifest = parse_manifest(content)
        validate(manifest, bucket=bucket.name, key=record.manifest_key)
    except ContractError as error:
        raise _replaced(record, error.what) from error
    if manifest.digest != record.manifest_digest:
        raise _replaced(record, f"its digest is {manifest.digest}")
    return manifest


def _replaced(record: BatchRecord, found: str) -> ManifestReplacedError:
    return ManifestReplacedError(
        f"{record.manifest_key} is not the done file that the batch was registered with: {found}",
        remedy="Restore the registered one, and deliver a correction as a new batch",
        model=record.model,
        batch_id=record.batch_id,
    )


def manifest_facts(manifest: Manifest) -> ManifestFacts:
    """Return the facts that the registry records of a valid manifest."""
    return ManifestFacts(
        model=manifest.model,
        batch_id=manifest.batch_id,
        partition=manifest.partition,
        manifest_key=manifest.key,
        manifest_digest=manifest.digest,
        row_count=manifest.row_count,
        checksum=manifest.checksum,
        version_number=manifest.model_package and manifest.model_package.version,
    )


def _facts(name: DoneKey, key: str, digest: str) -> ManifestFacts:
    return ManifestFacts(
        model=name.model, batch_id=name.batch_id, partition="", manifest_key=key, manifest_digest=digest
    )


def _refuse(registry: RegistryTable, facts: ManifestFacts, reason: str) -> bool:
    """Record a refusal; return False if a load has begun, which forbids refusing the batch."""
    try:
        registry.carry_out(
            lambda: refuse_manifest(facts, reason, registry.batch(facts.model, facts.batch_id))
        )
    except RuleViolationError:
        return False
    return True


def _shortened(reason: str) -> str:
    return reason if len(reason) <= LONGEST_REASON else f"{reason[: LONGEST_REASON - 3]}..."
