"""The commit of a written batch: checks of its rows, one Delta commit, and the manifest."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from prediction_batches.delivery.batch_identity import BatchIdentity
from prediction_batches.delivery.delta_commit import AttemptSupersededError, TableCommit
from prediction_batches.delivery.done_file import ManifestConflictError, done_manifest
from prediction_batches.delivery.receipts import Receipt, ReceiptError, total_checksum, total_refused
from prediction_batches.errors import PredictionsError
from prediction_batches.keys.duplicate_rows import duplicate_rows
from prediction_batches.object_store import ObjectStore, storage_options
from prediction_contract.manifests.manifest import (
    Inputs,
    JsonPart,
    Manifest,
    ModelPackage,
    Producer,
    build_manifest,
)
from prediction_contract.naming.s3_layout import done_key, json_attempt_prefix
from prediction_contract.rows.quarantine_tolerance import QuarantineTolerance

_LOG = logging.getLogger(__name__)
# The number of named rows; this many fit into the 1024 characters of a job's message.
_NAMED_ROWS = 5


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """The origin of a batch's rows, for its manifest.

    Attributes:
        model_version: The trained model's version.
        code_version: The producing code's version.
        inputs: The batch's inputs; None to name none.
        previous_batch_id: The earlier batch whose predictions were read, if any.
        producer: The writer of the batch; None to leave it out.
        model_package: The registered version that scored the batch; None for an unregistered model.
    """

    model_version: str
    code_version: str
    inputs: Inputs | None = None
    previous_batch_id: str | None = None
    producer: Producer | None = None
    model_package: ModelPackage | None = None


def commit_batch(
    batch: BatchIdentity,
    receipts: Sequence[Receipt],
    provenance: Provenance,
    *,
    tolerance: QuarantineTolerance,
    store: ObjectStore,
) -> tuple[Manifest, bool]:
    """Commit a batch; return its manifest, and whether it already existed.

    A call that was killed at any point can be repeated: this makes only one commit and one manifest.

    Args:
        batch: The batch.
        receipts: The receipts of all its shares, in the order of its rows.
        provenance: The origin of the rows, for the manifest.
        tolerance: How many rows may be refused.
        store: The bucket.

    Raises:
        PredictionsError: More rows will be refused than tolerated, or there are none.
        ReceiptError: A JSON part no longer exists.
        AttemptSupersededError: A later attempt has committed the batch, but there is no manifest yet.
        DeltaCommitError: The Delta table does not accept the rows.
        ManifestConflictError: The done file at this batch's key belongs to another batch.
    """
    done = _done(batch, store)
    if done is not None:
        return done, True
    check_refused_rows(batch, receipts, tolerance, store)
    parts = [part for receipt in receipts for part in receipt.parts]
    _check_parts(batch, parts, store)
    commit = TableCommit(
        store=store,
        model=batch.model,
        schema=batch.schema,
        batch_id=batch.batch_id,
        attempt=batch.attempt,
        files=[file for receipt in receipts for file in receipt.data_files],
        options=storage_options(),
    )
    try:
        made = commit.make(lambda: store.find(done_key(batch.model, batch.batch_id)) is None)
    except AttemptSupersededError:
        done = _done(batch, store)
        if done is None:
            raise
        return done, True
    _LOG.info("Delta version %d adds %d files", made.version, len(made.files))
    manifest = build_manifest(
        model=batch.model,
        batch_id=batch.batch_id,
        attempt=batch.attempt,
        partition=batch.partition,
        bucket=batch.bucket,
        created_at=datetime.now(UTC),
        model_version=provenance.model_version,
        code_version=provenance.code_version,
        schema=batch.schema,
        json_parts=parts,
        delta_version=made.version,
        delta_files=made.files,
        checksum=total_checksum(receipts),
        inputs=provenance.inputs,
        previous_batch_id=provenance.previous_batch_id,
        producer=provenance.producer,
        model_package=provenance.model_package,
    )
    if store.put_new(manifest.key, manifest.to_bytes()):
        return manifest, False
    found = _done(batch, store)
    if found is None:
        raise ManifestConflictError(
            "The batch had a manifest, which was then deleted",
            remedy="Find out who deletes manifests, then start the next attempt",
            model=batch.model,
            batch_id=batch.batch_id,
        )
    # The digests are equal if this call wrote the manifest but the response was lost.
    return found, found.digest != manifest.digest


def check_refused_rows(
    batch: BatchIdentity, receipts: Sequence[Receipt], tolerance: QuarantineTolerance, store: ObjectStore
) -> None:
    """Refuse a batch that its load would refuse, before any of it is delivered.

    The message names rows by their number and quotes no value, because values may be sensitive.

    Args:
        batch: The batch.
        receipts: The receipts of all its shares.
        tolerance: How many rows may be refused.
        store: The bucket.

    Raises:
        PredictionsError: No rows are left, or more rows than tolerated violate the schema or share a key.
    """
    rows = sum(receipt.rows for receipt in receipts)
    reasons = total_refused(receipts)
    named = [
        f"{_row_label(receipt.share, row.number, receipts)}: {row.fault}"
        for receipt in receipts
        for row in receipt.first_refused
    ]
    keys = [(receipt.share, receipt.keys) for receipt in receipts if receipt.keys is not None]
    # Every duplicate key has at least two rows, so this many keys exceed the tolerance by themselves.
    duplicates = duplicate_rows(store, keys, most_keys=tolerance.allowed(rows) + 1, most_named=_NAMED_ROWS)
    if duplicates.rows:
        reasons["duplicate_key"] += duplicates.rows
        named += [
            f"{_row_label(*place, receipts)}: another row has the same key" for place in duplicates.first
        ]
    found = "; ".join([_reason_counts(reasons), *named[:_NAMED_ROWS]])
    fault = tolerance.fault(rows, reasons.total())
    if fault is not None:
        raise PredictionsError(
            f"{fault}: {found}" if named else fault,
            remedy="Correct the program that makes the rows, or the columns or quality in the model's "
            "defs.yaml",
            model=batch.model,
            batch_id=batch.batch_id,
        )
    if named:
        _LOG.warning("rows will be quarantined: %s", found)


def _check_parts(batch: BatchIdentity, parts: Sequence[JsonPart], store: ObjectStore) -> None:
    """Refuse parts that are missing or have another size than the one written."""
    prefix = json_attempt_prefix(batch.model, batch.partition, batch.batch_id, batch.attempt)
    found = {entry.key: entry.size for entry in store.listing(prefix)}
    for part in parts:
        if found.get(part.key) != part.bytes:
            size = found.get(part.key)
            said = "is missing" if size is None else f"has {size} bytes, but {part.bytes} were written"
            raise ReceiptError(
                f"JSON part {part.key} {said}",
                remedy=f"Write the batch under attempt {batch.attempt + 1}",
                model=batch.model,
                batch_id=batch.batch_id,
            )


def _reason_counts(reasons: Counter[str]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in reasons.items())


def _row_label(share: str, number: int, receipts: Sequence[Receipt]) -> str:
    return f"row {number}" if len(receipts) == 1 else f"row {number} of share {share}"


def _done(batch: BatchIdentity, store: ObjectStore) -> Manifest | None:
    return done_manifest(store, batch.model, batch.batch_id, partition=batch.partition)
