"""When a batch may leave the stores, and when a live one must be loaded again so that it does not.

Retired is the last state: nothing brings such a batch back, so whoever still deletes it, however late,
deletes what nobody wants.
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
    "The batch is retired: its rows and files have left, or are leaving",
    "Score the partition again: that is a new batch",
)


def needs_reload(
    batch: BatchRecord, pointers: Iterable[LivePointer], *, now: datetime, margin: timedelta
) -> bool:
    """Whether some region serves the batch and its items expire within the margin.

    A region that lags behind home counts too: what it serves must not expire under its readers.
    """
    if batch.items_expire_at is None or all(pointer.batch_id != batch.batch_id for pointer in pointers):
        return False
    return parse_utc(batch.items_expire_at) < now + margin


def protected_batches(home: LivePointer | None, rollback_target: BatchRecord | None) -> frozenset[str]:
    """Return the batches that no sweep retires: the live one, the one before, and a rollback's target.

    After a rollback the target is not the pointer's previous batch, which is the withdrawn one.
    """
    ids = {
        home.batch_id if home else None,
        home.previous_batch_id if home else None,
        rollback_target.batch_id if rollback_target else None,
    }
    return frozenset(batch_id for batch_id in ids if batch_id is not None)


def needs_sweep(batch: BatchRecord, protected: Collection[str], *, now: datetime) -> bool:
    """Whether a sweep has work to do on the batch, as far as its record tells.

    A batch that is retired and not cleared was left by a sweep that died.

    Args:
        batch: The batch's record.
        protected: As `protected_batches` returns them.
        now: The present moment.
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
    """Let a batch leave the stores: not while anybody serves it, may roll back to it, or loads it.

    Only a batch that was loaded or refused has a time to be retained until; one that waits for its load is
    left alone. A sweep that died is repeated by retiring the batch again, its claim abandoned.

    Its rows may be deleted only after this transaction was applied. It takes the batch's claim, so that one
    sweep at a time deletes it; `clear` gives the claim up afterwards. Items of the online table leave by
    their own expiry.

    Args:
        batch: The batch's record as read.
        token: A fresh random name of the claim.
        run_id: The run that deletes; a dead run's claim is replaced as a dead job run's is.
        home_region: The region that writes.
        regions: All other serving regions, those without a pointer included.
        projected_sequence: The highest sequence in Snowflake's projection: what its live view shows.
        now: The present moment.
    """
    remedy = "Leave it for a later sweep"
    conditions = (
        Condition(
            "batch_is_not_live", Differs("release_state", ReleaseState.LIVE), "The batch is live", remedy
        ),
        Condition("nothing_is_loading", Missing("claim_token"), "A load of the batch is claimed", remedy),
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
            "Project the publications first",
        ),
    )
    home = Condition(
        "batch_is_not_the_previous_one",
        Differs("previous_batch_id", batch.batch_id),
        "The batch is the one before the live one: the nearest rollback target",
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
    """Record that the last of a retired batch has left the stores, and give the sweep's claim up."""
    ours = Condition(
        "claim_is_ours",
        Equals("claim_token", token),
        "The claim was replaced by another sweep's",
        "Let the other sweep finish",
    )
    write = Write(
        key=batch.key, conditions=(ours,), assign={"cleared_at": format_utc(now)}, remove=CLAIM_ATTRIBUTES
    )
    return Transaction(batch.model, batch.batch_id, (write,))


def record_sweep(found: RetentionRecord) -> Transaction:
    """Keep what a sweep found, for the next one and for whoever asks what is wrong."""
    assign: dict[str, Value] = {"sweep_from": found.sweep_from, "retained_from": found.retained_from}
    if found.swept_at:
        assign["swept_at"] = found.swept_at
    if found.not_vacuumed:
        assign["not_vacuumed"] = found.not_vacuumed[:LONGEST_REASON]
    remove = () if found.not_vacuumed else ("not_vacuumed",)
    write = Write(key=retention_key(found.model), assign=assign, remove=remove)
    return Transaction(found.model, None, (write,))
