"""Done files become known batches or refusals: validated, and recorded in the registry with the reason."""

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
    """The done file of a batch is not the one that the registry knows."""


@dataclass(frozen=True, kw_only=True)
class DoneFile:
    """A done file, and what became of it.

    Attributes:
        key: Its key.
        name: Date, model and batch as the key says; None if it says none.
        digest: Of the manifest, or of the file's bytes if they are none; empty if they were not read.
        manifest: The valid manifest, or None.
        refusal: Why the batch is not to be loaded, or None.
        is_recorded: Whether the registry knows of the refusal.
        awaits_model: Whether the refusal ends once the code location knows the model.
        record: The batch's record as it was registered; None if it was not.
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
    """Read and validate a done file, and record it in the registry: as a batch to load, or as refused.

    Doing it again changes nothing. A file that takes the place of one whose load has begun is refused, and
    leaves that batch as it is.

    Args:
        bucket: Where it lies.
        registry: The registry.
        key: Its key.
        redelivered: Whether somebody asks for the same file once more, so that a batch that was refused is
            to be tried again.

    Raises:
        ObjectMissingError: It is gone.
        RegistryUnavailableError: The registry did not take it in time.
    """
    parsed = parse_done_file(bucket, key, done_file_content(bucket, key))
    return record_done_file(registry, parsed, redelivered=redelivered)


def done_file_content(bucket: DataBucket, key: str) -> bytes:
    """Return a done file's bytes; none of an object whose key is no done file's.

    Raises:
        ObjectMissingError: It is gone.
    """
    try:
        parse_done_key(key)
    except InvalidNameError:
        return b""
    return bucket.read(key)


def parse_done_file(bucket: DataBucket, key: str, content: bytes) -> DoneFile:
    """Parse and validate a done file's bytes, which takes up to some seconds of a processor."""
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
    """Record in the registry a done file that was read: as a batch to load, or as refused.

    Raises:
        RegistryUnavailableError: The registry did not take it in time.
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
    """Refuse a batch of a clock that is ahead: until that moment every later one would become history."""
    minted_at = BatchId(manifest.batch_id).minted_at
    if minted_at > datetime.now(UTC) + CLOCK_SKEW:
        raise InvalidManifestError(
            f"The batch id was minted at {minted_at:%Y-%m-%d %H:%M:%S} UTC, which is yet to come: "
            f"clocks may be {CLOCK_SKEW.total_seconds() / 60:.0f} minutes apart",
            remedy="Set the clock of what minted it, and deliver the batch under a new id",
            model=manifest.model,
            batch_id=manifest.batch_id,
        )


def refuse(registry: RegistryTable, done_file: DoneFile, reason: str) -> DoneFile:
    """Refuse a batch whose manifest is valid by itself, for what the platform knows beside it."""
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
    """Return the manifest that a batch was registered with.

    Raises:
        ObjectMissingError: It is gone.
        ManifestReplacedError: Another done file lies in its place.
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
        remedy="Put the registered one back, and deliver the correction as a new batch",
        model=record.model,
        batch_id=record.batch_id,
    )


def manifest_facts(manifest: Manifest) -> ManifestFacts:
    """Return what the registry keeps of a valid manifest."""
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
    """Record a refusal; return False where a load that has begun keeps the batch from being refused."""
    try:
        registry.carry_out(
            lambda: refuse_manifest(facts, reason, registry.batch(facts.model, facts.batch_id))
        )
    except RuleViolationError:
        return False
    return True


def _shortened(reason: str) -> str:
    return reason if len(reason) <= LONGEST_REASON else f"{reason[: LONGEST_REASON - 3]}..."
