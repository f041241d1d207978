"""Which batch a run loads, checks or publishes: the configured one, or the partition's newest."""

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

# Some steps of an earlier run, executed again, are about its batch.
_STEP_SELECTION = "dagster/step_selection"
_LOADABLE = frozenset({LoadState.DONE, LoadState.LOADING, LoadState.LOADED, LoadState.VERIFIED})


class NoBatchError(ContractError):
    """A partition has no batch that could be loaded or published."""


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
    """Return the batch that a run is about, and keep the choice in the run's tags for its other steps.

    Args:
        instance: Keeps the tags.
        run: The run; its partition counts unless a batch is named.
        registry: Knows the batches.
        model: The model's name.
        configured: The batch named in the step's config, or empty.

    Raises:
        NoBatchError: Nothing was named, and the partition has no batch to take.
    """
    present = instance.get_run_by_id(run.run_id) or run
    intent, _ = intent_of(instance, present)
    chosen = configured or _kept_choice(present, model, intent)
    if not chosen:
        partition = Partition.from_dagster_key(partition_key_of(run, model))
        chosen = newest_batch(registry, model, partition).batch_id
    keep_selection(instance, present, model, chosen)
    return chosen


def keep_selection(instance: dg.DagsterInstance, run: dg.DagsterRun, model: str, batch_id: str) -> None:
    """Keep in a run's tags which batch it is about, so that its later steps and its retries take the same."""
    intent, _ = intent_of(instance, run)
    kept = {selected_batch_tag(model): batch_id, selecting_intent_tag(model): intent}
    if any(run.tags.get(tag) != value for tag, value in kept.items()):
        instance.add_run_tags(run.run_id, kept)


def _kept_choice(run: dg.DagsterRun, model: str, intent: str) -> str:
    """Return the batch in a run's tags, unless the run was executed again as a whole and inherited them."""
    chooser = run.tags.get(selecting_intent_tag(model), intent)
    is_inherited = chooser != intent and _STEP_SELECTION not in run.tags
    return "" if is_inherited else run.tags.get(selected_batch_tag(model), "")


def newest_batch(registry: RegistryTable, model: str, partition: Partition) -> BatchRecord:
    """Return the newest batch of a partition that was neither refused nor withdrawn nor retired.

    Raises:
        NoBatchError: There is none.
    """
    for record in registry.batches_of(model, partition):
        if record.load_state in _LOADABLE and record.release_state != ReleaseState.WITHDRAWN:
            return record
    raise NoBatchError(
        f"There is no done batch of {partition}",
        remedy="Score the partition, or name a batch_id in the run's config",
        model=model,
    )


def partition_key_of(run: dg.DagsterRun, model: str) -> str:
    """Return the Dagster partition of a run.

    Raises:
        NoBatchError: The run has none, or a range of them.
    """
    key = run.tags.get(DAGSTER_PARTITION_TAG)
    if key is None:
        raise NoBatchError(
            "The run has not one partition",
            remedy="Start it with --partition, or as a backfill of one run per partition",
            model=model,
        )
    return key
