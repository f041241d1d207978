"""Measure a tick of the done-file sensor with a short and a long history, compared with listing everything.

    python -m benchmarks.sensor_tick [--history 1000000]

S3, SQS and DynamoDB are canned and speak their protocols to boto3; the figures include their work. The peer
is dagster-aws's `get_objects` on a tenth of the files. Writes `benchmarks/results/sensor_tick.json`, and
fails above 2 seconds or 5 list calls.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

from dagster_aws.s3 import sensor as dagster_aws_sensor

from benchmarks.canned.canned_done_files import BUCKET
from benchmarks.canned.canned_sensor import CannedSensor, TickFigures, canned_sensor

RESULT = Path(__file__).resolve().parent / "results" / "sensor_tick.json"
NEW, PER_DAY = 20, 1000
MAX_SECONDS, MAX_LIST_CALLS = 2.0, 5
_SMALL_HISTORY = 10_000
# The peer's time grows linearly with the number of files, so fewer are enough.
_PEER_HISTORY = 100_000
_REPEATS = 5
# The latency of S3, DynamoDB and SQS within a region, rounded up.
_ANSWER_SECONDS = 0.02


def measured(history: int) -> dict[str, dict[str, Any]]:
    """Return the figures of ticks that find new files in the queue, new files by listing, or no new files."""
    figures: dict[str, list[TickFigures]] = {"told": [], "listed": [], "nothing_new": []}
    with canned_sensor(history=history, per_day=PER_DAY, answer_seconds=_ANSWER_SECONDS) as sensor:
        for _ in range(_REPEATS):
            figures["nothing_new"].append(sensor.tick(lists=False))
            known = len(sensor.canned.keys)
            for kind, tell in (("told", True), ("listed", False)):
                sensor.canned.add(NEW, tell=tell)
                figures[kind].append(sensor.tick(lists=not tell))
                del sensor.canned.keys[known:]
    return {
        kind: {
            **dataclasses.asdict(ticks[-1]),
            "seconds": median(tick.seconds for tick in ticks),
            "cpu_seconds": median(tick.cpu_seconds for tick in ticks),
        }
        for kind, ticks in figures.items()
    }


def measure_dagster_aws(history: int) -> dict[str, float]:
    """Return the cost of listing the same files with dagster-aws, as its sensor would at each tick."""
    with canned_sensor(history=history, per_day=PER_DAY, answer_seconds=_ANSWER_SECONDS) as sensor:
        new = sensor.canned.add(NEW, tell=False)
        seconds, found = _list_with_dagster_aws(sensor, new[0])
        return {
            "seconds": round(seconds, 2),
            "list_calls": sensor.canned.calls["ListObjectsV2"],
            "found": found,
        }


def _list_with_dagster_aws(sensor: CannedSensor, first_new: str) -> tuple[float, int]:
    client = sensor.client("s3")
    last_known = sensor.canned.keys[sensor.canned.keys.index(first_new) - 1]
    began = time.monotonic()
    found = dagster_aws_sensor.get_objects(BUCKET, prefix="done/", since_key=last_known, client=client)
    return time.monotonic() - began, len(found)


def main() -> int:
    """Measure, print and write the result; return 1 if a limit is exceeded."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--history", type=int, default=1_000_000, help="done files of the long history")
    options = parser.parse_args()
    result: dict[str, Any] = {
        "new_files": NEW,
        "answer_seconds": _ANSWER_SECONDS,
        "history": {str(size): measured(size) for size in (_SMALL_HISTORY, options.history)},
        "dagster_aws_get_objects": {str(_PEER_HISTORY): measure_dagster_aws(_PEER_HISTORY)},
    }
    sys.stdout.write(f"{json.dumps(result, indent=1)}\n")
    RESULT.write_text(f"{json.dumps(result, indent=1)}\n", encoding="utf-8")
    ticks = [tick for kinds in result["history"].values() for tick in kinds.values()]
    held = all(tick["seconds"] < MAX_SECONDS and tick["list_calls"] <= MAX_LIST_CALLS for tick in ticks)
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
