"""Rules for a new done file: register its batch for loading, or refuse it."""

from __future__ import annotations

from dataclasses import dataclass

from prediction_contract.registry.conditions import Clause, Condition, Equals, Missing
from prediction_contract.registry.records import (
    LONGEST_REASON,
    BatchRecord,
    LoadState,
    ReleaseState,
    batch_key,
)
from prediction_contract.registry.retention_rules import BATCH_IS_NOT_RETIRED
from prediction_contract.registry.stored_record import Value
from prediction_contract.registry.transaction import Transaction, Write


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestFacts:
    """The facts about a done file that the registry stores.

    Attributes:
        model: The model's name.
        batch_id: The batch.
        partition: The hour, day, week or month.
        manifest_key: The S3 key of the done file.
        manifest_digest: The SHA-256 of the file's bytes, in hex.
        row_count: The number of rows that the manifest declares; 0 if the manifest is unreadable.
        checksum: The batch checksum, as decimal text; empty if the manifest is unreadable.
        version_number: The number of the model version that scored the batch; None if the manifest has none.
    """

    model: str
    batch_id: str
    partition: str
    manifest_key: str
    manifest_digest: str
    row_count: int = 0
    checksum: str = ""
    version_number: int | None = None

    def attributes(self) -> dict[str, Value]:
        """Return the facts as registry attributes."""
        version: dict[str, Value] = (
            {} if self.version_number is None else {"version_number": self.version_number}
        )
        return version | {
            "batch_id": self.batch_id,
            "partition": self.partition,
            "manifest_key": self.manifest_key,
            "manifest_digest": self.manifest_digest,
            "row_count": self.row_count,
            "checksum": self.checksum,
        }


def register_batch(
    facts: ManifestFacts, existing: BatchRecord | None, *, redelivered: bool = False
) -> Transaction:
    """Register the batch of a new or replaced done file for loading. A known done file changes nothing.

    Args:
        facts: The facts about the done file.
        existing: The batch's record as read, if it exists.
        redelivered: Whether the same file was delivered again. A refused batch then becomes loadable again,
            because the fault may have been fixed in another file, for example a missing part. Rows that were
            already written do not prevent this: they are rows of the same done file.
    """
    known = existing is not None and existing.manifest_digest == facts.manifest_digest
    mended = redelivered and existing is not None and existing.load_state == LoadState.REFUSED
    if known and not mended:
        return Transaction(facts.model, facts.batch_id)
    # If rows were written, `retain_until` is kept, so that a sweep deletes them even without a further load.
    is_written = existing is not None and existing.writing_begun_at is not None
    remove = ("refusal_reason",) if is_written else ("refusal_reason", "retain_until")
    return _record_manifest(
        facts,
        existing,
        _still_refused() if known else _manifest_is_not_fixed(),
        {"load_state": LoadState.DONE},
        remove=remove,
    )


def refuse_manifest(facts: ManifestFacts, reason: str, existing: BatchRecord | None) -> Transaction:
    """Refuse a done file before its load. A corrected file with the same batch id may follow."""
    return _record_manifest(
        facts,
        existing,
        _manifest_is_not_fixed(),
        {"load_state": LoadState.REFUSED, "refusal_reason": reason[:LONGEST_REASON]},
        further=(_nothing_is_loading(),),
    )


def _record_manifest(
    facts: ManifestFacts,
    existing: BatchRecord | None,
    may_change: Condition,
    assign: dict[str, Value],
    *,
    further: tuple[Condition, ...] = (),
    remove: tuple[str, ...] = (),
) -> Transaction:
    as_seen: Clause = (
        Equals("manifest_digest", existing.manifest_digest) if existing else Missing("manifest_digest")
    )
    conditions = [
        Condition(
            "manifest_is_as_seen",
            as_seen,
            "The batch's record has changed in the meantime",
            "Read the record again",
        )
    ]
    created: dict[str, Value] = {}
    if existing:
        conditions += [may_change, BATCH_IS_NOT_RETIRED]
    else:
        created = {"release_state": ReleaseState.UNPUBLISHED, "load_attempts": 0}
    write = Write(
        key=batch_key(facts.model, facts.batch_id),
        conditions=(*conditions, *further),
        assign=facts.attributes() | created | assign,
        remove=remove if facts.version_number else (*remove, "version_number"),
    )
    return Transaction(facts.model, facts.batch_id, (write,))


def _manifest_is_not_fixed() -> Condition:
    return Condition(
        "manifest_is_not_fixed",
        Missing("writing_begun_at"),
        "Rows of this batch have already been written from another done file",
        "Publish the correction as a new batch",
    )


def _still_refused() -> Condition:
    return Condition(
        "load_state_is_as_seen",
        Equals("load_state", LoadState.REFUSED),
        "The batch is no longer refused",
        "Read the record again",
    )


def _nothing_is_loading() -> Condition:
    return Condition(
        "nothing_is_loading",
        Missing("claim_token"),
        "A load has claimed the batch",
        "Wait until it ends",
    )
