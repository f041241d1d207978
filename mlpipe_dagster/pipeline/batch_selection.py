"""Selects the batch that a run loads, checks or publishes: the configured one, or the partition's newest."""

from __future__ import annotations

import dagster as dg

from mlpipe_dagster.pipeline.asset_names import (
    DAGSTER_PARTITION_TAG,
    selected_batch_tag,
    selecting_intent_tag,
)
from mlpipe_dagster.pipeline.retries import intent_of
from prediction_contract.errors import ContractError
from prediction_contract.naming.batch import Partition
from prediction_contract.registry.records import BatchRecord, LoadState, ReleaseState
from prediction_contract.registry.table import RegistryTable

# Set if only some steps of an earlier run are executed again; they use that run's batch.
_STEP_SELECTION = "dagster/step_selection"
_LOADABLE = frozenset({LoadState.DONE, LoadState.LOADING, LoadState.LOADED, LoadState.VERIFIED})


class NoBatchError(ContractError):
    """A partition has no batch to load or publish."""


class BatchConfig(dg.Config):
    """Names a batch in a run's config.

    Attributes:
        batch_id: The batch; empty for the newest done batch of the partition.
    """

    batch_id: str = ""


def select_batch(
    instance: dg.DagsterInstance,
    run: dg.DagsterRun,
    registry: RegistryTable,
    model: str,
    configured: str = "",
) -> str:
    """Return the run's batch, and record the choice in the run's tags for its other steps.

    Args:
        instance: The Dagster instance, which stores the tags.
        run: The run; its partition is used if no batch is named.
        registry: The registry.
        model: The model's name.
        configured: The batch in the step's config; empty if none.

    Raises:
        NoBatchError: No batch was named, and the partition has none.
    """
    present = instance.get_run_by_id(run.run_id) or run
    intent, _ = intent_of(instance, present)
    chosen = configured or _recorded_choice(present, model, intent)
    if not chosen:
        partition = Partition.from_dagster_key(partition_key_of(run, model))
        chosen = newest_batch(registry, model, partition).batch_id
    keep_selection(instance, present, model, chosen)
    return chosen


def keep_selection(instance: dg.DagsterInstance, run: dg.DagsterRun, model: str, batch_id: str) -> None:
    """Record a run's batch in its tags, so that later steps and retries use the same one."""
    intent, _ = intent_of(instance, run)
    kept = {selected_batch_tag(model): batch_id, selecting_intent_tag(model): intent}
    if any(run.tags.get(tag) != value for tag, value in kept.items()):
        instance.add_run_tags(run.run_id, kept)


def _recorded_choice(run: dg.DagsterRun, model: str, intent: str) -> str:
    """Return the batch in a run's tags; empty if it was inherited by a re-execution of the whole run."""
    chooser = run.tags.get(selecting_intent_tag(model), intent)
    is_inherited = chooser != intent and _STEP_SELECTION not in run.tags
    return "" if is_inherited else run.tags.get(selected_batch_tag(model), "")


def newest_batch(registry: RegistryTable, model: str, partition: Partition) -> BatchRecord:
    """Return the newest batch of a partition that was not refused, withdrawn or retired.

    Raises:
        NoBatchError: There is no such batch.
    """
    for record in registry.batches_of(model, partition):
        if record.load_state in _LOADABLE and record.release_state != ReleaseState.WITHDRAWN:
            return record
    raise NoBatchError(
        f"{partition} has no batch that can be loaded or published",
        remedy="Score the partition, or name a batch_id in the run's config",
        model=model,
    )


def partition_key_of(run: dg.DagsterRun, model: str) -> str:
    """Return the Dagster partition of a run.

    Raises:
        NoBatchError: The run has no partition, or a range of partitions.
    """
    key = run.tags.get(DAGSTER_PARTITION_TAG)
    if key is None:
        raise NoBatchError(
            "The run must target exactly one partition",
            remedy="Start it with --partition, or as a backfill of one run per partition",
            model=model,
        )
    return key
