"""The sensor of retention: requests a daily sweep for each model with expired batches."""

# No postponed annotations: Dagster compares the context's annotation itself.
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import dagster as dg

from mlpipe_dagster.markdown import markdown_list
from mlpipe_dagster.pipeline.asset_names import MODEL_TAG, PUBLICATION, SNOWFLAKE_POOL, asset_key
from mlpipe_dagster.pipeline.model_sensors import ServedModel, parse_cursor
from mlpipe_dagster.resources.aws_clients import delta_storage_options
from mlpipe_dagster.resources.platform import Platform
from mlpipe_dagster.resources.warehouse import Warehouse
from mlpipe_dagster.resources.warehouse_session import WarehouseSession
from mlpipe_dagster.retention.delta_history import DeltaHistory
from mlpipe_dagster.retention.retention_sweep import (
    RetentionSweep,
    RetiredBatch,
    SweepResult,
    model_needs_sweep,
)
from mlpipe_dagster.retention.version_retention import VersionRetention
from prediction_contract.naming.batch import Partition

JOB = "retention"
_OP = "retire_batches"
# Dagster ends a tick after sixty seconds; the next tick examines the remaining models.
_TICK_SECONDS = 20.0


class RetentionConfig(dg.Config):
    """Names the model to sweep."""

    model: str


@dg.op(
    name=_OP,
    pool=SNOWFLAKE_POOL,
    description="Retires a model's expired batches and versions, and vacuums its Delta table.",
)
def retire_batches(
    context: dg.OpExecutionContext, config: RetentionConfig, platform: Platform, warehouse: Warehouse
) -> None:
    """Sweep one model; a repeated run continues a sweep that died."""

    def log_retired(batch: RetiredBatch) -> None:
        # If the step fails, Dagster drops its observations but keeps the log.
        values = (batch.record.batch_id, batch.rows, batch.objects, batch.bytes)
        context.log.info("Retired %s: deleted %d rows and %d objects, %d bytes", *values)

    with warehouse.session() as session:
        found = retention_sweep(
            context.instance, platform, session, model=config.model, run_id=context.run_id
        )
        swept = replace(found, on_retired=log_retired).sweep()
    versions = VersionRetention(platform.registry, platform.bucket, config.model).sweep(datetime.now(UTC))
    for batch in swept.retired:
        context.log_event(retired_observation(batch))
    context.log_event(sweep_observation(config.model, swept, versions))


@dg.job(name=JOB, description="Deletes the expired batches of one model from Snowflake and S3.")
def retention_job() -> None:
    """Sweep a model."""
    retire_batches()


def retention_sweep(
    instance: dg.DagsterInstance, platform: Platform, session: WarehouseSession, *, model: str, run_id: str
) -> RetentionSweep:
    """Return the sweep of a model."""
    settings = platform.settings

    def has_ended(holder: str) -> bool:
        run = instance.get_run_by_id(holder)
        return run is None or run.is_finished

    return RetentionSweep(
        model=model,
        run_id=run_id,
        has_ended=has_ended,
        registry=platform.registry,
        home_region=settings.deployment.home,
        regions=settings.serving_regions,
        bucket=platform.bucket,
        warehouse=session,
        delta=DeltaHistory(settings.data_bucket, model, lambda: delta_storage_options(platform.client("s3"))),
        clock=lambda: datetime.now(UTC),
    )


def retired_observation(batch: RetiredBatch) -> dg.AssetObservation:
    """Return the data deleted with a batch as an event of the publication's partition."""
    record = batch.record
    shown = {
        "batch_id": record.batch_id,
        "release_state": str(record.release_state),
        "snowflake_rows_deleted": batch.rows,
        "s3_objects_deleted": batch.objects,
        "s3_bytes_freed": batch.bytes,
        "online_items_expire_at": record.items_expire_at,
    }
    return dg.AssetObservation(
        asset_key=asset_key(record.model, PUBLICATION),
        partition=Partition(record.partition).dagster_key if record.partition else None,
        description=f"Retired {record.batch_id}",
        metadata={name: value for name, value in shown.items() if value is not None},
    )


def sweep_observation(model: str, swept: SweepResult, versions: Sequence[int]) -> dg.AssetObservation:
    """Return the result of a sweep as an event of the model's publication."""
    kept = [f"{batch_id}: {reason}" for batch_id, reason in sorted(swept.kept.items())]
    return dg.AssetObservation(
        asset_key=asset_key(model, PUBLICATION),
        description=f"Retention: {len(swept.retired)} batches retired",
        metadata={
            "batches_retired": len(swept.retired),
            "versions_retired": ", ".join(map(str, versions)) or "none",
            "snowflake_rows_deleted": sum(batch.rows for batch in swept.retired),
            "s3_objects_deleted": sum(batch.objects for batch in swept.retired) + swept.vacuumed_files,
            "s3_bytes_freed": sum(batch.bytes for batch in swept.retired) + swept.vacuumed_bytes,
            "delta_files_removed": swept.delta_files,
            "delta_files_vacuumed": swept.vacuumed_files,
            "kept": markdown_list(kept, empty="none"),
            **({"not_vacuumed": swept.not_vacuumed} if swept.not_vacuumed else {}),
        },
    )


def unreadable_observation(model: str, error: Exception) -> dg.AssetObservation:
    """Return an event of the model's publication that says why retention skips the model today."""
    return dg.AssetObservation(
        asset_key=asset_key(model, PUBLICATION),
        description="Retention: a record in the registry cannot be read, so nothing is retired today",
        metadata={"not_looked_at": f"{type(error).__name__}: {error}"[:1000]},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionCursor:
    """The progress of a day's round through the models.

    Attributes:
        day: The UTC date of the round.
        after: The model that was examined last; empty at the start of a day.
    """

    day: str = ""
    after: str = ""

    @classmethod
    def parse(cls, text: str | None) -> "RetentionCursor":
        """Parse a sensor's cursor; an invalid one counts as empty."""
        return parse_cursor(text, lambda found: cls(day=str(found["day"]), after=str(found["after"])), cls())

    def text(self) -> str:
        """Return the cursor in the form that the sensor stores."""
        return json.dumps({"day": self.day, "after": self.after})


def retention_tick(
    cursor_text: str | None,
    platform: Platform,
    models: Iterable[ServedModel],
    now: datetime,
    *,
    seconds: float = _TICK_SECONDS,
) -> dg.SensorResult:
    """Examine today's remaining models; request a run for each that needs a sweep.

    A model with an unreadable record is reported, and examined again the next day.
    """
    cursor, today = RetentionCursor.parse(cursor_text), now.date().isoformat()
    if cursor.day != today:
        cursor = replace(cursor, day=today, after="")
    deadline, requests, unreadable = time.monotonic() + seconds, [], []
    home = platform.settings.deployment.home
    for model in sorted(model.name for model in models):
        if model <= cursor.after:
            continue
        try:
            is_asked = model_needs_sweep(platform.registry, model, home, now=now)
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            # Errors of AWS are not caught: they would leave out one model after another.
            unreadable.append(unreadable_observation(model, error))
            is_asked = False
        if is_asked:
            requests.append(sweep_request(model, today))
        cursor = replace(cursor, after=model)
        if time.monotonic() > deadline:
            break
    return dg.SensorResult(
        run_requests=requests,
        skip_reason=None if requests else "No batch has expired",
        cursor=cursor.text(),
        asset_events=unreadable,
    )


def sweep_request(model: str, day: str) -> dg.RunRequest:
    """Return the run that sweeps a model; there is at most one per day."""
    return dg.RunRequest(
        run_key=f"{JOB}:{model}:{day}",
        job_name=JOB,
        run_config={"ops": {_OP: {"config": {"model": model}}}},
        tags={MODEL_TAG: model},
    )


def retention_sensor(models: list[ServedModel]) -> dg.SensorDefinition:
    """Return the sensor for all models."""

    @dg.sensor(
        name="retention",
        job=retention_job,
        minimum_interval_seconds=300,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Sweeps each model that has expired batches once a day.",
    )
    def retention(context: dg.SensorEvaluationContext, platform: Platform) -> dg.SensorResult:
        return retention_tick(context.cursor, platform, models, datetime.now(UTC))

    return retention
