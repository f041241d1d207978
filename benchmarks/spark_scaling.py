"""Measure the gain of a second core for a load on Spark: `local[2]` compared with `local[1]`.

    python -m benchmarks.spark_scaling [--parts 32] [--rows 40000] [--rounds 5]

As in a load, each part is fetched and compared with its SHA-256, and its rows are validated and turned into
DynamoDB items. The requests are discarded, so that only the processor limits the load. One and two cores are
measured in turn, each in its own process, after a warm-up run that starts the Python workers. Needs Java and
pyspark. Writes `benchmarks/results/spark_scaling.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from benchmarks.load import ROOT, SCHEMA, write_part
from glue_scripts.engine import SparkEngine
from glue_scripts.files.part_lines import PartSource, RefusedLine, read_rows
from prediction_contract.manifests.manifest import JsonPart
from prediction_contract.stores.online_item_text import OnlineItemTexts

if TYPE_CHECKING:
    from collections.abc import Sequence

RESULTS = ROOT / "benchmarks" / "results" / "spark_scaling.json"
LEAST_RATIO = 1.7
_BATCH = "20130201T060000Z-0123abcd"
_EXPIRY = 1_900_000_000
_SECONDS = 900


class FolderS3:
    """A bucket whose objects are files, with the methods of a boto3 client that fetching a part needs."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)

    def head_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:  # noqa: N803  # boto3's names
        """Return a file's size."""
        return {"ContentLength": (self._folder / Bucket / Key).stat().st_size}

    def download_fileobj(self, bucket: str, key: str, file: IO[bytes], **_options: Any) -> None:
        """Copy a file's content."""
        file.write((self._folder / bucket / key).read_bytes())


def process_part(task: tuple[str, PartSource]) -> int:
    """Process a part like a load, except for sending its items; return the number of rows."""
    folder, source = task
    text = OnlineItemTexts(source.schema, source.batch_id, _EXPIRY).text
    rows = 0
    for row in read_rows(source, FolderS3(folder)):
        if not isinstance(row, RefusedLine):
            text(row)
            rows += 1
    return rows


def run_on_spark(description: Path, parts: int) -> None:
    """Load the described part `parts` times on the environment's Spark; print rows and seconds."""
    # Imported by name like in the load: pyspark is locked separately and may be missing for type checks.
    session = import_module("pyspark.sql").SparkSession.builder.getOrCreate()
    described = json.loads(description.read_text())
    part = JsonPart(described["key"], described["rows"], described["bytes"], described["sha256"])
    source = PartSource("model", _BATCH, described["bucket"], part, SCHEMA)
    engine = SparkEngine(session.sparkContext)
    tasks = [(str(description.parent), source)] * parts
    sum(engine.run(process_part, tasks))
    began = time.perf_counter()
    rows = sum(engine.run(process_part, tasks))
    seconds = time.perf_counter() - began
    sys.stdout.write(f"{json.dumps({'rows': rows, 'seconds': seconds})}\n")


def measure(cores: int, description: Path, parts: int) -> float:
    """Return the rows per second of a load on this many cores, in a process of its own.

    Raises:
        RuntimeError: The process failed.
    """
    environment = {
        **os.environ,
        "PYSPARK_SUBMIT_ARGS": f"--master local[{cores}] pyspark-shell",
        "PYSPARK_PYTHON": sys.executable,
        "SPARK_LOCAL_IP": "127.0.0.1",
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "benchmarks.spark_scaling",
            "--on-spark",
            str(description),
            "--parts",
            str(parts),
        ],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"local[{cores}] failed: {done.stderr[-2000:]}")
    measured = json.loads(done.stdout.splitlines()[-1])
    return measured["rows"] / measured["seconds"]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print and write; return 1 if two cores gain too little over one."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--parts", type=int, default=32, help="parts of the batch")
    parser.add_argument("--rows", type=int, default=40_000, help="rows of each part")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each number of cores")
    parser.add_argument("--out", type=Path, default=RESULTS, help="file for the results")
    parser.add_argument("--on-spark", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.on_spark:
        run_on_spark(options.on_spark, options.parts)
        return 0
    if not (os.environ.get("JAVA_HOME") or shutil.which("java")):
        sys.stdout.write("Spark was not measured, because Java is not installed\n")
        return 0
    with tempfile.TemporaryDirectory() as name:
        description = write_part(Path(name), options.rows)
        rounds = [
            {cores: measure(cores, description, options.parts) for cores in (1, 2)}
            for _ in range(options.rounds)
        ]
    rates = {cores: statistics.median(each[cores] for each in rounds) for cores in (1, 2)}
    ratio = rates[2] / rates[1]
    result = {
        "machine": f"{os.cpu_count()} x {platform.machine()}, Python {platform.python_version()}",
        "rows": options.rows * options.parts,
        "parts": options.parts,
        "rounds": options.rounds,
        "rows_per_s": {f"local[{cores}]": rate for cores, rate in rates.items()},
        "statements": {"times the rows a second of local[1]": {"measured": ratio, "at_least": LEAST_RATIO}},
    }
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text(f"{json.dumps(result, indent=2)}\n")
    sys.stdout.write(
        f"{result['rows']} rows in {options.parts} parts on Spark; {result['machine']}\n"
        f"local[1] {rates[1]:.0f} rows/s, local[2] {rates[2]:.0f} rows/s: {ratio:.2f} times\n"
    )
    return int(ratio < LEAST_RATIO)


if __name__ == "__main__":
    sys.exit(main())
