"""Rules for loading a batch into the stores: claim, write, load, verify, refuse.

A verified batch stays verified while it is loaded again, because every load of a batch writes the same rows.
A rollback target therefore stays usable while a re-load extends its life.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from prediction_contract.manifests.load_report import LoadEvidence
from prediction_contract.registry.conditions import (
    AllOf,
    AnyOf,
    Below,
    Clause,
    Condition,
    Differs,
    Equals,
    Missing,
)
from prediction_contract.registry.records import (
    CLAIM_ATTRIBUTES,
    LONGEST_REASON,
    BatchRecord,
    LoadState,
)
from prediction_contract.registry.retention_rules import BATCH_IS_NOT_RETIRED
from prediction_contract.registry.stored_record import Value
from prediction_contract.registry.transaction import Transaction, Write
from prediction_contract.text.utc_time import format_utc

_UNVERIFIED = ("unverified_attempt", "unverified_expire_at")


def claim_load(
    batch: BatchRecord,
    *,
    token: str,
    confirm_by: datetime,
    now: datetime,
    ended_job_run_id: str | None = None,
) -> Transaction:
    """Claim the right to load a batch, before starting the job run that loads it.

    Args:
        batch: The batch's record as read.
        token: A new random token for this claim, which the job run receives as an argument.
        confirm_by: When the claim expires unless a job run has confirmed it.
        now: The current time.
        ended_job_run_id: A job run that ended without a complete report. The existing claim is replaced if
            this job run holds it.

    Returns:
        The transaction; the new attempt's number is `batch.load_attempts + 1`.
    """
    assign: dict[str, Value] = {
        "claim_token": token,
        "claim_confirm_by": format_utc(confirm_by),
        "load_attempts": batch.load_attempts + 1,
    }
    if batch.load_state != LoadState.VERIFIED:
        assign["load_state"] = LoadState.LOADING
    # No sweep may retire a refused batch that is now being loaded.
    no_longer_retained = () if batch.writing_begun_at else ("retain_until",)
    return _one_write(
        batch,
        Write(
            key=batch.key,
            conditions=(
                Condition(
                    "load_state_is_as_seen",
                    Equals("load_state", batch.load_state),
                    "The batch's load state has changed in the meantime",
                    "Read the batch's record again",
                ),
                Condition(
                    "attempt_is_the_next",
                    Equals("load_attempts", batch.load_attempts),
                    "Another load of the batch was claimed in the meantime",
                    "Read the batch's record again",
                ),
                _no_load_is_claimed(now, ended_job_run_id),
                BATCH_IS_NOT_RETIRED,
            ),
            assign=assign,
            remove=("claim_job_run_id", *_UNVERIFIED, *no_longer_retained),
        ),
    )


def abandon_claim(batch: BatchRecord, *, now: datetime, ended_job_run_id: str | None = None) -> Transaction:
    """Remove a claim that no job run can use any more, without making a new one."""
    return _one_write(batch, _ended_claim(batch, (_claim_is_dead(now, ended_job_run_id),)))


def confirm_claim(batch: BatchRecord, *, token: str, job_run_id: str) -> Transaction:
    """Write the job run's id into its claim. A job run does this first, and exits if it fails."""
    if batch.claim_token == token and batch.claim_job_run_id == job_run_id:
        return Transaction(batch.model, batch.batch_id)
    unconfirmed = Condition(
        "claim_is_unconfirmed",
        Missing("claim_job_run_id"),
        "Another job run has already confirmed this claim",
        "Let it finish; this job run has nothing to do",
    )
    return _one_write(
        batch,
        Write(
            key=batch.key,
            conditions=(_claim_is_ours(token), unconfirmed),
            assign={"claim_job_run_id": job_run_id},
        ),
    )


def begin_writing(
    batch: BatchRecord, *, token: str, manifest_digest: str, cleaning: str, now: datetime
) -> Transaction:
    """Make the manifest and the cleaning rules final, after validation and before writing the first row.

    Args:
        batch: The batch's record, read after the claim was confirmed.
        token: The token of the job run's claim.
        manifest_digest: The digest of the done file that the job run validated.
        cleaning: The model's cleaning rules as JSON text; ignored if an earlier load made its own final.
        now: The current time.
    """
    assign: dict[str, Value] = {
        "writing_begun_at": batch.writing_begun_at or format_utc(now),
        "cleaning": cleaning if batch.cleaning is None else batch.cleaning,
    }
    if batch.load_state != LoadState.VERIFIED:
        # The batch is `done` again if its done file was replaced and then restored since the claim.
        assign["load_state"] = LoadState.LOADING
    conditions = (_claim_is_ours(token), _manifest_is_the_jobs(manifest_digest))
    return _one_write(batch, Write(key=batch.key, conditions=conditions, assign=assign))


def complete_load(
    batch: BatchRecord, *, token: str, expire_at: datetime, now: datetime, retention: timedelta
) -> Transaction:
    """Record that a load wrote all its rows. They are not verified yet.

    Args:
        batch: The batch's record, read while the claim was held.
        token: The token of the job run's claim.
        expire_at: When the written items expire.
        now: The current time.
        retention: How long to keep the batch from now on, at least.
    """
    assign: dict[str, Value] = {
        "unverified_attempt": batch.load_attempts,
        "unverified_expire_at": format_utc(expire_at),
        "retain_until": format_utc(now + retention),
    }
    if batch.load_state != LoadState.VERIFIED:
        assign["load_state"] = LoadState.LOADED
    return _one_write(
        batch,
        Write(key=batch.key, conditions=(_claim_is_ours(token),), assign=assign, remove=CLAIM_ATTRIBUTES),
    )


def release_claim(batch: BatchRecord, *, token: str) -> Transaction:
    """Give up the claim after a failed load. The batch can be claimed again at once."""
    return _one_write(batch, _ended_claim(batch, (_claim_is_ours(token),)))


def refuse_load(
    batch: BatchRecord, *, token: str, manifest_digest: str, reason: str, now: datetime, retention: timedelta
) -> Transaction:
    """Refuse a whole batch because its load found a fault. None of its rows becomes visible.

    A verified batch is never refused, because its rows are in the stores. If a later load finds a fault, that
    load fails (`release_claim`).
    """
    never_verified = Condition(
        "batch_is_not_verified",
        Differs("load_state", LoadState.VERIFIED),
        "An earlier load of the batch was verified, so the batch is kept",
        "Find out why its files have changed since, and release the claim",
    )
    return _one_write(
        batch,
        Write(
            key=batch.key,
            conditions=(_claim_is_ours(token), _manifest_is_the_jobs(manifest_digest), never_verified),
            assign={
                "load_state": LoadState.REFUSED,
                "refusal_reason": reason[:LONGEST_REASON],
                "retain_until": format_utc(now + retention),
            },
            remove=CLAIM_ATTRIBUTES,
        ),
    )


def verify_load(
    batch: BatchRecord, evidence: LoadEvidence, *, now: datetime, retention: timedelta
) -> Transaction:
    """Mark the batch as verified: each store holds all of the manifest's rows that are not in quarantine.

    Args:
        batch: The batch's record as read.
        evidence: The rows counted in the stores.
        now: The current time.
        retention: How long to keep the batch from now on, at least.
    """
    if batch.verified_attempt == evidence.attempt:
        return _record_accepted_rows(batch, evidence)
    conditions = [
        Condition(
            "evidence_is_of_the_last_load",
            Equals("unverified_attempt", evidence.attempt),
            f"The rows of load attempt {evidence.attempt} were counted, but another one is to be verified",
            "Count again after the last load has completed",
        ),
        Condition(
            "some_row_was_accepted",
            Differs("row_count", evidence.quarantined.rows),
            "All rows of the batch are in quarantine",
            "Read the quarantine, correct the model or its data, and score a new batch",
        ),
    ]
    conditions += _rows_add_up(batch, evidence)
    assign: dict[str, Value] = {
        "load_state": LoadState.VERIFIED,
        "verified_attempt": evidence.attempt,
        "accepted_rows": evidence.dynamodb.rows,
        "retain_until": format_utc(now + retention),
    }
    if batch.unverified_expire_at is not None:
        assign["items_expire_at"] = batch.unverified_expire_at
    # A replica may still hold an earlier load, whose items expire sooner. So each region is counted again.
    remove = (*_UNVERIFIED, "verified_regions")
    return _one_write(batch, Write(key=batch.key, conditions=tuple(conditions), assign=assign, remove=remove))


def confirm_region(batch: BatchRecord, *, region: str, attempt: int) -> Transaction:
    """Record that a serving region's replica holds every row of the verified load.

    Args:
        batch: The batch's record, read before the replica was counted.
        region: The serving region.
        attempt: The load attempt whose rows were counted; it must be the `verified_attempt`.
    """
    verified = Condition(
        "region_holds_the_verified_load",
        Equals("verified_attempt", attempt),
        f"The rows counted in {region} are not those of the verified load",
        "Count the replica again",
    )
    return _one_write(
        batch, Write(key=batch.key, conditions=(verified,), add={"verified_regions": frozenset({region})})
    )


def _record_accepted_rows(batch: BatchRecord, evidence: LoadEvidence) -> Transaction:
    """Add the accepted rows to the record of a load that an earlier release verified without them."""
    if batch.accepted_rows is not None:
        return Transaction(batch.model, batch.batch_id)
    of_the_verified_load = Condition(
        "evidence_is_of_the_verified_load",
        Equals("verified_attempt", evidence.attempt),
        "Another load of the batch was verified in the meantime",
        "Count again",
    )
    conditions = (of_the_verified_load, *_rows_add_up(batch, evidence))
    assign: dict[str, Value] = {"accepted_rows": evidence.dynamodb.rows}
    return _one_write(batch, Write(key=batch.key, conditions=conditions, assign=assign))


def _one_write(batch: BatchRecord, write: Write) -> Transaction:
    return Transaction(batch.model, batch.batch_id, (write,))


def _ended_claim(batch: BatchRecord, conditions: tuple[Condition, ...]) -> Write:
    # A batch whose load ended early has a done file and no complete load.
    assign: dict[str, Value] = {"load_state": LoadState.DONE} if batch.load_state == LoadState.LOADING else {}
    return Write(key=batch.key, conditions=conditions, assign=assign, remove=CLAIM_ATTRIBUTES)


def _no_load_is_claimed(now: datetime, ended_job_run_id: str | None) -> Condition:
    return Condition(
        "no_load_is_claimed",
        AnyOf((Missing("claim_token"), *_dead_claim(now, ended_job_run_id))),
        "Another load has claimed the batch",
        "Wait until its job run ends or the claim expires",
    )


def _claim_is_dead(now: datetime, ended_job_run_id: str | None) -> Condition:
    return Condition(
        "claim_is_dead",
        AnyOf(_dead_claim(now, ended_job_run_id)),
        "The claim may still be in use, or is already gone",
        "Wait until its job run ends or the claim expires",
    )


def _dead_claim(now: datetime, ended_job_run_id: str | None) -> tuple[Clause, ...]:
    lapsed = AllOf((Missing("claim_job_run_id"), Below("claim_confirm_by", format_utc(now))))
    return (lapsed, Equals("claim_job_run_id", ended_job_run_id)) if ended_job_run_id else (lapsed,)


def _claim_is_ours(token: str) -> Condition:
    return Condition(
        "claim_is_ours",
        Equals("claim_token", token),
        "Another load has replaced the claim of this one",
        "Let the other load finish; this job run must not touch the batch",
    )


def _manifest_is_the_jobs(manifest_digest: str) -> Condition:
    return Condition(
        "manifest_is_the_jobs",
        Equals("manifest_digest", manifest_digest),
        "The done file was replaced since this load was claimed",
        "Release the claim; another run loads the new done file",
    )


def _rows_add_up(batch: BatchRecord, evidence: LoadEvidence) -> Iterator[Condition]:
    quarantined = evidence.quarantined
    remedy = "Load the batch again and compare the load report with the manifest"
    for store, found in (("dynamodb", evidence.dynamodb), ("snowflake", evidence.snowflake)):
        total = found.plus(quarantined)
        yield Condition(
            f"{store}_rows_add_up",
            Equals("row_count", total.rows),
            f"{store} holds {found.rows} rows and {quarantined.rows} are in quarantine, "
            f"but the manifest declares {batch.row_count}",
            remedy,
        )
        yield Condition(
            f"{store}_checksum_adds_up",
            Equals("checksum", total.checksum_text),
            f"The rows in {store} and in quarantine do not match the manifest's checksum",
            remedy,
        )
