"""Sample data of a bike rental: trips, readings of the docks, prepared customers, and a model of them."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

_STATIONS = {"Harbour": 40, "Museum": 25, "Park": 15, "University": 30}
_FIRST_DAY = datetime(2026, 3, 2, tzinfo=UTC)
_DAYS = 19
_DAYS_WITH_READINGS = range(7, 9)
_DOCKS = 20


def objects() -> Iterator[tuple[str, bytes]]:
    """Yield key and content of each object, as they lie in the data bucket."""
    dice = random.Random(7)
    for day in (_FIRST_DAY + timedelta(days=number) for number in range(_DAYS)):
        yield f"raw/trips/dt={day:%Y-%m-%d}/trips.csv.gz", _trips(day, dice)
        yield f"prepared/customers/dt={day:%Y-%m-%d}/part-0.parquet", _file("customers.parquet")
    for number in _DAYS_WITH_READINGS:
        for hour in range(24):
            moment = _FIRST_DAY + timedelta(days=number, hours=hour)
            yield f"raw/readings/dt={moment:%Y-%m-%d}/hour={moment:%H}/docks.jsonl", _readings(moment, dice)
    yield "models-elsewhere/churn.ubj", _file("churn.ubj")


def _trips(day: datetime, dice: random.Random) -> bytes:
    weekend = 0.6 if day.weekday() > 4 else 1.0
    lines = ["station,started_at,minutes"]
    for station, usual in _STATIONS.items():
        for _ in range(round(usual * weekend * dice.uniform(0.8, 1.2))):
            moment = day + timedelta(seconds=dice.randrange(86_400))
            lines.append(f"{station},{moment:%Y-%m-%dT%H:%M:%SZ},{dice.uniform(2, 45):.1f}")
    return gzip.compress("\n".join([*lines, ""]).encode(), mtime=0)


def _readings(moment: datetime, dice: random.Random) -> bytes:
    lines = [
        {
            "station": station,
            "at": f"{moment + timedelta(minutes=minute):%Y-%m-%dT%H:%M:%SZ}",
            "bikes": dice.randrange(_DOCKS + 1),
            "docks": _DOCKS,
        }
        for station in _STATIONS
        for minute in range(0, 60, 15)
    ]
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def _file(name: str) -> bytes:
    return Path(__file__).with_name(name).read_bytes()
