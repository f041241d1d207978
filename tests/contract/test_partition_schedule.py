"""Tests of which partition a tick scores."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prediction_contract.errors import InvalidNameError
from prediction_contract.jobs.partition_schedule import DUE_PARTITIONS, PartitionSchedule
from prediction_contract.naming.batch import Partition
from prediction_contract.naming.partition_kind import PARTITION_KINDS, PartitionKind

KINDS = st.sampled_from(list(PARTITION_KINDS.values()))


@pytest.mark.parametrize(
    ("schedule", "moment", "due"),
    [
        ("ended:2013-01-01", "2013-02-03T01:00:00+00:00", "2013-02-02"),
        ("current:2013-01-01", "2013-02-03T01:00:00+00:00", "2013-02-03"),
        ("ended:2013-01-01", "2013-03-01T00:00:00+00:00", "2013-02-28"),
        ("ended:2013-01-01", "2013-02-28T23:59:59+00:00", "2013-02-27"),
        ("ended:2013-01-01T00", "2013-02-03T00:10:00+00:00", "2013-02-02T23"),
        ("current:2013-01-01T00", "2013-02-03T05:10:00+00:00", "2013-02-03T05"),
        ("ended:2013-W01", "2013-02-04T01:00:00+00:00", "2013-W05"),
        ("current:2013-W01", "2013-02-03T23:00:00+00:00", "2013-W05"),
        ("ended:2013-01", "2013-03-01T01:00:00+00:00", "2013-02"),
        ("current:2013-01:2014-01", "2013-02-28T23:00:00+00:00", "2013-02"),
        # Midnight in Berlin is still the day before in UTC.
        ("ended:2013-01-01", "2013-02-03T00:30:00+01:00", "2013-02-01"),
    ],
)
def test_the_newest_partition_is_due(schedule: str, moment: str, due: str) -> None:
    """It is the one that ended last before the tick, or the one that the tick lies in, in UTC."""
    assert PartitionSchedule.parse(schedule).due_partition(datetime.fromisoformat(moment)) == due


@given(
    st.sampled_from(DUE_PARTITIONS),
    st.integers(0, 500_000_000),
    st.integers(-14, 14),
    KINDS,
)
def test_a_due_partition_has_begun_and_is_the_last(
    due: str, seconds: int, offset: int, kind: PartitionKind
) -> None:
    """Whatever the zone, what is due lies at the tick or ends there at the latest, and none lies between."""
    moment = datetime(2013, 1, 2, tzinfo=timezone(timedelta(hours=offset))) + timedelta(seconds=seconds)
    found = PartitionSchedule(due, Partition(kind.example)).due_partition(moment)
    lies_in = found.later(1) if due == "ended" else found
    assert lies_in.start <= moment < lies_in.end


@given(st.sampled_from(DUE_PARTITIONS), st.datetimes(), st.none() | st.integers(1, 900), KINDS)
def test_a_schedule_survives_as_text(
    due: str, moment: datetime, width: int | None, kind: PartitionKind
) -> None:
    """One job argument holds it whole."""
    first = Partition.at(moment.replace(tzinfo=UTC), kind)
    end = None
    if width is not None:
        try:
            end = first.later(width)
        except InvalidNameError:
            return
    schedule = PartitionSchedule(due, first, end)
    assert PartitionSchedule.parse(str(schedule)) == schedule


def test_partitions_end_where_they_are_declared_to() -> None:
    """The end itself is none, and an hour is none of days."""
    schedule = PartitionSchedule.parse("ended:2013-01-01:2014-01-01")
    found = [
        schedule.has(Partition(text))
        for text in ("2012-12-31", "2013-01-01", "2013-12-31", "2014-01-01", "2013-02-01T05", "2013-W06")
    ]
    assert found == [False, True, True, False, False, False]
    assert PartitionSchedule.parse("ended:2013-01-01").has(Partition("2030-01-01"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2013-01-01",
        "next:2013-01-01",
        "ended:yesterday",
        "ended:2013-02-30",
        "ended:2013-01-01:",
        "ended:2013-01-02:2013-01-02",
        "ended:2013-01-01:2014-01-01T00",
        "ended:2013-W01:2014-01",
    ],
)
def test_what_is_no_schedule_is_refused(text: str) -> None:
    """An unknown word, or an end that is none, would score another partition."""
    with pytest.raises(InvalidNameError):
        PartitionSchedule.parse(text)


def test_a_tick_without_a_zone_is_refused() -> None:
    """Nobody could know which day it lies in."""
    naive = datetime(2013, 2, 3)  # noqa: DTZ001  # what the test is about
    with pytest.raises(InvalidNameError, match="without a time zone"):
        PartitionSchedule("ended", Partition("2013-01-01")).due_partition(naive)
