"""Sample data of a bike rental, made of a fixed seed."""

import gzip
import io
import json
import random
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
from deltalake import write_deltalake

STATIONS = {"Harbour": 40, "Museum": 25, "Park": 15, "University": 30}
FIRST_DAY = datetime(2026, 3, 1, tzinfo=UTC)


def objects():
    dice = random.Random(1)
    for day in (FIRST_DAY + timedelta(days=number) for number in range(20)):
        lines = ["station,started_at,minutes,price"]
        for station, usual in STATIONS.items():
            for _ in range(round(usual * dice.uniform(0.7, 1.3))):
                moment = day + timedelta(seconds=dice.randrange(86_400))
                minutes = dice.uniform(2, 45)
                lines.append(f"{station},{moment:%Y-%m-%dT%H:%M:%SZ},{minutes:.1f},{1 + minutes / 10:.2f}")
        yield f"raw/trips/dt={day:%Y-%m-%d}/trips.csv.gz", gzip.compress("\n".join(lines).encode(), mtime=0)
        forecast = "".join(f"{station:<12}{dice.uniform(-5, 25):6.1f}\n" for station in STATIONS)
        yield f"raw/weather/{day:%Y-%m-%d}.txt", forecast.encode()
    yield "raw/closures.jsonl", _closures()
    yield from _zones()
    for hour in range(16):
        moment = datetime(2026, 3, 9, hour, tzinfo=UTC)
        rows = [(station, moment + timedelta(minutes=10), dice.random()) for station in STATIONS]
        yield (
            f"raw/readings/dt={moment:%Y-%m-%d}/hour={moment:%H}/part-0.parquet",
            _parquet(rows, ["station", "at", "load"]),
        )
    for week in ("2026-W10", "2026-W11"):
        rows = [(f"C{number}", dice.choice(["new", "regular"])) for number in range(50)]
        yield f"prepared/customers/{week}/part-0.parquet", _parquet(rows, ["customer_id", "segment"])
    yield "models-elsewhere/churn.means", b"new\t0.4\nregular\t0.1\n"
    for month in ("2025-08", "2025-09", "2025-10", "2025-11", "2025-12", "2026-01", "2026-02"):
        moment = datetime.fromisoformat(f"{month}-28T12:00:00+00:00")
        rows = [(station, moment, dice.uniform(50, 150)) for station in STATIONS]
        yield f"raw/sales/{month}.parquet", _parquet(rows, ["station", "closed_at", "amount"])


def _closures():
    known = {
        "station": "Park",
        "day": "2026-03-19",
        "announced_at": "2026-03-10T09:00:00Z",
        "members_only": False,
    }
    late = {**known, "station": "Museum", "announced_at": "2026-03-19T10:00:00Z"}
    return "".join(json.dumps(line) + "\n" for line in (known, late)).encode()


def _zones():
    rows = pd.DataFrame({"station": list(STATIONS), "docks": [20, 16, 10, 24]})
    with tempfile.TemporaryDirectory() as folder:
        write_deltalake(folder, rows)
        for path in sorted(Path(folder).rglob("*")):
            if path.is_file():
                yield f"tables/zones/{path.relative_to(folder).as_posix()}", path.read_bytes()


def _parquet(rows, columns):
    written = io.BytesIO()
    pd.DataFrame(rows, columns=columns).to_parquet(written, index=False)
    return written.getvalue()
