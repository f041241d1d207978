"""The sensor of done files: every new one of the last days becomes one run of its model's load job."""

# No postponed annotations: Dagster compares the context's annotation itself.
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg

from mlpipe_dagster.asset_names import (
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
from mlpipe_dagster.data_bucket import ObjectMissingError
from mlpipe_dagster.noticing import Noticed, notice, refuse
from mlpipe_dagster.resources.platform import Platform
from mlpipe_dagster.sensors.done_file_marks import Cursor, UnseenFile, unseen_files
from prediction_contract.batch import Partition
from prediction_contract.manifest import Manifest

WINDOW_DAYS = 3
MOST_RUNS = 25
# Bad files need no run, yet a flood of them must not take the whole tick either.
_MOST_FILES = 100
# Dagster gives a tick 60 seconds, and forgets all of one that takes longer.
_MOST_SECONDS = 30

Partitions = Mapping[str, dg.PartitionsDefinition[str]]


def load_request(manifest: Manifest, redelivery: str = "") -> dg.RunRequest:
    """Return the run that loads, checks and publishes a batch; a redelivery's beside the one that failed."""
    model, batch_id = manifest.model, manifest.batch_id
    named = {"config": {"batch_id": str(batch_id)}}
    # A manifest replaced before it was loaded has another digest, and is another run.
    run_key = f"{batch_id}:{manifest.digest}"
    return dg.RunRequest(
        run_key=f"{run_key}:{redelivery}" if redelivery else run_key,
        job_name=load_job_name(model),
        partition_key=manifest.partition.dagster_key,
        tags={
            MODEL_TAG: str(model),
            BATCH_TAG: str(batch_id),
            PARTITION_TAG: str(manifest.partition),
            chosen_batch_tag(model): str(batch_id),
        },
        run_config={"ops": {load_op_name(model): named, op_name(model, PUBLICATION): named}},
    )


def refusal_event(noticed: Noticed, models: Iterable[str]) -> dg.AssetObservation | None:
    """Return a refusal as an event of the model's predictions, if there is such a model."""
    if noticed.name is None or noticed.name.model not in set(models):
        return None
    return dg.AssetObservation(
        asset_key=asset_key(noticed.name.model, PREDICTIONS),
        description=f"Done file refused: {noticed.refusal}",
        metadata={
            "refused_done_file": noticed.key,
            "batch_id": str(noticed.name.batch_id),
            "reason": noticed.refusal or "",
            "recorded_in_registry": noticed.is_recorded,
        },
    )


def judged(noticed: Noticed, platform: Platform, partitions: Partitions) -> Noticed:
    """Return what was noticed, refused if the code location has no such model or partition."""
    manifest = noticed.manifest
    if noticed.name is not None and noticed.name.model not in partitions:
        # Not recorded: once the model is declared, the same file loads.
        reason = f"No model {noticed.name.model} is declared"
        return Noticed(key=noticed.key, name=noticed.name, digest=noticed.digest, refusal=reason)
    if noticed.refusal is None and manifest is not None:
        known = partitions[manifest.model]
        key = Partition(manifest.partition).dagster_key
        if not known.has_partition_key(key):
            return refuse(
                platform.registry, noticed, f"{manifest.partition} is no partition of {manifest.model}"
            )
    return noticed


def requested_run(file: UnseenFile, noticed: Noticed) -> dg.RunRequest | None:
    """Return the run that an accepted file asks for, or None if what it says is under way or done."""
    if noticed.manifest is None:
        return None
    if not file.redelivered:
        return load_request(noticed.manifest)
    return load_request(noticed.manifest, file.delivery) if noticed.is_to_be_tried_again else None


def done_files_tick(
    context: dg.SensorEvaluationContext,
    platform: Platform,
    partitions: Partitions,
    today: date,
    clock: Callable[[], float] = time.monotonic,
) -> dg.SensorResult:
    """Look once: list the window, deal with what is new, and remember what was dealt with."""
    bucket, registry = platform.bucket, platform.registry
    began = clock()
    listed = bucket.done_files(today - timedelta(days=WINDOW_DAYS))
    new, cursor = unseen_files(listed, Cursor.parse(context.cursor), partitions)
    requests: list[dg.RunRequest] = []
    refused: list[Noticed] = []
    marks: set[str] = set()
    troubles: list[Exception] = []
    for file in new[:_MOST_FILES]:
        if len(requests) == MOST_RUNS or clock() - began > _MOST_SECONDS:
            break
        try:
            noticed = judged(
                notice(bucket, registry, file.key, redelivered=file.redelivered), platform, partitions
            )
        except ObjectMissingError:
            # Deleted since it was listed: there is nothing left to load.
            continue
        except Exception as error:  # whatever ails one file, the others go on
            context.log.exception("The done file %s is looked at again by the next tick", file.key)
            troubles.append(error)
            continue
        marks.add(file.mark)
        if noticed.refusal is not None:
            context.log.error("The done file %s is refused: %s", file.key, noticed.refusal)
            refused.append(noticed)
        elif request := requested_run(file, noticed):
            requests.append(request)
    if troubles and not marks:
        raise troubles[0]
    events = [event for noticed in refused if (event := refusal_event(noticed, partitions)) is not None]
    return dg.SensorResult(
        run_requests=requests,
        skip_reason=None if requests else _skip_reason(refused),
        cursor=Cursor(cursor.seen | marks).text(),
        asset_events=events,
    )


def _skip_reason(refused: list[Noticed]) -> str:
    if not refused:
        return "No new done files"
    return "Refused: " + "; ".join(f"{noticed.key}: {noticed.refusal}" for noticed in refused)[:2000]


def done_files_sensor(jobs: Iterable[Any], partitions: Partitions) -> dg.SensorDefinition:
    """Return the sensor over all models.

    Args:
        jobs: The models' load jobs.
        partitions: Each model's partitions.
    """

    @dg.sensor(
        name="done_files",
        jobs=list(jobs),
        minimum_interval_seconds=5,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Starts one load for each new done file, and refuses those that are none.",
    )
    def done_files(context: dg.SensorEvaluationContext, platform: Platform) -> dg.SensorResult:
        return done_files_tick(context, platform, partitions, datetime.now(UTC).date())

    return done_files
