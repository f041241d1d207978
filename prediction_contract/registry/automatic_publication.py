"""Conditions that a batch must meet to be published automatically."""

from __future__ import annotations

from collections.abc import Sequence

from prediction_contract.naming.batch import BatchId
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
from prediction_contract.registry.records import LONGEST_REASON, BatchRecord
from prediction_contract.registry.stored_record import Value
from prediction_contract.registry.transaction import Transaction, Write
from prediction_contract.registry.version_records import VersionState, version_key
from prediction_contract.text.utc_time import format_utc

AUTOMATIC_ONLY_CONDITIONS = frozenset(
    {
        "target_was_never_published",
        "target_is_newer_than_live",
        "target_was_minted_after_rollback",
        "publication_is_not_held",
        "version_is_not_withdrawn",
    }
)
"""Conditions of automatic publication only. A batch that fails one stays loaded; a person may publish it."""


def record_checks(batch: BatchRecord, *, attempt: int, faults: Sequence[str]) -> Transaction:
    """Record the faults that the model's checks found in a load. They replace those of earlier checks.

    Args:
        batch: The batch's record as read.
        attempt: The load attempt whose rows were checked.
        faults: One sentence per fault that prevents automatic publication; empty if the checks passed.
    """
    text = "; ".join(faults)[:LONGEST_REASON] or None
    if (batch.checked_attempt, batch.check_faults) == (attempt, text):
        return Transaction(batch.model, batch.batch_id)
    assign: dict[str, Value] = {"checked_attempt": attempt}
    if text is not None:
        assign["check_faults"] = text
    remove = ("check_faults",) if text is None else ()
    return Transaction(batch.model, batch.batch_id, (Write(key=batch.key, assign=assign, remove=remove),))


def checks_were_passed(target: BatchRecord) -> Condition:
    """Return the condition that the last verified load passed its checks."""
    attempt = target.verified_attempt or 0
    return Condition(
        "target_passed_its_checks",
        # A load that is verified after this decision needs checks of its own.
        AllOf(
            (
                Equals("verified_attempt", attempt),
                Equals("checked_attempt", attempt),
                Missing("check_faults"),
            )
        ),
        f"The batch failed its checks: {target.check_faults}"
        if target.check_faults
        else "The model's checks have not been run on the last verified load",
        "Materialize the publication, which runs them, or publish the batch explicitly",
    )


def automatic_publication_conditions(target: BatchRecord) -> tuple[Condition, ...]:
    """Return the conditions on the home pointer: the batch is newer and no rollback or hold prevents it."""
    newer: tuple[Clause, ...] = (
        Missing("batch_id"),
        Below("partition", target.partition),
        AllOf((Equals("partition", target.partition), Below("batch_id", target.batch_id))),
    )
    return (
        Condition(
            "target_is_newer_than_live",
            AnyOf(newer),
            "The batch is not newer than the live one by partition and batch id",
            "Publish it explicitly if it should be live",
        ),
        Condition(
            "target_was_minted_after_rollback",
            AnyOf(
                (
                    Missing("withdrawn_before"),
                    Below("withdrawn_before", format_utc(BatchId(target.batch_id).minted_at)),
                )
            ),
            "The batch was minted before the last rollback and may have the same fault",
            "Score the partition again, or publish the batch explicitly",
        ),
        Condition(
            "publication_is_not_held",
            Differs("hold", True),
            "Publication of the model is on hold",
            "Release the hold, or publish the batch explicitly",
        ),
    )


def version_may_publish(target: BatchRecord) -> tuple[Write, ...]:
    """Return the check that the batch's model version is neither withdrawn nor retired.

    It is empty if the batch names no version.
    """
    if target.version_number is None:
        return ()
    may_publish = Condition(
        "version_is_not_withdrawn",
        AllOf((Differs("state", VersionState.WITHDRAWN), Differs("state", VersionState.RETIRED))),
        f"Version {target.version_number} of the model, which scored the batch, was withdrawn",
        "Score the partition again, or publish the batch explicitly",
    )
    return (Write(key=version_key(target.model, target.version_number), conditions=(may_publish,)),)
