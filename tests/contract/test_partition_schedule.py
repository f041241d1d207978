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
def test_newest_partition_is_due(schedule: str, moment: str, due: str) -> None:
    """The last partition that ended before the tick, or the one that contains it, is due in UTC."""
    assert PartitionSchedule.parse(schedule).due_partition(datetime.fromisoformat(moment)) == due


@given(
    st.sampled_from(DUE_PARTITIONS),
    st.integers(0, 500_000_000),
    st.integers(-14, 14),
    KINDS,
)
def test_due_partition_is_newest_in_any_time_zone(
    due: str, seconds: int, offset: int, kind: PartitionKind
) -> None:
    """In any time zone, the due partition contains the tick or is the one directly before it."""
    moment = datetime(2013, 1, 2, tzinfo=timezone(timedelta(hours=offset))) + timedelta(seconds=seconds)
    found = PartitionSchedule(due, Partition(kind.example)).due_partition(moment)
    lies_in = found.later(1) if due == "ended" else found
    assert lies_in.start <= moment < lies_in.end


@given(st.sampled_from(DUE_PARTITIONS), st.datetimes(), st.none() | st.integers(1, 900), KINDS)
def test_schedule_round_trip(due: str, moment: datetime, width: int | None, kind: PartitionKind) -> None:
    """A schedule survives as the text of one job argument."""
    first = Partition.at(moment.replace(tzinfo=UTC), kind)
    end = None
    if width is not None:
        try:
            end = first.later(width)
        except InvalidNameError:
            return
    schedule = PartitionSchedule(due, first, end)
    assert PartitionSchedule.parse(str(schedule)) == schedule


def test_schedule_ends_at_its_declared_end() -> None:
    """A schedule excludes its declared end and partitions of other kinds."""
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
def test_invalid_schedule_is_refused(text: str) -> None:
    """A schedule with an unknown word or an invalid end is refused."""
    with pytest.raises(InvalidNameError):
        PartitionSchedule.parse(text)


def test_tick_without_time_zone_is_refused() -> None:
    """A tick without a time zone is refused, because its day would be ambiguous."""
    naive = datetime(2013, 2, 3)  # noqa: DTZ001  # what the test is about
    with pytest.raises(InvalidNameError, match="without a time zone"):
        PartitionSchedule("ended", Partition("2013-01-01")).due_partition(naive)
