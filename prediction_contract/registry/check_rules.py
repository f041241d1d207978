"""What a model's own rules said of a batch: kept beside it, so that every publisher knows."""

from __future__ import annotations

from collections.abc import Sequence

from prediction_contract.registry.attribute_values import Value
from prediction_contract.registry.records import LONGEST_REASON, BatchRecord
from prediction_contract.registry.transaction import Transaction, Write


def record_checks(batch: BatchRecord, *, attempt: int, faults: Sequence[str]) -> Transaction:
    """Keep what a load's rows were found to break; the last verdict counts, and a repetition changes nothing.

    Args:
        batch: The batch's record as read.
        attempt: The load attempt whose rows were examined.
        faults: What keeps the batch from automatic publication, each as a sentence; none if nothing does.
    """
    text = "; ".join(faults)[:LONGEST_REASON] or None
    if (batch.checked_attempt, batch.check_faults) == (attempt, text):
        return Transaction(batch.model, batch.batch_id)
    assign: dict[str, Value] = {"checked_attempt": attempt}
    if text is not None:
        assign["check_faults"] = text
    remove = ("check_faults",) if text is None else ()
    return Transaction(batch.model, batch.batch_id, (Write(key=batch.key, assign=assign, remove=remove),))
