"""Tests of the raw flights: nothing of a partition's future reaches a model."""

# pandas' own annotations call every column "Series | DataFrame", and every aggregate a scalar as well.
# pyright: reportArgumentType=false, reportCallIssue=false, reportGeneralTypeIssues=false

from __future__ import annotations

import gc
import gzip
import weakref
from datetime import date

import pandas as pd
import pytest
from flights.sample_data import day_files

from sagemaker_scripts.features import raw_flights
from sagemaker_scripts.features.raw_flights import (
    ARRIVAL_COLUMNS,
    DEPARTURE_COLUMNS,
    SCHEDULE_COLUMNS,
    RawDataError,
    RawFlights,
    day_start,
    known_at,
    read_flights,
    schedule_of,
)
from sagemaker_scripts.model_functions import model_functions
from sagemaker_scripts.object_store import ObjectStore
from tests.fakes.memory_s3 import MemoryS3
from tests.projects import EXAMPLE
from tests.sagemaker.declared_models import SCHEMAS
from tests.sagemaker.real_flights import day_file, flights_of, inputs_of

DAY = "2013-01-10"
BEFORE = ["2013-01-07", "2013-01-08", "2013-01-09"]


def test_a_schedule_holds_nothing_that_happens_on_the_day() -> None:
    """The day itself comes with the schedule's columns alone, and every raw column is accounted for."""
    flights = flights_of(DAY)
    schedule = schedule_of(flights)
    assert set(schedule.columns) == {*SCHEDULE_COLUMNS, "partition"}
    assert not {*DEPARTURE_COLUMNS, *ARRIVAL_COLUMNS} & set(schedule.columns)
    assert {*SCHEDULE_COLUMNS, *DEPARTURE_COLUMNS, *ARRIVAL_COLUMNS, "partition"} == set(flights.columns)


@pytest.mark.parametrize("model", sorted(SCHEMAS))
def test_features_do_not_change_with_what_happens_later(model: str) -> None:
    """Other outcomes on the day, and after its beginning on the day before, give the same features."""
    functions = model_functions(EXAMPLE.functions_package(model))
    schedule, history = inputs_of(DAY, BEFORE)
    prepared = functions.features(schedule, history)

    start = day_start(DAY)
    altered = []
    for day in [*BEFORE, DAY]:
        flights = flights_of(day).copy()
        scheduled = flights["time_hour"] + pd.to_timedelta(flights["minute"], unit="min")
        later = scheduled + pd.to_timedelta(flights["dep_delay"], unit="min") > start
        flights.loc[later, "dep_delay"] += 300.0
        # The longest flight of the data takes less than twelve hours.
        maybe_later = scheduled + pd.to_timedelta(flights["dep_delay"] + flights["air_time"], "min") > start
        flights.loc[maybe_later, ["arr_delay", "arr_time"]] = 999.0
        assert later.any() == (day in {"2013-01-09", DAY})
        altered.append(flights)
    again = functions.features(
        schedule_of(altered[-1]), known_at(pd.concat(altered[:-1], ignore_index=True), start)
    )
    pd.testing.assert_frame_equal(again.features, prepared.features)
    pd.testing.assert_frame_equal(again.outcomes, prepared.outcomes)


def test_an_arrival_after_midnight_is_not_known_yet() -> None:
    """Of the evening before, some departures are known and their arrivals are not; the next day they are."""
    late = flights_of("2013-01-09").query("sched_dep_time >= 2200").dropna(subset=["arr_delay"])
    that_night = known_at(late, day_start(DAY))
    assert that_night["dep_delay"].notna().sum() > that_night["arr_delay"].notna().sum()
    a_day_later = known_at(late, day_start("2013-01-11"))
    pd.testing.assert_frame_equal(a_day_later, late)


@pytest.mark.parametrize(
    ("day", "hour"), [(DAY, 5), ("2013-03-10", 5), ("2013-03-11", 4), ("2013-11-03", 4), ("2013-11-04", 5)]
)
def test_a_day_begins_at_midnight_in_new_york(day: str, hour: int) -> None:
    """Also where the clock is changed, which happens two hours after midnight."""
    assert day_start(day) == pd.Timestamp(f"{day}T{hour:02}:00:00Z")


def test_a_flight_that_taxied_for_hours_is_not_known_to_have_arrived() -> None:
    """It left at 20:00, flew 60 minutes and came to the gate at 00:30, after 210 minutes of taxiing."""
    flight = flights_of("2013-01-09").dropna(subset=["arr_delay"]).iloc[:1]
    flight = flight.assign(time_hour=pd.Timestamp("2013-01-10T01:00:00Z"), minute=0, dep_delay=0.0)
    known = known_at(flight.assign(air_time=60.0), day_start(DAY))
    assert known["dep_delay"].notna().all()
    assert known["arr_delay"].isna().all()


def test_a_day_file_holds_the_packages_rows_unchanged() -> None:
    """A day's file is the package's header and that day's lines as they stand there."""
    lines = gzip.decompress(day_file("2013-01-01")).decode().splitlines()
    assert lines[0].startswith("year,month,day,dep_time,sched_dep_time,dep_delay,")
    assert (
        lines[1] == "2013,1,1,517,515,2,830,819,11,UA,1545,N14228,EWR,IAH,227,1400,5,15,2013-01-01T10:00:00Z"
    )
    assert len(lines) == 1 + 842


def test_day_files_are_the_same_bytes_each_time() -> None:
    """So a second upload finds nothing to write."""
    lines = ["year,month,day,x", "2013,1,1,a", "2013,1,2,b", "2013,1,1,c", "2013,1,3,d"]
    files = dict(day_files(lines, date(2013, 1, 1), date(2013, 1, 2)))
    assert files == dict(day_files(lines, date(2013, 1, 1), date(2013, 1, 2)))
    assert {str(day): gzip.decompress(content) for day, content in files.items()} == {
        "2013-01-01": b"year,month,day,x\n2013,1,1,a\n2013,1,1,c\n",
        "2013-01-02": b"year,month,day,x\n2013,1,2,b\n",
    }


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"no gzip", "cannot be read"),
        (gzip.compress(b"year,month,day\n2013,1,10\n", mtime=0), "cannot be read"),
        (day_file("2013-01-09"), "flights of other days"),
        (gzip.compress(gzip.decompress(day_file(DAY)).replace(b",AA,1141,", b",AA,,", 1)), "whole schedule"),
    ],
    ids=["no gzip", "columns missing", "another day", "no flight number"],
)
def test_a_raw_file_that_is_not_the_days_is_refused(content: bytes, complaint: str) -> None:
    """A file that is damaged, lacks a column, or is another day's is named and not half used."""
    with pytest.raises(RawDataError, match=complaint):
        read_flights(content, DAY)


def test_a_range_of_days_is_read_once_and_held_a_window_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the range, the job holds a day and its history; no file is read again."""
    held: list[weakref.ref[pd.DataFrame]] = []

    def read(content: bytes, day: str) -> pd.DataFrame:
        flights = read_flights(content, day)
        held.append(weakref.ref(flights))
        return flights

    monkeypatch.setattr(raw_flights, "read_flights", read)
    store = ObjectStore(MemoryS3(), "mlpipe-data")
    days = [f"2013-01-{number:02}" for number in range(1, 9)]
    for day in days:
        store.put(f"raw/flights/dt={day}/flights.csv.gz", day_file(day))
    raw = RawFlights(store, "raw/")
    for day in days[2:]:
        raw.of_partition(day, 2)
        gc.collect()
        assert sum(each() is not None for each in held) <= 3
    assert len(held) == len(days)
