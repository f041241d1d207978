"""Each model that Dagster scores has a schedule for its newest partition."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import dagster as dg
import pytest

from mlpipe_dagster.components.prediction_pipeline import partitions_of, pipeline_definitions
from mlpipe_dagster.definitions import platform_definitions
from mlpipe_dagster.scoring.scoring_schedule import scoring_schedule
from tests.dagster.small_model import declaration

HOURLY = {
    "partitions": {"kind": "hourly", "start": "2013-01-01T00", "end": "2014-01-01T00"},
}

WEEKLY = {
    "partitions": {"kind": "weekly", "start": "2013-W01", "end": "2014-W01"},
}
MONTHLY = {
    "partitions": {"kind": "monthly", "start": "2013-01", "end": "2014-01"},
}


def tick(moment: str, **changes: Any) -> dg.RunRequest | dg.SkipReason:
    """Return the request or skip reason of a tick at a moment."""
    models = pipeline_definitions(declaration("things", **changes))
    definitions = dg.Definitions.merge(models, platform_definitions(models))
    context = dg.build_schedule_context(
        scheduled_execution_time=datetime.fromisoformat(moment).replace(tzinfo=UTC),
        repository_def=definitions.get_repository_def(),
    )
    data = definitions.resolve_schedule_def("things_score").evaluate_tick(context)
    return data.run_requests[0] if data.run_requests else dg.SkipReason(data.skip_message)


@pytest.mark.parametrize(
    ("moment", "changes", "key"),
    [
        ("2013-02-03T01:00", {}, "2013-02-02"),
        ("2013-02-03T01:00", {"schedule": {"partition": "current"}}, "2013-02-03"),
        ("2013-03-01T00:30", {}, "2013-02-28"),
        ("2013-02-03T00:10", HOURLY, "2013-02-02-23:00"),
        ("2013-02-04T01:00", WEEKLY, "2013-W05-1"),
        ("2013-03-01T01:00", MONTHLY, "2013-02"),
        ("2013-02-03T05:10", HOURLY | {"schedule": {"partition": "current"}}, "2013-02-03-05:00"),
    ],
)
def test_tick_scores_the_newest_partition(moment: str, changes: dict[str, Any], key: str) -> None:
    """It takes the partition that ended last, or the current one if declared."""
    request = tick(moment, **changes)
    assert isinstance(request, dg.RunRequest)
    assert request.partition_key == key


def test_tick_after_the_last_partition_is_skipped() -> None:
    """The reason names `partitions.end`, and no partition is scored again."""
    skipped = tick("2014-01-03T01:00")
    assert isinstance(skipped, dg.SkipReason)
    assert "2014-01-02 is not a partition of things: `partitions.end` in" in str(skipped.skip_message)


def test_schedule_is_stopped_by_default() -> None:
    """Only `running: true` in the declaration starts it, with the declared cron in UTC."""
    schedules = {
        running: scoring_schedule(declared, partitions_of(declared))
        for running in (False, True)
        for declared in [declaration("things", schedule={"running": running, "cron": "5 4 * * *"})]
    }
    assert schedules[False].default_status is dg.DefaultScheduleStatus.STOPPED
    assert schedules[True].default_status is dg.DefaultScheduleStatus.RUNNING
    assert (schedules[True].cron_schedule, schedules[True].execution_timezone) == ("5 4 * * *", "UTC")


@pytest.mark.parametrize(
    ("kind", "start", "last"),
    [
        ("daily", "2013-01-01", "2013-12-31"),
        ("hourly", "2013-01-01T00", "2013-12-31-23:00"),
        ("weekly", "2013-W01", "2014-W01-1"),
        ("monthly", "2013-01", "2013-12"),
    ],
)
def test_current_partition_is_the_last_one(kind: str, start: str, last: str) -> None:
    """The current hour, day, week and month can be scored before they end, the next one cannot."""
    partitions = partitions_of(declaration("things", partitions={"kind": kind, "start": start}))
    with dg.partition_loading_context(effective_dt=datetime(2013, 12, 31, 23, 59, tzinfo=UTC)):
        assert partitions.get_last_partition_key() == last


def test_schedule_starts_the_score_job() -> None:
    """A model that Dagster scores has exactly one schedule, for its own score job."""
    definitions = pipeline_definitions(declaration("things"))
    schedules = [each for each in definitions.schedules or () if isinstance(each, dg.ScheduleDefinition)]
    assert [(each.name, each.job_name) for each in schedules] == [("things_score", "things_score")]
