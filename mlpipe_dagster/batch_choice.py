"""Which batch a run loads, checks or publishes: the configured one, or the partition's newest."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import dagster as dg

from mlpipe_dagster.asset_names import DAGSTER_PARTITION_TAG, chosen_batch_tag
from prediction_contract.batch import Partition
from prediction_contract.errors import ContractError
from prediction_contract.registry.records import BatchRecord, LoadState, ReleaseState
from prediction_contract.registry.table import RegistryTable

_LOADABLE = frozenset({LoadState.DONE, LoadState.LOADING, LoadState.LOADED, LoadState.VERIFIED})


class NoBatchError(ContractError):
    """A partition has no batch that could be loaded or published."""


class BatchConfig(dg.Config):
    """Names a batch in a run's config.

    Attributes:
        batch_id: The batch; empty for the newest done batch of the partition.
    """

    batch_id: str = ""


def chosen_batch(
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
    tag = chosen_batch_tag(model)
    present = instance.get_run_by_id(run.run_id) or run
    chosen = configured or present.tags.get(tag, "")
    if not chosen:
        partition = Partition.from_dagster_key(partition_key_of(run, model))
        chosen = newest_batch(registry.batches(model), model, partition).batch_id
    if present.tags.get(tag) != chosen:
        instance.add_run_tags(run.run_id, {tag: chosen})
    return chosen


def newest_batch(records: Iterable[BatchRecord], model: str, partition: str) -> BatchRecord:
    """Return the newest batch of a partition that was neither refused nor withdrawn nor retired.

    Raises:
        NoBatchError: There is none.
    """
    candidates = [
        record
        for record in records
        if record.partition == partition
        and record.load_state in _LOADABLE
        and record.release_state != ReleaseState.WITHDRAWN
    ]
    if not candidates:
        raise NoBatchError(
            f"There is no done batch of {partition}",
            remedy="Score the partition, or name a batch_id in the run's config",
            model=model,
        )
    return max(candidates, key=lambda record: record.batch_id)


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


def batch_metadata(record: BatchRecord) -> dict[str, Any]:
    """Return what a person wants to see of a batch beside any of its assets."""
    return {
        "batch_id": record.batch_id,
        "partition": record.partition,
        "load_state": str(record.load_state),
        "release_state": str(record.release_state),
    }
