"""What becomes of a done file that was noticed: the run that loads its batch, or a refusal to be shown."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import dagster as dg

from mlpipe_dagster.done_files.done_file_fingerprints import WINDOW_DAYS, Mark, Standing
from mlpipe_dagster.done_files.registration import Noticed, refuse
from mlpipe_dagster.markdown import code_span
from mlpipe_dagster.pipeline.asset_names import (
    BATCH_TAG,
    MODEL_TAG,
    PARTITION_TAG,
    PREDICTIONS,
    PUBLICATION,
    asset_key,
    chosen_batch_tag,
    load_job_name,
    load_op_name,
    op_name,
)
from mlpipe_dagster.pipeline.model_partitions import why_no_partition
from prediction_contract.manifests.manifest import Manifest
from prediction_contract.naming.batch import Partition
from prediction_contract.registry.table import RegistryTable

# Of files that belong to no declared model, and so to no asset of one.
REFUSED_DONE_FILES = dg.AssetKey("refused_done_files")

Partitions = Mapping[str, dg.PartitionsDefinition[str]]


def load_request(manifest: Manifest, delivery: str = "") -> dg.RunRequest:
    """Return the run that loads, checks and publishes a batch; a redelivery's beside the one that failed."""
    model, batch_id = manifest.model, manifest.batch_id
    # A manifest replaced before it was loaded has another digest, and is another run.
    run_key = f"{batch_id}:{manifest.digest}"
    return dg.RunRequest(
        run_key=f"{run_key}:{delivery}" if delivery else run_key,
        job_name=load_job_name(model),
        partition_key=manifest.partition.dagster_key,
        tags={
            MODEL_TAG: str(model),
            BATCH_TAG: str(batch_id),
            PARTITION_TAG: str(manifest.partition),
            chosen_batch_tag(model): str(batch_id),
        },
        run_config=load_run_config(model, batch_id),
    )


def load_run_config(model: str, batch_id: str, *, above_attempt: int = 0) -> dict[str, Any]:
    """Return the config of a run that loads, checks and publishes a batch.

    Args:
        model: The model's name.
        batch_id: The batch.
        above_attempt: The load attempt that the run's load must surpass; 0 if any complete load will do.
    """
    named = {"batch_id": str(batch_id)}
    load = {**named, "above_attempt": above_attempt} if above_attempt else named
    return {"ops": {load_op_name(model): {"config": load}, op_name(model, PUBLICATION): {"config": named}}}


def requested_run(mark: Mark, standing: Standing, noticed: Noticed) -> dg.RunRequest | None:
    """Return the run that an accepted file asks for, or None if what it says is under way or done.

    A run key matches an earlier run that failed, too: trying again takes a run key of the delivery.
    """
    if noticed.manifest is None:
        return None
    if standing is Standing.NEW:
        # To a sensor that has lost its cursor, or begins, all files are new.
        return None if noticed.is_through else load_request(noticed.manifest)
    if not noticed.awaits_load:
        return None
    is_tried = standing is Standing.RETURNED or noticed.load_attempts > 0
    return load_request(noticed.manifest, mark.delivery if is_tried else "")


def judged(noticed: Noticed, registry: RegistryTable, partitions: Partitions) -> Noticed:
    """Return what was noticed, refused if the code location has no such model or partition."""
    manifest = noticed.manifest
    if noticed.name is not None and noticed.name.model not in partitions:
        # Not recorded: once the model is known, the same file loads.
        reason = (
            f"The code location knows no model {noticed.name.model}. Declare the model and reload the code "
            f"location; the batch then loads by itself if that is done within {WINDOW_DAYS} days"
        )
        return Noticed(
            key=noticed.key, name=noticed.name, digest=noticed.digest, refusal=reason, awaits_model=True
        )
    if noticed.refusal is None and manifest is not None:
        known, partition = partitions[manifest.model], Partition(manifest.partition)
        if not known.has_partition_key(partition.dagster_key):
            what, remedy = why_no_partition(manifest.model, partition, known)
            return refuse(registry, noticed, f"{what}. {remedy}")
    return noticed


def refusal_event(noticed: Noticed, models: Collection[str]) -> dg.AssetObservation:
    """Return a refusal as an event of the model's predictions, or of all that belong to no known model."""
    name, word = noticed.name, "waiting" if noticed.awaits_model else "refused"
    is_declared = name is not None and name.model in models
    return dg.AssetObservation(
        asset_key=asset_key(name.model, PREDICTIONS) if name and is_declared else REFUSED_DONE_FILES,
        description=f"Done file {word}: {code_span(noticed.refusal or '')}",
        metadata={
            f"{word}_done_file": noticed.key,
            **({"batch_id": str(name.batch_id)} if name else {}),
            "reason": noticed.refusal or "",
            "recorded_in_registry": noticed.is_recorded,
        },
    )
