"""Failures that trying again cannot mend: neither the step nor its run is retried by policy."""

from __future__ import annotations

import dagster as dg

# What Dagster's automatic retries of whole runs obey.
_MAX_RETRIES_TAG = "dagster/max_retries"


def final_failure(context: dg.AssetExecutionContext, message: str) -> dg.Failure:
    """Return a failure to raise that leaves one failed run to look at, and not one for each retry."""
    leave_one_failed_run(context.instance, context.run_id)
    return dg.Failure(message, allow_retries=False)


def leave_one_failed_run(instance: dg.DagsterInstance, run_id: str) -> None:
    """Keep Dagster from executing a run again that is about to fail for a reason that stays."""
    instance.add_run_tags(run_id, {_MAX_RETRIES_TAG: "0"})
