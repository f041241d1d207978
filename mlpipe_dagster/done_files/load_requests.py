"""Turns a registered done file into the run that loads its batch, or into a refusal event."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import dagster as dg

from mlpipe_dagster.done_files.done_file_fingerprints import WINDOW_DAYS, DeliveryStatus, Fingerprint
from mlpipe_dagster.done_files.registration import DoneFile, refuse
from mlpipe_dagster.markdown import code_span
from mlpipe_dagster.pipeline.asset_names import (
    BATCH_TAG,
    MODEL_TAG,
    PARTITION_TAG,
    PREDICTIONS,
    PUBLICATION,
    asset_key,
    load_job_name,
    load_op_name,
    op_name,
    selected_batch_tag,
)
from mlpipe_dagster.pipeline.model_partitions import why_no_partition
from prediction_contract.manifests.manifest import Manifest
from prediction_contract.naming.batch import Partition
from prediction_contract.registry.records import BatchRecord, LoadState
from prediction_contract.registry.table import RegistryTable

# The asset for done files that belong to no declared model.
REFUSED_DONE_FILES = dg.AssetKey("refused_done_files")

Partitions = Mapping[str, dg.PartitionsDefinition[str]]


def load_request(manifest: Manifest, delivery: str = "") -> dg.RunRequest:
    """Return the run that loads, checks and publishes a batch; a redelivery gets a run key of its own."""
    model, batch_id = manifest.model, manifest.batch_id
    # A manifest that was replaced before the load has another digest, and so gets another run.
    run_key = f"{batch_id}:{manifest.digest}"
    return dg.RunRequest(
        run_key=f"{run_key}:{delivery}" if delivery else run_key,
        job_name=load_job_name(model),
        partition_key=manifest.partition.dagster_key,
        tags={
            MODEL_TAG: str(model),
            BATCH_TAG: str(batch_id),
            PARTITION_TAG: str(manifest.partition),
            selected_batch_tag(model): str(batch_id),
        },
        run_config=load_run_config(model, batch_id),
    )


def load_run_config(model: str, batch_id: str, *, above_attempt: int = 0) -> dict[str, Any]:
    """Return the config of a run that loads, checks and publishes a batch.

    Args:
        model: The model's name.
        batch_id: The batch.
        above_attempt: Load again unless a later attempt than this is complete; 0 accepts any.
    """
    named = {"batch_id": str(batch_id)}
    load = {**named, "above_attempt": above_attempt} if above_attempt else named
    return {"ops": {load_op_name(model): {"config": load}, op_name(model, PUBLICATION): {"config": named}}}


def requested_run(
    fingerprint: Fingerprint, status: DeliveryStatus, done_file: DoneFile
) -> dg.RunRequest | None:
    """Return the run for an accepted file; None if its batch is already loaded or being loaded.

    Dagster starts no second run for a run key, even after a failure. The run key of a new attempt therefore
    contains the delivery.
    """
    manifest, record = done_file.manifest, done_file.record
    if manifest is None:
        return None
    if status is DeliveryStatus.NEW:
        # After a sensor has lost its cursor, all files are new to it.
        return None if record is not None and _is_finished(record) else load_request(manifest)
    if record is None or record.load_state != LoadState.DONE:
        return None
    is_tried = status is DeliveryStatus.RETURNED or record.load_attempts > 0
    return load_request(manifest, fingerprint.delivery if is_tried else "")


def _is_finished(record: BatchRecord) -> bool:
    """Return whether no run has work left: the batch is verified and checked, or retired."""
    is_checked = record.verified_attempt is not None and record.checked_attempt == record.verified_attempt
    return record.load_state == LoadState.RETIRED or (record.load_state == LoadState.VERIFIED and is_checked)


def refuse_unknown_target(done_file: DoneFile, registry: RegistryTable, partitions: Partitions) -> DoneFile:
    """Refuse a done file if the code location has no such model or partition; else return it unchanged."""
    manifest = done_file.manifest
    if done_file.name is not None and done_file.name.model not in partitions:
        # Not recorded in the registry, so that the same file loads once the model is known.
        reason = (
            f"The code location has no model {done_file.name.model}. Declare it and reload the code location "
            f"within {WINDOW_DAYS} days; the batch then loads automatically"
        )
        return DoneFile(
            key=done_file.key, name=done_file.name, digest=done_file.digest, refusal=reason, awaits_model=True
        )
    if done_file.refusal is None and manifest is not None:
        known, partition = partitions[manifest.model], Partition(manifest.partition)
        if not known.has_partition_key(partition.dagster_key):
            what, remedy = why_no_partition(manifest.model, partition, known)
            return refuse(registry, done_file, f"{what}. {remedy}")
    return done_file


def refusal_event(done_file: DoneFile, models: Collection[str]) -> dg.AssetObservation:
    """Return a refusal as an event of the model's predictions, or of `refused_done_files`."""
    name, word = done_file.name, "waiting" if done_file.awaits_model else "refused"
    is_declared = name is not None and name.model in models
    return dg.AssetObservation(
        asset_key=asset_key(name.model, PREDICTIONS) if name and is_declared else REFUSED_DONE_FILES,
        description=f"Done file {word}: {code_span(done_file.refusal or '')}",
        metadata={
            f"{word}_done_file": done_file.key,
            **({"batch_id": str(name.batch_id)} if name else {}),
            "reason": done_file.refusal or "",
            "recorded_in_registry": done_file.is_recorded,
        },
    )
