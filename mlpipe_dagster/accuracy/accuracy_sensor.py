"""The sensor of accuracy: measures a published batch once a later partition's data has its outcomes."""

# No postponed annotations: Dagster compares the context's annotation itself.
import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import Any

import dagster as dg

from mlpipe_dagster.accuracy.accuracy_documents import AccuracyDocuments
from mlpipe_dagster.pipeline.asset_names import (
    ACCURACY,
    MEASURED_BATCH_TAG,
    MODEL_TAG,
    accuracy_job_name,
)
from mlpipe_dagster.pipeline.model_sensors import UnreadableModels, parse_cursor
from mlpipe_dagster.resources.data_bucket import DataBucket
from mlpipe_dagster.resources.platform import Platform
from prediction_contract.naming.batch import Partition
from prediction_contract.naming.s3_layout import partition_features_prefix
from prediction_contract.registry.records import PublicationEntry
from prediction_contract.registry.table import RegistryTable
from prediction_contract.text.utc_time import parse_utc

SENSOR = "accuracy"
# Dagster ends a tick after sixty seconds; the next tick examines the remaining models.
_TICK_SECONDS = 20.0
_MAX_REQUESTS = 25
# Outcomes that are not known by then are no longer waited for.
_WAITS_FOR_OUTCOMES = timedelta(days=30)
_LATER_PARTITIONS = 7
_NEWEST_PUBLICATIONS = 100
# This file is written last, so the features are complete once it exists.
_FEATURES_INDEX = "/features.json"


@dataclass(slots=True, kw_only=True)
class AccuracyCursor:
    """The sensor's state between ticks.

    Attributes:
        settled: By model, a publication's number; no batch published up to it needs measuring.
        after: The model that was examined last; empty at first.
    """

    settled: dict[str, int] = field(default_factory=dict)
    after: str = ""

    @classmethod
    def parse(cls, text: str | None) -> "AccuracyCursor":
        """Parse a sensor's cursor; an invalid one counts as empty."""

        def read(found: Any) -> AccuracyCursor:
            settled = {str(model): int(sequence) for model, sequence in found["settled"].items()}
            return cls(settled=settled, after=str(found["after"]))

        return parse_cursor(text, read, cls())

    def text(self) -> str:
        """Return the cursor in the form that the sensor stores."""
        return json.dumps({"settled": self.settled, "after": self.after}, sort_keys=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnmeasuredBatches:
    """The published batches of one model that may be measured.

    Attributes:
        registry: The registry.
        bucket: The data bucket.
        model: The model's name.
        now: The current time.
    """

    registry: RegistryTable
    bucket: DataBucket
    model: str
    now: datetime

    def due_requests(self, settled: int) -> tuple[list[dg.RunRequest], int]:
        """Return the runs that can measure batches now, and the new value of `settled`.

        Args:
            settled: The publication number up to which no batch needs measuring.
        """
        # A batch that a rollback made live again has two entries and needs one run.
        requests: dict[str | None, dg.RunRequest] = {}
        is_all_settled = True
        for entry in self._published_after(settled):
            request, is_settled = self._request_for(entry)
            if request:
                requests[request.run_key] = request
            is_all_settled = is_all_settled and is_settled
            if is_all_settled:
                settled = entry.sequence
        return list(requests.values()), settled

    def _published_after(self, settled: int) -> list[PublicationEntry]:
        newest = self.registry.newest_publications(self.model, page_size=25)
        new = takewhile(lambda entry: entry.sequence > settled, newest)
        found = [entry for _, entry in zip(range(_NEWEST_PUBLICATIONS), new, strict=False)]
        return found[::-1]

    def _request_for(self, entry: PublicationEntry) -> tuple[dg.RunRequest | None, bool]:
        """Return the run that measures a published batch, if one can, and whether the batch is done."""
        if not (entry.makes_live and entry.batch_id and entry.partition):
            return None, True
        measured = AccuracyDocuments(self.bucket, self.model).find(entry.partition, entry.batch_id)
        if measured is not None and measured.known_rows:
            return None, True
        if parse_utc(entry.published_at) < self.now - _WAITS_FOR_OUTCOMES:
            return None, True
        partition = Partition(entry.partition)
        # If a measurement found no outcomes, the batch is measured again once a later partition is prepared.
        steps = range(1, 2) if measured is None else range(_LATER_PARTITIONS, 0, -1)
        later = next((each for each in map(partition.later, steps) if self._is_prepared(each)), None)
        if later is None or (measured is not None and later <= measured.known_at):
            return None, False
        return measuring_request(self.model, partition, entry.batch_id, later), False

    def _is_prepared(self, partition: Partition) -> bool:
        found = self.bucket.below(partition_features_prefix(self.model, partition))
        return any(item.key.endswith(_FEATURES_INDEX) for item in found)


def measuring_request(model: str, partition: Partition, batch_id: str, later: Partition) -> dg.RunRequest:
    """Return the run that measures a batch with the outcomes known when the partition `later` begins.

    The run key makes Dagster run it only once for each `later`.
    """
    return dg.RunRequest(
        run_key=f"{ACCURACY}:{model}:{batch_id}:{later}",
        job_name=accuracy_job_name(model),
        partition_key=partition.dagster_key,
        tags={MODEL_TAG: model, MEASURED_BATCH_TAG: batch_id},
    )


def accuracy_tick(
    context: dg.SensorEvaluationContext,
    platform: Platform,
    models: Iterable[str],
    now: datetime,
) -> dg.SensorResult:
    """Request runs that measure batches, starting after the model that the last tick examined last."""
    names, cursor = sorted(models), AccuracyCursor.parse(context.cursor)
    registry = RegistryTable(
        platform.tick_client("dynamodb"), platform.settings.deployment.registry_table, patience_seconds=5
    )
    bucket = DataBucket(platform.tick_client("s3"), platform.settings.data_bucket)
    cursor.settled = {model: sequence for model, sequence in cursor.settled.items() if model in names}
    unreadable = UnreadableModels()
    requests: list[dg.RunRequest] = []
    deadline = time.monotonic() + _TICK_SECONDS
    for model in _starting_after(names, cursor.after):
        with unreadable.collect(model):
            batches = UnmeasuredBatches(registry=registry, bucket=bucket, model=model, now=now)
            found, cursor.settled[model] = batches.due_requests(cursor.settled.get(model, 0))
            requests += found
        cursor.after = model
        if time.monotonic() > deadline or len(requests) >= _MAX_REQUESTS:
            break
    return unreadable.result(
        context.cursor,
        "No published batch can be measured now",
        cursor=cursor.text(),
        requests=requests[:_MAX_REQUESTS],
    )


def _starting_after(names: list[str], after: str) -> Iterator[str]:
    yield from (name for name in names if name > after)
    yield from (name for name in names if name <= after)


def accuracy_sensor(models: Iterable[str], jobs: list[Any]) -> dg.SensorDefinition:
    """Return the sensor for all models whose accuracy is measured, with their measuring jobs."""
    names = sorted(models)

    @dg.sensor(
        name=SENSOR,
        jobs=jobs,
        minimum_interval_seconds=120,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Measures each published batch once the features of the next partition are prepared.",
    )
    def accuracy(context: dg.SensorEvaluationContext, platform: Platform) -> dg.SensorResult:
        return accuracy_tick(context, platform, names, datetime.now(UTC))

    return accuracy
