"""Small real inputs for unit tests: some days of flights, taken from the installed package."""

from __future__ import annotations

from datetime import date
from functools import cache

import pandas as pd
from flights.sample_data import day_files, flight_lines

from sagemaker_scripts.features.raw_flights import day_start, known_at, read_flights, schedule_of

FIRST = date(2013, 1, 1)
LAST = date(2013, 1, 12)


@cache
def _files() -> dict[str, bytes]:
    return {str(day): content for day, content in day_files(flight_lines(), FIRST, LAST)}


@cache
def flights_of(day: str) -> pd.DataFrame:
    """Return a day's flights with their outcomes; do not change them."""
    return read_flights(_files()[day], day)


def day_file(day: str) -> bytes:
    """Return a day's raw file."""
    return _files()[day]


def inputs_of(day: str, history: list[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return what a model's `features` is given for a day: its schedule and the days before it as known."""
    schedule = schedule_of(flights_of(day))
    rows = pd.concat([flights_of(each) for each in history], ignore_index=True)
    return schedule, known_at(rows, day_start(day))
