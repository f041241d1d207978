"""Rules for removing a batch from the stores, and for re-loading a live batch before it expires.

Retired is the final state. No change brings a retired batch back, so a late deletion of it does no harm.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta

from prediction_contract.registry.conditions import AnyOf, Below, Condition, Differs, Equals, Missing
from prediction_contract.registry.records import (
    CLAIM_ATTRIBUTES,
    LONGEST_REASON,
    BatchRecord,
    LivePointer,
    LoadState,
    ReleaseState,
    RetentionRecord,
    pointer_key,
    retention_key,
)
from prediction_contract.registry.stored_record import Value
from prediction_contract.registry.transaction import Transaction, Write
from prediction_contract.text.utc_time import format_utc, parse_utc

_OF_THE_LOAD = (
    "items_expire_at",
    "verified_attempt",
    "verified_regions",
    "unverified_attempt",
    "unverified_expire_at",
)

BATCH_IS_NOT_RETIRED = Condition(
    "batch_is_not_retired",
    Differs("load_state", LoadState.RETIRED),
    "The batch is retired, and its rows and files are deleted",
    "Score the partition again, which makes a new batch",
)


def needs_reload(
    batch: BatchRecord, pointers: Iterable[LivePointer], *, now: datetime, margin: timedelta
) -> bool:
    """Return whether any region serves the batch while its items expire within the margin.

    A region that lags behind home counts too, because its readers still need the items.
    """
    if batch.items_expire_at is None or all(pointer.batch_id != batch.batch_id for pointer in pointers):
        return False
    return parse_utc(batch.items_expire_at) < now + margin


def protected_batches(home: LivePointer | None, rollback_target: BatchRecord | None) -> frozenset[str]:
    """Return the batches that no sweep retires: the live one, the previous one, and the rollback target.

    After a rollback, the pointer's previous batch is the withdrawn one and thus not the rollback target.
    """
    ids = {
        home.batch_id if home else None,
        home.previous_batch_id if home else None,
        rollback_target.batch_id if rollback_target else None,
    }
    return frozenset(batch_id for batch_id in ids if batch_id is not None)


def needs_sweep(batch: BatchRecord, protected: Collection[str], *, now: datetime) -> bool:
    """Return whether a sweep must retire the batch or finish its deletion.

    A batch that is retired but not cleared was left behind by a sweep that died.

    Args:
        batch: The batch's record.
        protected: The result of `protected_batches`.
        now: The current time.
    """
    if batch.load_state == LoadState.RETIRED:
        return batch.cleared_at is None
    is_protected = batch.release_state == ReleaseState.LIVE or batch.batch_id in protected
    is_over = batch.retain_until is not None and parse_utc(batch.retain_until) < now
    return is_over and not is_protected and batch.claim_token is None


def retire(
    batch: BatchRecord,
    *,
    token: str,
    run_id: str,
    home_region: str,
    regions: Iterable[str],
    projected_sequence: int,
    now: datetime,
) -> Transaction:
    """Mark a batch as retired, so that its rows and files may be deleted once the transaction is applied.

    A batch is not retired while a region serves it, a rollback may need it, or a load has claimed it. A batch
    that waits for its load has no `retain_until` and is not retired either.

    The transaction claims the batch, so that one sweep at a time deletes it; `clear` gives the claim up. To
    repeat a sweep that died, abandon its claim and retire the batch again. Items of the online table expire
    by themselves.

    Args:
        batch: The batch's record as read.
        token: A new random token for the claim.
        run_id: The run that deletes the batch. If it dies, its claim is replaced like that of a job run.
        home_region: The region that writes.
        regions: All other serving regions, including those without a pointer.
        projected_sequence: The highest sequence in Snowflake's projection, which its live view shows.
        now: The current time.
    """
    remedy = "Leave it for a later sweep"
    conditions = (
        Condition(
            "batch_is_not_live", Differs("release_state", ReleaseState.LIVE), "The batch is live", remedy
        ),
        Condition("nothing_is_loading", Missing("claim_token"), "A load has claimed the batch", remedy),
        Condition(
            "retention_is_over",
            Below("retain_until", format_utc(now)),
            f"The batch is retained until {batch.retain_until}",
            remedy,
        ),
        Condition(
            "projection_has_moved_on",
            AnyOf((Missing("superseded_sequence"), Below("superseded_sequence", projected_sequence + 1))),
            "Snowflake's live view may still show the batch",
            "Update the projection of the publications first",
        ),
    )
    home = Condition(
        "batch_is_not_the_previous_one",
        Differs("previous_batch_id", batch.batch_id),
        "The batch was live before the current one, so a rollback may need it",
        remedy,
    )
    return Transaction(
        batch.model,
        batch.batch_id,
        (
            Write(
                key=batch.key,
                conditions=conditions,
                assign={"load_state": LoadState.RETIRED, "claim_token": token, "claim_job_run_id": run_id},
                remove=_OF_THE_LOAD,
            ),
            Write(key=pointer_key(batch.model, home_region), conditions=(home,)),
            *(
                Write(
                    key=pointer_key(batch.model, region),
                    conditions=(
                        Condition(
                            "no_region_serves_it",
                            Differs("batch_id", batch.batch_id),
                            f"{region} still serves the batch",
                            f"Let {region} follow home first",
                        ),
                    ),
                )
                for region in sorted(regions)
            ),
        ),
    )


def clear(batch: BatchRecord, *, token: str, now: datetime) -> Transaction:
    """Record that a retired batch is completely deleted, and give up the sweep's claim."""
    ours = Condition(
        "claim_is_ours",
        Equals("claim_token", token),
        "Another sweep has replaced the claim of this one",
        "Let the other sweep finish",
    )
    write = Write(
        key=batch.key, conditions=(ours,), assign={"cleared_at": format_utc(now)}, remove=CLAIM_ATTRIBUTES
    )
    return Transaction(batch.model, batch.batch_id, (write,))


def record_sweep(found: RetentionRecord) -> Transaction:
    """Record the result of a sweep."""
    assign: dict[str, Value] = {"sweep_from": found.sweep_from, "retained_from": found.retained_from}
    if found.swept_at:
        assign["swept_at"] = found.swept_at
    if found.not_vacuumed:
        assign["not_vacuumed"] = found.not_vacuumed[:LONGEST_REASON]
    remove = () if found.not_vacuumed else ("not_vacuumed",)
    write = Write(key=retention_key(found.model), assign=assign, remove=remove)
    return Transaction(found.model, None, (write,))
