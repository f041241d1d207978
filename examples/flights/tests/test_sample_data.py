"""Tests of the sample data: the package's unchanged rows, one file per day."""

from __future__ import annotations

import csv
import gzip
import io
from datetime import date

from flights.sample_data import day_files, flight_lines, flights_known


def test_a_day_file_holds_the_packages_rows_unchanged() -> None:
    """A day's file has the package's header and that day's unchanged lines."""
    ((_, content),) = day_files(flight_lines(), date(2013, 1, 1), date(2013, 1, 1))
    lines = gzip.decompress(content).decode().splitlines()
    assert lines[0].startswith("year,month,day,dep_time,sched_dep_time,dep_delay,")
    assert (
        lines[1] == "2013,1,1,517,515,2,830,819,11,UA,1545,N14228,EWR,IAH,227,1400,5,15,2013-01-01T10:00:00Z"
    )
    assert len(lines) == 1 + 842


def test_day_files_are_the_same_bytes_each_time() -> None:
    """Equal rows give equal bytes, so a second upload has nothing to write."""
    lines = ["year,month,day,x", "2013,1,1,a", "2013,1,2,b", "2013,1,1,c", "2013,1,3,d"]
    files = dict(day_files(lines, date(2013, 1, 1), date(2013, 1, 2)))
    assert files == dict(day_files(lines, date(2013, 1, 1), date(2013, 1, 2)))
    assert {str(day): gzip.decompress(content) for day, content in files.items()} == {
        "2013-01-01": b"year,month,day,x\n2013,1,1,a\n2013,1,1,c\n",
        "2013-01-02": b"year,month,day,x\n2013,1,2,b\n",
    }


def test_a_day_knows_nothing_of_itself_when_it_begins() -> None:
    """When a day begins, its flights have no outcomes, and earlier flights have them only if they landed."""
    days = dict(day_files(flight_lines(), date(2013, 1, 1), date(2013, 1, 2)))
    known = {day: rows_of(flights_known(content, "2013-01-02")) for day, content in days.items()}
    assert all(row["dep_time"] == row["tailnum"] == row["arr_delay"] == "" for row in known[date(2013, 1, 2)])
    assert {row["sched_dep_time"] for row in known[date(2013, 1, 2)]} >= {"600", "2359"}
    yesterday = known[date(2013, 1, 1)]
    assert next(row for row in yesterday if row["flight"] == "1545")["arr_delay"] == "11"
    late = [row for row in yesterday if row["sched_dep_time"] == "2359"]
    assert late
    assert all(row["arr_delay"] == "" for row in late)


def rows_of(content: bytes) -> list[dict[str, str]]:
    """Return the rows of a file."""
    return list(csv.DictReader(io.StringIO(gzip.decompress(content).decode())))
