"""The done-file sensor: each new done file becomes one run of its model's load job."""

# No postponed annotations: Dagster compares the context's annotation itself.
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from mlpipe_dagster.done_files.done_file_queue import DoneFileQueue
from mlpipe_dagster.done_files.done_file_tick import DoneFileTick
from mlpipe_dagster.done_files.load_requests import Partitions
from mlpipe_dagster.resources.data_bucket import DataBucket
from mlpipe_dagster.resources.platform import Platform
from prediction_contract.registry.table import RegistryTable

# How long a registry change that conflicts with others is retried in one tick; the next tick tries again.
_REGISTRY_PATIENCE_SECONDS = 10.0


def done_files_tick(
    context: dg.SensorEvaluationContext,
    platform: Platform,
    partitions: Partitions,
    now: datetime,
    clock: Callable[[], float] = time.monotonic,
) -> dg.SensorResult:
    """Run one tick on the platform's bucket and queue."""
    settings = platform.settings
    bucket = DataBucket(platform.tick_client("s3"), settings.data_bucket)
    tick = DoneFileTick(
        context=context,
        bucket=bucket,
        registry=RegistryTable(
            platform.tick_client("dynamodb"),
            settings.deployment.registry_table,
            patience_seconds=_REGISTRY_PATIENCE_SECONDS,
        ),
        queue=DoneFileQueue(platform.tick_client("sqs"), settings.done_queue_url, bucket.name),
        partitions=partitions,
        now=now,
        clock=clock,
    )
    return tick.result()


def done_files_sensor(jobs: Iterable[Any], partitions: Partitions) -> dg.SensorDefinition:
    """Return the sensor for all models.

    Args:
        jobs: The models' load jobs.
        partitions: Each model's partitions.
    """

    @dg.sensor(
        name="done_files",
        jobs=list(jobs),
        minimum_interval_seconds=5,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Starts one load for each new done file, and refuses invalid ones.",
    )
    def done_files(context: dg.SensorEvaluationContext, platform: Platform) -> dg.SensorResult:
        return done_files_tick(context, platform, partitions, datetime.now(UTC))

    return done_files
