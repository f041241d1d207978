"""A model with an upstream schedule is scored once for each partition that all its assets have."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from mlpipe_dagster.components.prediction_pipeline import pipeline_definitions
from mlpipe_dagster.definitions import platform_definitions
from mlpipe_dagster.scoring.upstream_sensor import UpstreamPartitionsError, upstream_tick
from tests.dagster.scoring.test_scoring_schedule import HOURLY, MONTHLY, WEEKLY
from tests.dagster.small_model import declaration

if TYPE_CHECKING:
    from collections.abc import Iterator

ORDERS, RATES = dg.AssetKey(["lake", "orders"]), dg.AssetKey(["lake", "rates"])
PREDICTIONS = dg.AssetKey(["things", "predictions"])
SOURCES = {
    "orders": {"format": "parquet", "path": "raw/orders/{partition}.parquet", "asset": "lake/orders"},
    "rates": {"format": "delta", "path": "tables/rates", "asset": "lake/rates"},
    "holidays": {"format": "parquet", "path": "raw/holidays.parquet"},
}
DAYS = dg.DailyPartitionsDefinition("2013-01-01", end_date="2014-01-01")
HOURS = dg.HourlyPartitionsDefinition("2013-01-01-00:00", end_date="2014-01-01-00:00")
SUNDAYS = dg.WeeklyPartitionsDefinition("2012-12-30", end_date="2014-01-05")


@dataclass
class Waiting:
    """A model that waits for upstream assets, with its own instance.

    Attributes:
        instance: Holds events and runs.
        upstream: Assets in the same code location.
        changes: Changes of the model's declaration.
        cursor: The sensor's cursor.
    """

    instance: dg.DagsterInstance
    upstream: tuple[dg.AssetSpec, ...] = ()
    changes: dict[str, Any] | None = None
    cursor: str | None = None

    def materialize(self, key: dg.AssetKey, *partitions: str | None) -> None:
        """Report materializations of an asset."""
        for partition in partitions or (None,):
            self.instance.report_runless_asset_event(dg.AssetMaterialization(key, partition=partition))

    def tick(self, now: str) -> dg.SensorResult:
        """Evaluate the sensor at a moment, and keep its cursor."""
        model = declaration(
            "things", **{"sources": SOURCES, "schedule": {"upstream": True}, **(self.changes or {})}
        )
        models = dg.Definitions.merge(pipeline_definitions(model), dg.Definitions(assets=self.upstream))
        platform = dg.Definitions.merge(models, platform_definitions(models))
        context = dg.build_sensor_context(
            self.instance, cursor=self.cursor, repository_def=platform.get_repository_def()
        )
        result = upstream_tick(context, model, datetime.fromisoformat(now).replace(tzinfo=UTC))
        self.cursor = result.cursor
        return result

    def scored(self, now: str) -> list[str | None]:
        """Return the partitions that a tick requests."""
        return [request.partition_key for request in self.tick(now).run_requests or []]

    def reason(self, now: str) -> str:
        """Return why a tick requests nothing."""
        skipped = self.tick(now).skip_reason
        assert skipped is not None
        return str(skipped.skip_message)

    def run(self, status: dg.DagsterRunStatus, **tags: str) -> None:
        """Add a run of the model's score job."""
        job = dg.job(name="things_score")(lambda: None)
        self.instance.create_run_for_job(job, status=status, tags=tags)


@pytest.fixture
def waiting() -> Iterator[Waiting]:
    """Yield a daily model that waits for one asset."""
    with dg.DagsterInstance.ephemeral() as instance:
        yield Waiting(instance, changes={"sources": {"orders": SOURCES["orders"]}})


def test_partition_is_scored_once_after_its_upstream_asset(waiting: Waiting) -> None:
    """Nothing is requested before, and further materializations request nothing again."""
    assert waiting.reason("2013-02-03T00:10") == "2013-02-02 waits for lake/orders"
    waiting.materialize(ORDERS, "2013-02-02")
    (request,) = waiting.tick("2013-02-03T00:20").run_requests or []
    assert (request.partition_key, request.run_key) == ("2013-02-02", "things:2013-02-02")
    assert request.tags["mlpipe/model"] == "things"
    waiting.materialize(PREDICTIONS, "2013-02-02")
    waiting.materialize(ORDERS, "2013-02-02")
    waiting.materialize(dg.AssetKey(["things", "trained_model"]))
    waiting.materialize(dg.AssetKey(["things", "features"]), "2013-02-02")
    assert waiting.reason("2013-02-03T00:30") == "2013-02-02 is already scored"


def test_first_tick_scores_only_the_newest_complete_partition(waiting: Waiting) -> None:
    """Older upstream partitions are not scored, even if they are materialized again."""
    waiting.materialize(ORDERS, *(f"2013-01-{day:02}" for day in range(1, 32)))
    assert waiting.scored("2013-02-03T00:10") == ["2013-01-31"]
    assert waiting.scored("2013-02-03T00:20") == []
    waiting.materialize(ORDERS, "2013-01-15")
    assert waiting.scored("2013-02-03T00:30") == []


def test_partition_scored_by_hand_is_not_requested(waiting: Waiting) -> None:
    """Existing predictions count when a model changes to this schedule."""
    waiting.materialize(ORDERS, "2013-02-01", "2013-02-02")
    waiting.materialize(PREDICTIONS, "2013-02-01", "2013-02-02")
    assert waiting.scored("2013-02-03T00:10") == []
    waiting.materialize(ORDERS, "2013-02-03")
    assert waiting.scored("2013-02-04T00:10") == ["2013-02-03"]


def test_partitions_are_scored_one_after_another_in_order(waiting: Waiting) -> None:
    """The next one waits for the end of the current run; a late one is scored when it arrives."""
    waiting.materialize(ORDERS, "2013-02-01")
    assert waiting.scored("2013-02-02T00:10") == ["2013-02-01"]
    sensor = {"dagster/sensor_name": "things_score_upstream"}
    waiting.run(dg.DagsterRunStatus.STARTED, **sensor)
    waiting.materialize(ORDERS, "2013-02-04", "2013-02-02")
    waits = waiting.reason("2013-02-05T00:10")
    assert waits == "2013-02-02 waits for the end of the current run"
    (run,) = waiting.instance.get_runs()
    waiting.instance.delete_run(run.run_id)
    waiting.run(dg.DagsterRunStatus.FAILURE, **sensor)
    assert waiting.scored("2013-02-05T00:11") == ["2013-02-02"]
    assert waiting.scored("2013-02-05T00:12") == ["2013-02-04"]
    assert waiting.reason("2013-02-05T00:13") == "2013-02-03 waits for lake/orders"
    waiting.materialize(ORDERS, "2013-02-03")
    assert waiting.scored("2013-02-05T00:14") == ["2013-02-03"]


def test_run_not_started_by_sensor_does_not_block(waiting: Waiting) -> None:
    """A long manual backfill does not delay new partitions."""
    waiting.run(dg.DagsterRunStatus.STARTED)
    waiting.materialize(ORDERS, "2013-02-01")
    assert waiting.scored("2013-02-02T00:10") == ["2013-02-01"]


def test_partition_waits_for_all_assets(waiting: Waiting) -> None:
    """An unpartitioned table counts once it was materialized after the partition ended."""
    waiting.changes = {}
    waiting.materialize(ORDERS, "2013-02-02")
    assert waiting.reason("2013-02-03T00:10") == "2013-02-02 waits for lake/rates"
    waiting.materialize(RATES)
    assert waiting.scored("2013-02-03T00:20") == ["2013-02-02"]


def test_partition_that_has_not_ended_is_not_due() -> None:
    """A current partition is scored only if declared, and a table made before its end is too old later."""
    with dg.DagsterInstance.ephemeral() as instance:
        waiting = Waiting(
            instance,
            changes={
                "partitions": {"start": "2013-01-01"},
                "sources": {"rates": SOURCES["rates"]},
                "schedule": {"upstream": True, "partition": "current"},
            },
        )
        waiting.materialize(RATES)
        made = instance.get_latest_materialization_event(RATES)
        assert made is not None
        day = datetime.fromtimestamp(made.timestamp, UTC).date()
        today, tomorrow = day.isoformat(), (day + timedelta(days=1)).isoformat()
        assert waiting.scored(f"{today}T23:59") == [today]
        assert waiting.reason(f"{tomorrow}T00:00") == f"{tomorrow} waits for lake/rates"
        waiting.changes = {**(waiting.changes or {}), "schedule": {"upstream": True}}
        waiting.cursor = json.dumps({"since": today, "requested": []})
        assert waiting.reason(f"{today}T00:00") == "No partition of things is due yet"
        assert waiting.reason(f"{tomorrow}T00:00") == f"{today} waits for lake/rates"


@pytest.mark.parametrize(
    ("upstream", "changes", "made", "now", "scored"),
    [
        (HOURS, {}, [f"2013-02-02-{hour:02}:00" for hour in range(24)], "2013-02-03T00:10", "2013-02-02"),
        (HOURS, {}, [f"2013-02-02-{hour:02}:00" for hour in range(23)], "2013-02-03T00:10", None),
        (DAYS, HOURLY, ["2013-02-02"], "2013-02-02T06:10", "2013-02-02-05:00"),
        (DAYS, WEEKLY, [f"2013-02-{day:02}" for day in range(4, 11)], "2013-02-11T01:00", "2013-W06-1"),
        (DAYS, WEEKLY, [f"2013-02-{day:02}" for day in range(5, 11)], "2013-02-11T01:00", None),
        (DAYS, MONTHLY, [f"2013-02-{day:02}" for day in range(1, 29)], "2013-03-01T01:00", "2013-02"),
        # A week that begins on Monday overlaps two weeks that begin on Sunday.
        (SUNDAYS, WEEKLY, ["2013-02-03", "2013-02-10"], "2013-02-11T01:00", "2013-W06-1"),
        (SUNDAYS, WEEKLY, ["2013-02-03"], "2013-02-11T01:00", None),
    ],
)
def test_partitions_of_another_kind_must_cover_the_time(
    upstream: dg.PartitionsDefinition[str],
    changes: dict[str, Any],
    made: list[str],
    now: str,
    scored: str | None,
) -> None:
    """A partition is complete if upstream partitions, shorter or longer, cover all of it."""
    with dg.DagsterInstance.ephemeral() as instance:
        waiting = Waiting(
            instance,
            upstream=(dg.AssetSpec(ORDERS, partitions_def=upstream),),
            changes={**changes, "sources": {"orders": {**SOURCES["orders"], "path": "raw/orders"}}},
        )
        waiting.materialize(ORDERS, *made)
        assert waiting.scored(now) == ([scored] if scored else [])


def test_all_hours_completed_by_one_day_are_scored() -> None:
    """They are scored one by one, including those that grow old meanwhile."""
    with dg.DagsterInstance.ephemeral() as instance:
        waiting = Waiting(
            instance,
            upstream=(dg.AssetSpec(ORDERS, partitions_def=DAYS),),
            changes={**HOURLY, "sources": {"orders": {**SOURCES["orders"], "path": "raw/orders"}}},
        )
        waiting.materialize(ORDERS, "2013-02-01")
        assert waiting.scored("2013-02-02T06:10") == ["2013-02-01-23:00"]
        waiting.materialize(ORDERS, "2013-02-02")
        scored = [key for hour in range(5, 24) for key in waiting.scored(f"2013-02-03T{hour:02}:10")]
        scored += [key for minute in range(20, 25) for key in waiting.scored(f"2013-02-03T23:{minute}")]
        assert scored == [f"2013-02-02-{hour:02}:00" for hour in range(24)]


def test_partition_kind_of_another_location_follows_from_keys(waiting: Waiting) -> None:
    """Materialized keys show the kind that the code location cannot see."""
    waiting.materialize(ORDERS, *(f"2013-02-02-{hour:02}:00" for hour in range(23)))
    assert waiting.scored("2013-02-03T00:10") == []
    waiting.materialize(ORDERS, "2013-02-02-23:00")
    assert waiting.scored("2013-02-03T00:20") == ["2013-02-02"]


def test_upstream_partitions_without_time_fail_the_tick(waiting: Waiting) -> None:
    """The error names the asset and the key; otherwise the model would wait forever."""
    waiting.materialize(ORDERS, "north")
    with pytest.raises(UpstreamPartitionsError, match=r"lake/orders .*'north' is not a partition"):
        waiting.tick("2013-02-03T00:10")


def test_model_has_either_schedule_or_upstream_sensor() -> None:
    """An upstream model has no schedule, and other models have no upstream sensor."""
    models = pipeline_definitions(
        declaration("things", sources=SOURCES, schedule={"upstream": True, "running": True})
    )
    assert not models.schedules
    sensors = {sensor.name: sensor.default_status for sensor in models.sensors or ()}
    assert sensors["things_score_upstream"] is dg.DefaultSensorStatus.RUNNING
    others = pipeline_definitions(declaration("things")).sensors or ()
    assert "things_score_upstream" not in {sensor.name for sensor in others}
