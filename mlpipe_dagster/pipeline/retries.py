"""A run and its retries: their common intent, the batch id made from it, and failures without retry."""

from __future__ import annotations

from datetime import UTC, datetime

import dagster as dg

from prediction_contract.naming.batch import BatchId, mint_batch_id

_PARENT = "dagster/parent_run_id"
_RETRIES = ("dagster/retry_number", "dagster/is_resume_retry")
_LONGEST_CHAIN = 100


def intent_of(instance: dg.DagsterInstance, run: dg.DagsterRun) -> tuple[str, datetime]:
    """Return id and creation time of the first run in a chain of retries.

    Automatic retries and retries from failure continue the same intent. A deliberate re-execution of the
    whole run is a new intent.
    """
    first = run
    for _ in range(_LONGEST_CHAIN):
        parent_id = first.tags.get(_PARENT)
        if parent_id is None or not any(tag in first.tags for tag in _RETRIES):
            break
        parent = instance.get_run_by_id(parent_id)
        if parent is None:
            # The parent was deleted, so the chain begins at this retry.
            break
        first = parent
    record = instance.get_run_record_by_id(first.run_id)
    created = record.create_timestamp if record else datetime.now(UTC)
    return first.run_id, created if created.tzinfo else created.replace(tzinfo=UTC)


def batch_id_of(instance: dg.DagsterInstance, run: dg.DagsterRun, model: str, partition: str) -> BatchId:
    """Return the batch id of a scoring run: equal for all retries of one intent."""
    intent, created = intent_of(instance, run)
    return mint_batch_id(model, partition, intent, created)


# Controls Dagster's automatic retries of whole runs.
_MAX_RETRIES_TAG = "dagster/max_retries"


def final_failure(context: dg.AssetExecutionContext, message: str) -> dg.Failure:
    """Return a failure to raise that Dagster does not retry, so that only one failed run remains."""
    leave_one_failed_run(context.instance, context.run.run_id)
    return dg.Failure(message, allow_retries=False)


def leave_one_failed_run(instance: dg.DagsterInstance, run_id: str) -> None:
    """Keep Dagster from retrying a run that is about to fail for a permanent reason."""
    instance.add_run_tags(run_id, {_MAX_RETRIES_TAG: "0"})
