"""The sensor of challengers: each new batch is also scored by the model's challenger, in a separate run."""

# No postponed annotations: Dagster compares the context's annotation itself.
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import dagster as dg

from mlpipe_dagster.pipeline.asset_names import (
    BATCH_TAG,
    CHALLENGER_PREDICTIONS,
    MODEL_TAG,
    challenger_job_name,
    op_name,
)
from mlpipe_dagster.pipeline.model_sensors import UnreadableModels
from mlpipe_dagster.resources.platform import Platform
from prediction_contract.naming.batch import Partition
from prediction_contract.registry.records import BatchRecord, LoadState
from prediction_contract.registry.table import RegistryTable

SENSOR = "challengers"
# The most batches per model and tick; earlier ones are left out.
_NEWEST_BATCHES = 5
_NOT_COMPARED = frozenset({LoadState.REFUSED, LoadState.RETIRED})


def challenged_models(definitions: dg.Definitions) -> list[str]:
    """Return the sorted names of the models that can have a challenger."""
    return sorted(
        assets.key.path[0]
        for assets in definitions.assets or ()
        if isinstance(assets, dg.AssetsDefinition)
        and len(assets.keys) == 1
        and assets.key.path[1:] == [CHALLENGER_PREDICTIONS]
    )


def challengers_sensor(models: list[str], jobs: list[Any]) -> dg.SensorDefinition:
    """Return the sensor for all models.

    Args:
        models: The models' names.
        jobs: The jobs that score with a challenger.
    """

    @dg.sensor(
        name=SENSOR,
        jobs=jobs,
        minimum_interval_seconds=60,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Scores each new batch's features with the model's challenger as well.",
    )
    def challengers(context: dg.SensorEvaluationContext, platform: Platform) -> dg.SensorResult:
        return challengers_tick(context.cursor, platform.registry, models)

    return challengers


def challengers_tick(cursor: str | None, registry: RegistryTable, models: Iterable[str]) -> dg.SensorResult:
    """Request a challenger's run for the newest batches of each model that has one.

    The run key makes Dagster run each version only once per batch.
    """
    unreadable, requests = UnreadableModels(), []
    for model in models:
        with unreadable.collect(model):
            requests += _requests(registry, model)
    return unreadable.result(cursor, "No challenger has a batch to score", cursor=cursor, requests=requests)


def _requests(registry: RegistryTable, model: str) -> Iterator[dg.RunRequest]:
    pointer = registry.champion(model)
    if pointer is None or pointer.challenger is None:
        return
    batches = registry.batches(model, newest_first=True, page_size=_NEWEST_BATCHES)
    for record in islice(batches, _NEWEST_BATCHES):
        if record.partition and record.load_state not in _NOT_COMPARED:
            yield challenger_request(record, pointer.challenger)


def challenger_request(record: BatchRecord, version: int) -> dg.RunRequest:
    """Return the run that scores a batch's features with a version."""
    model = record.model
    config = {"batch_id": record.batch_id, "version": version}
    return dg.RunRequest(
        run_key=f"{SENSOR}:{model}:{version}:{record.batch_id}",
        job_name=challenger_job_name(model),
        partition_key=Partition(record.partition).dagster_key,
        run_config={"ops": {op_name(model, CHALLENGER_PREDICTIONS): {"config": config}}},
        tags={MODEL_TAG: model, BATCH_TAG: record.batch_id},
    )
