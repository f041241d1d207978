"""Failures that trying again cannot mend: neither the step nor its run is retried by policy."""

from __future__ import annotations

import dagster as dg

# What Dagster's automatic retries of whole runs obey.
_MAX_RETRIES_TAG = "dagster/max_retries"


def final_failure(context: dg.AssetExecutionContext, message: str) -> dg.Failure:
    """Return a failure to raise that leaves one failed run to look at, and not one for each retry."""
    context.instance.add_run_tags(context.run_id, {_MAX_RETRIES_TAG: "0"})
    return dg.Failure(message, allow_retries=False)
