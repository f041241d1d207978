"""The sensor of live batches: loads batches again before they expire, and reports check results."""

# No postponed annotations: Dagster compares the context's annotation itself.
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from mlpipe_dagster.done_files.load_requests import load_run_config
from mlpipe_dagster.pipeline.asset_names import (
    BATCH_TAG,
    MODEL_TAG,
    PARTITION_TAG,
    PUBLICATION,
    asset_key,
    load_job_name,
    selected_batch_tag,
)
from mlpipe_dagster.pipeline.model_sensors import (
    ACTIVE_RUN_STATES,
    ServedModel,
    UnreadableModels,
    parse_cursor,
)
from mlpipe_dagster.publication.live_batch_checks import live_batch_verdicts
from mlpipe_dagster.publication.live_batch_rules import CheckVerdict, expiring_batches, served_batches
from mlpipe_dagster.resources.platform import Platform
from prediction_contract.naming.batch import Partition
from prediction_contract.registry.records import BatchRecord

# A failed load is requested again after this time; the shortest margin is twelve hours.
_RETRY_HOURS = 4


def reload_request(record: BatchRecord, now: datetime) -> dg.RunRequest:
    """Return the run that loads a live batch again; if that load fails, later calls request a new one.

    Attempts that have ended do not count, verified or not. If several such runs are requested before the
    first begins, one load satisfies all of them.
    """
    model, batch_id = record.model, record.batch_id
    # An attempt that still holds its claim, for example because its run was lost, may still complete.
    ended_attempts = record.load_attempts - (record.claim_token is not None)
    turn = int(now.timestamp() // (_RETRY_HOURS * 3600))
    return dg.RunRequest(
        run_key=f"reload:{batch_id}:{record.items_expire_at}:{turn}",
        job_name=load_job_name(model),
        partition_key=Partition(record.partition).dagster_key,
        tags={
            MODEL_TAG: model,
            BATCH_TAG: batch_id,
            PARTITION_TAG: record.partition,
            selected_batch_tag(model): batch_id,
        },
        run_config=load_run_config(model, batch_id, above_attempt=ended_attempts),
    )


def is_being_loaded(instance: dg.DagsterInstance, record: BatchRecord) -> bool:
    """Return whether a run that loads the batch is queued or in progress."""
    unfinished = dg.RunsFilter(
        job_name=load_job_name(record.model),
        tags={BATCH_TAG: record.batch_id},
        statuses=ACTIVE_RUN_STATES,
    )
    return bool(instance.get_run_ids(unfinished, limit=1))


def live_batches_tick(
    context: dg.SensorEvaluationContext, platform: Platform, models: Iterable[ServedModel], now: datetime
) -> dg.SensorResult:
    """Request loads of expiring batches; report each check's verdict when it changes, and once a day.

    Raises:
        ModelsUnreadableError: A model cannot be examined, and there is nothing else to report.
    """
    # Read outside the loop, so that wrong settings fail the whole tick.
    registry = platform.registry
    shown, today = parse_cursor(context.cursor, dict, {}), now.date().isoformat()
    requests, events, unreadable = [], [], UnreadableModels()
    found = {}
    for model in models:
        with unreadable.collect(model.name):
            records, pointers = served_batches(platform, model.name)
            requests += [
                reload_request(record, now)
                for record in expiring_batches(records, pointers, now=now, items_life=model.items_life)
                if not is_being_loaded(context.instance, record)
            ]
            for check, verdict in live_batch_verdicts(registry, model, records, now).items():
                name, seen = f"{model.name}/{check}", [verdict.passed, today]
                found[name] = seen
                if records and shown.get(name) != seen:
                    events.append(evaluation(model.name, check, verdict))
    return unreadable.result(
        context.cursor,
        "No live batch is about to expire",
        cursor=json.dumps(found),
        requests=requests,
        events=events,
    )


def evaluation(model: str, check: str, verdict: CheckVerdict) -> dg.AssetCheckEvaluation:
    """Return a verdict as an evaluation of one of the publication's checks."""
    return dg.AssetCheckEvaluation(
        asset_key=asset_key(model, PUBLICATION),
        check_name=check,
        passed=verdict.passed,
        metadata={"found": verdict.text},
        description=verdict.text,
    )


def live_batches_sensor(models: list[ServedModel], jobs: Iterable[Any]) -> dg.SensorDefinition:
    """Return the sensor for all models.

    Args:
        models: The models.
        jobs: The models' load jobs.
    """

    @dg.sensor(
        name="live_batches",
        jobs=list(jobs),
        minimum_interval_seconds=300,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Loads a live batch again before its items expire, and reports late partitions.",
    )
    def live_batches(context: dg.SensorEvaluationContext, platform: Platform) -> dg.SensorResult:
        return live_batches_tick(context, platform, models, datetime.now(UTC))

    return live_batches
