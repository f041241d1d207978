"""The sensor that scores a partition once all of the model's upstream assets have it.

Dagster's automation conditions use the latest partition, which has not ended, but features need ended ones.
"""

# No postponed annotations: Dagster compares the context's annotation itself.
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import dagster as dg

from mlpipe_dagster.pipeline.asset_names import MODEL_TAG, PREDICTIONS, asset_key, score_job_name
from mlpipe_dagster.pipeline.model_partitions import time_partitions
from mlpipe_dagster.pipeline.model_sensors import ACTIVE_RUN_STATES
from mlpipe_dagster.scoring.source_assets import source_key
from model_declaration.declaration import ModelDeclaration
from prediction_contract.errors import ContractError, InvalidNameError
from prediction_contract.naming.batch import Partition
from prediction_contract.naming.partition_kind import DAILY, HOURLY, MONTHLY, WEEKLY

# How many partitions back a late partition is still waited for. This includes all partitions that one longer
# upstream partition completes at once: the hours of a day, the days of a month.
MAX_PARTITIONS_BACK = {HOURLY: 72, DAILY: 62, WEEKLY: 24, MONTHLY: 24}
_SENSOR_TAG = "dagster/sensor_name"
_MATERIALIZATION = dg.DagsterEventType.ASSET_MATERIALIZATION


class UpstreamPartitionsError(ContractError):
    """The partitions of an upstream asset are not time partitions."""


@dataclass(frozen=True, slots=True)
class UpstreamCursor:
    """The sensor's state between ticks.

    Attributes:
        since: The first partition to score; earlier ones are ignored.
        requested: The partitions already requested, among those that are still examined.
    """

    since: Partition
    requested: frozenset[Partition] = frozenset()

    @classmethod
    def parse(cls, text: str | None) -> "UpstreamCursor | None":
        """Parse a cursor's text; None before the first tick."""
        if not text:
            return None
        document = json.loads(text)
        return cls(Partition(document["since"]), frozenset(map(Partition, document["requested"])))

    def to_text(self, oldest: Partition) -> str:
        """Return the cursor as text, without partitions before `oldest`."""
        return json.dumps(
            {"since": self.since, "requested": sorted(each for each in self.requested if each >= oldest)}
        )


def upstream_sensor_name(model: str) -> str:
    """Return the name of the sensor."""
    return f"{score_job_name(model)}_upstream"


def waited_assets(declaration: ModelDeclaration) -> list[dg.AssetKey]:
    """Return the assets to wait for: those that sources name."""
    keys = (
        source_key(declaration.name, name, source)
        for name, source in declaration.sources.items()
        if source.asset is not None
    )
    return list(dict.fromkeys(keys))


def upstream_sensor(declaration: ModelDeclaration) -> dg.SensorDefinition:
    """Return the sensor of a model's score job; it is stopped unless declared as running."""
    names = ", ".join(key.to_user_string() for key in waited_assets(declaration))

    @dg.sensor(
        name=upstream_sensor_name(declaration.name),
        job_name=score_job_name(declaration.name),
        minimum_interval_seconds=60,
        default_status=dg.DefaultSensorStatus.RUNNING
        if declaration.schedule.running
        else dg.DefaultSensorStatus.STOPPED,
        description=f"Scores a partition of {declaration.name} once {names} has it.",
    )
    def sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        return upstream_tick(context, declaration, datetime.now(UTC))

    return sensor


def upstream_tick(
    context: dg.SensorEvaluationContext,
    declaration: ModelDeclaration,
    now: datetime,
) -> dg.SensorResult:
    """Request a run for the oldest complete partition that is not scored, unless a run is scoring already.

    The first tick ignores all partitions before the newest complete one.
    """
    cursor = UpstreamCursor.parse(context.cursor)
    examined = list(_due_partitions(declaration, cursor, now))
    if not examined:
        return _skipped(f"No partition of {declaration.name} is due yet", context.cursor)
    assets = _UpstreamAssets(context, declaration)
    if cursor is None:
        complete = (each for each in reversed(examined) if not assets.lacking(each))
        cursor = UpstreamCursor(next(complete, examined[-1]))
    unrequested = [each for each in examined if each >= cursor.since and each not in cursor.requested]
    scored = _scored(context.instance, declaration.name, unrequested)
    waiting = [each for each in unrequested if each not in scored]
    ready = next((each for each in waiting if not assets.lacking(each)), None)
    text = cursor.to_text(examined[0])
    if ready is None:
        return _skipped(assets.reason(waiting[-1]) if waiting else f"{examined[-1]} is already scored", text)
    if _is_scoring(context.instance, declaration.name):
        return _skipped(f"{ready} waits for the end of the current run", text)
    request = dg.RunRequest(
        run_key=f"{declaration.name}:{ready}",
        partition_key=ready.dagster_key,
        tags={MODEL_TAG: declaration.name},
    )
    requested = UpstreamCursor(cursor.since, cursor.requested | {ready})
    return dg.SensorResult(run_requests=[request], cursor=requested.to_text(examined[0]))


def _skipped(reason: str, cursor: str | None) -> dg.SensorResult:
    return dg.SensorResult(skip_reason=reason, cursor=cursor)


def _due_partitions(
    declaration: ModelDeclaration, cursor: UpstreamCursor | None, now: datetime
) -> Iterator[Partition]:
    """Yield the newest due partitions, oldest first."""
    schedule = declaration.partition_schedule
    newest = schedule.due_partition(now)
    if schedule.end is not None and newest >= schedule.end:
        newest = schedule.end.earlier(1)
    for back in range(MAX_PARTITIONS_BACK[schedule.start.kind] - 1, -1, -1):
        partition = newest.earlier(back)
        if schedule.has(partition) and (cursor is None or partition >= cursor.since):
            yield partition


def _scored(instance: dg.DagsterInstance, model: str, partitions: list[Partition]) -> set[Partition]:
    """Return the partitions that already have predictions, also from other runs."""
    keys = {each.dagster_key: each for each in partitions}
    if not keys:
        # For an empty set Dagster would return all partitions.
        return set()
    found = instance.get_latest_storage_id_by_partition(
        asset_key(model, PREDICTIONS), _MATERIALIZATION, set(keys)
    )
    return {keys[key] for key in found}


def _is_scoring(instance: dg.DagsterInstance, model: str) -> bool:
    asked = dg.RunsFilter(tags={_SENSOR_TAG: upstream_sensor_name(model)}, statuses=ACTIVE_RUN_STATES)
    return bool(instance.get_run_records(asked, limit=1))


class _UpstreamAssets:
    """The state of a model's upstream assets during one tick."""

    def __init__(self, context: dg.SensorEvaluationContext, declaration: ModelDeclaration) -> None:
        self._instance = context.instance
        self._is_current = declaration.schedule.partition == "current"
        graph = context.repository_def.asset_graph if context.repository_def else None
        self._latest: dict[dg.AssetKey, dg.EventLogEntry | None] = {}
        self._definitions: dict[dg.AssetKey, dg.TimeWindowPartitionsDefinition | None] = {}
        # Cached, because all hours of a day need the same partition of a daily asset.
        self._answers: dict[tuple[dg.AssetKey, frozenset[str]], bool] = {}
        for key in waited_assets(declaration):
            latest = context.instance.get_latest_materialization_event(key)
            known = graph.get(key).partitions_def if graph and graph.has(key) else None
            self._latest[key] = latest
            self._definitions[key] = _time_partitions(key, known, latest)

    def lacking(self, partition: Partition) -> list[dg.AssetKey]:
        """Return the assets that do not cover a partition completely."""
        return [key for key in self._latest if not self._covers(key, partition)]

    def reason(self, partition: Partition) -> str:
        """Return which assets a partition waits for."""
        return f"{partition} waits for {', '.join(key.to_user_string() for key in self.lacking(partition))}"

    def _covers(self, key: dg.AssetKey, partition: Partition) -> bool:
        latest, known = self._latest[key], self._definitions[key]
        if latest is None:
            return False
        if known is None:
            due = partition.start if self._is_current else partition.end
            return latest.timestamp >= due.timestamp()
        needed = _keys_between(known, partition.start, partition.end)
        asked = (key, frozenset(needed))
        if asked not in self._answers:
            found = self._instance.get_latest_storage_id_by_partition(key, _MATERIALIZATION, needed)
            self._answers[asked] = set(found) == needed
        return self._answers[asked]


def _time_partitions(
    key: dg.AssetKey, known: dg.PartitionsDefinition[str] | None, latest: dg.EventLogEntry | None
) -> dg.TimeWindowPartitionsDefinition | None:
    """Return the partitions of an upstream asset; None if it has none.

    For an asset of another code location they are derived from the key that was materialized last.

    Raises:
        UpstreamPartitionsError: They are not time partitions.
    """
    if isinstance(known, dg.TimeWindowPartitionsDefinition):
        return known
    event = latest.asset_materialization if latest else None
    text = event.partition if event else None
    if known is None and text is None:
        return None
    try:
        return time_partitions(Partition.from_dagster_key(text or ""), None)
    except InvalidNameError as error:
        raise UpstreamPartitionsError(
            f"The partitions of {key.to_user_string()} cannot be waited for: {error.what}",
            remedy="Declare `schedule.cron`, or partition that asset by hours, days, weeks or months",
        ) from error


def _keys_between(known: dg.TimeWindowPartitionsDefinition, start: datetime, end: datetime) -> set[str]:
    """Return the keys of all partitions that overlap a time range, begun or not."""
    keys = set()
    moment = start
    while moment < end:
        key = known.get_partition_key_for_timestamp(moment.timestamp())
        keys.add(key)
        moment = known.time_window_for_partition_key(key).end
    return keys
