"""Tests of the reader of flights: a model sees nothing that is unknown when its partition begins."""

# pandas' own annotations call every column "Series | DataFrame", and every aggregate a scalar as well.
# pyright: reportArgumentType=false, reportCallIssue=false, reportGeneralTypeIssues=false, reportAttributeAccessIssue=false

from __future__ import annotations

import gc
import gzip
import weakref
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import cache

import pandas as pd
import pytest
from flights import readers
from flights.defs.airport_congestion import features as congestion_features
from flights.defs.airport_congestion import outcomes as congestion_outcomes
from flights.defs.flight_delay import features as delay_features
from flights.defs.flight_delay import outcomes as delay_outcomes
from flights.readers import (
    ARRIVAL_COLUMNS,
    DEPARTURE_COLUMNS,
    SCHEDULE_COLUMNS,
    Flights,
    RawDataError,
    day_start,
    known_at,
    read_flights,
)
from flights.sample_data import day_files, flight_lines

DAY = "2013-01-10"
BEFORE = ["2013-01-07", "2013-01-08", "2013-01-09"]
MODELS = {
    "flight_delay": (delay_features.features, delay_outcomes.outcomes),
    "airport_congestion": (congestion_features.features, congestion_outcomes.outcomes),
}


@cache
def _files() -> dict[str, bytes]:
    found = day_files(flight_lines(), date(2013, 1, 1), date(2013, 1, 12))
    return {str(day): content for day, content in found}


@cache
def flights_of(day: str) -> pd.DataFrame:
    """Return a day's flights with their outcomes; do not change them."""
    return read_flights(_files()[day], day)


@dataclass
class Files:
    """A stand-in for the platform's access to a source's objects, which are in memory.

    Attributes:
        partition: The day that is read.
        history: How many earlier days the reader gets.
        objects: The days' files.
    """

    partition: str
    history: int = 3
    objects: dict[str, bytes] = field(default_factory=_files)

    def path(self, partition: str) -> str:
        """Return a day's key, which is the day itself."""
        return partition

    def read(self, key: str) -> bytes:
        """Return an object that must exist."""
        return self.objects[key]

    def find(self, key: str) -> bytes | None:
        """Return an object, or None."""
        return self.objects.get(key)

    def earlier(self) -> list[str]:
        """Return the days of the history, oldest first."""
        day = date.fromisoformat(self.partition)
        return [str(day - timedelta(days=back)) for back in range(self.history, 0, -1)]


def read(day: str) -> pd.DataFrame:
    """Return the flights of a day and of the three days before it, as a model sees them."""
    return Flights().read(day, Files(day))


def test_a_days_flights_hold_nothing_that_happens_on_the_day() -> None:
    """The day's flights have only their schedule, and the table has no unexpected columns."""
    shown = read(DAY)
    scheduled = shown[shown["partition"] == DAY]
    assert scheduled[[*DEPARTURE_COLUMNS, *ARRIVAL_COLUMNS]].isna().all(axis=None)
    assert scheduled[list(SCHEDULE_COLUMNS)].notna().all(axis=None)
    assert {*SCHEDULE_COLUMNS, *DEPARTURE_COLUMNS, *ARRIVAL_COLUMNS, "partition"} == set(shown.columns)
    assert list(shown["partition"].unique()) == [*BEFORE, DAY]


@pytest.mark.parametrize("model", MODELS)
def test_features_do_not_change_with_what_happens_later(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other outcomes that are unknown when the day begins give the same features and known outcomes."""
    features, outcomes = MODELS[model]
    shown = read(DAY)
    start = day_start(DAY)

    def altered(_content: bytes, day: str) -> pd.DataFrame:
        flights = flights_of(day).copy()
        scheduled = flights["time_hour"] + pd.to_timedelta(flights["minute"], unit="min")
        later = scheduled + pd.to_timedelta(flights["dep_delay"], unit="min") > start
        flights.loc[later, "dep_delay"] += 300.0
        # The longest flight of the data takes less than twelve hours.
        maybe_later = scheduled + pd.to_timedelta(flights["dep_delay"] + flights["air_time"], "min") > start
        flights.loc[maybe_later, ["arr_delay", "arr_time"]] = 999.0
        assert later.any() == (day in {"2013-01-09", DAY})
        return flights

    monkeypatch.setattr(readers, "read_flights", altered)
    again = read(DAY)
    pd.testing.assert_frame_equal(features(DAY, again), features(DAY, shown))
    pd.testing.assert_frame_equal(outcomes(DAY, again), outcomes(DAY, shown))


def test_an_arrival_after_midnight_is_not_known_yet() -> None:
    """At midnight some flights have a departure but no arrival; a day later both are known."""
    late = flights_of("2013-01-09").query("sched_dep_time >= 2200").dropna(subset=["arr_delay"])
    that_night = known_at(late, day_start(DAY))
    assert that_night["dep_delay"].notna().sum() > that_night["arr_delay"].notna().sum()
    a_day_later = known_at(late, day_start("2013-01-11"))
    pd.testing.assert_frame_equal(a_day_later, late)


@pytest.mark.parametrize(
    ("day", "hour"), [(DAY, 5), ("2013-03-10", 5), ("2013-03-11", 4), ("2013-11-03", 4), ("2013-11-04", 5)]
)
def test_a_day_begins_at_midnight_in_new_york(day: str, hour: int) -> None:
    """This also holds on days when the clocks change, two hours after midnight."""
    assert day_start(day) == pd.Timestamp(f"{day}T{hour:02}:00:00Z")


def test_a_flight_that_taxied_for_hours_is_not_known_to_have_arrived() -> None:
    """It left at 20:00, flew 60 minutes and came to the gate at 00:30, after 210 minutes of taxiing."""
    flight = flights_of("2013-01-09").dropna(subset=["arr_delay"]).iloc[:1]
    flight = flight.assign(time_hour=pd.Timestamp("2013-01-10T01:00:00Z"), minute=0, dep_delay=0.0)
    known = known_at(flight.assign(air_time=60.0), day_start(DAY))
    assert known["dep_delay"].notna().all()
    assert known["arr_delay"].isna().all()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (lambda: b"no gzip", "cannot be read"),
        (lambda: gzip.compress(b"year,month,day\n2013,1,10\n", mtime=0), "cannot be read"),
        (lambda: _files()["2013-01-09"], "flights of other days"),
        (
            lambda: gzip.compress(gzip.decompress(_files()[DAY]).replace(b",AA,1141,", b",AA,,", 1)),
            "incomplete schedule",
        ),
    ],
    ids=["no gzip", "columns missing", "another day", "no flight number"],
)
def test_a_raw_file_that_is_not_the_days_is_refused(content: object, complaint: str) -> None:
    """A file that is damaged, lacks a column or a value, or is of another day raises an error."""
    assert callable(content)
    with pytest.raises(RawDataError, match=complaint):
        Flights().read(DAY, Files(DAY, objects={DAY: content()}))


def test_a_range_of_days_is_parsed_once_and_held_a_window_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader keeps only the tables of a day and its history, and parses each file once."""
    held: list[weakref.ref[pd.DataFrame]] = []

    def parsed(content: bytes, day: str) -> pd.DataFrame:
        flights = read_flights(content, day)
        held.append(weakref.ref(flights))
        return flights

    monkeypatch.setattr(readers, "read_flights", parsed)
    reader = Flights()
    days = [f"2013-01-{number:02}" for number in range(1, 9)]
    for day in days[2:]:
        reader.read(day, Files(day, history=2))
        gc.collect()
        assert sum(each() is not None for each in held) <= 3
    assert len(held) == len(days)


# Results of the models' functions before they became functions of tables only.
RECORDED = {
    "flight_delay": {
        "rows": (901, 11905),
        "minute_of_day": 808.7092119866815,
        "flights_in_hour": 20.005549389567147,
        "carrier_origin_delay": 0.42381991625803594,
        "route_late": 0.17855552187969254,
        "flight_delay": 0.2569996714859882,
        "hour_delay": 0.3266832374640019,
        "yesterday_late": 0.1692698241698977,
        "arrival_delay_minutes": 0.5811843763124738,
        "arrived_late": 0.18110037799244016,
    },
    "airport_congestion": {
        "rows": (53, 742),
        "scheduled_departures": 17.0,
        "mean_distance": 993.078319437051,
        "departures_before": 145.54716981132074,
        "typical_delay": 5.784392847158902,
        "airport_delay": 5.658398932337616,
        "yesterday_delay": 0.20329482628700968,
        "departure_delay_minutes": 5.621143389158168,
    },
}


@pytest.mark.parametrize("model", MODELS)
def test_the_features_of_a_day_are_those_that_were_recorded(model: str) -> None:
    """Row counts and column means of 16 January, with two weeks of history, equal the recorded ones."""
    day, figures = "2013-01-16", dict(RECORDED[model])
    found = day_files(flight_lines(), date(2013, 1, 1), date(2013, 1, 16))
    files = Files(day, history=14, objects={str(each): content for each, content in found})
    shown = Flights().read(day, files)
    features, outcomes = (function(day, shown) for function in MODELS[model])
    assert (len(features), len(outcomes)) == figures.pop("rows")
    for name, mean in figures.items():
        column = (features if name in features else outcomes)[name]
        assert column.astype("float64").mean() == pytest.approx(mean, rel=1e-12)
