"""Measure loading a part into DynamoDB, compared with boto3's `batch_writer` and awswrangler.

    python -m benchmarks.load [--rows 40000] [--rounds 3] [--long-rows 5000000]

All clients write the same rows to the same canned endpoint, in turn, each in its own process. CPU is that of
the client's process without imports. mlpipe fetches the part from S3, compares its SHA-256, validates every
row and computes a checksum; the others read the file from disk and parse it without loss. Writes
`benchmarks/results/load.json`.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.canned.canned_load_store import canned_load_store
from prediction_contract.rows.prediction_line import prediction_line
from prediction_contract.rows.row_contract import row_contract
from prediction_contract.rows.schema import PredictionSchema

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "load.json"
WRANGLER_PYTHON = ROOT / ".venv-bench" / "bin" / "python"
BUCKET = "bucket"
LEAST_RATIO = 8.0
MAX_MB = 300.0
_SECONDS = 1800
SCHEMA = PredictionSchema.from_document(
    {
        "key": "flight",
        "columns": [
            {"name": "flight", "type": "string", "nullable": False},
            {"name": "carrier", "type": "string", "nullable": False},
            {"name": "origin", "type": "string", "nullable": False},
            {"name": "scheduled_departure", "type": "timestamp", "nullable": False},
            {"name": "distance_miles", "type": "long", "nullable": False},
            {"name": "delay_probability", "type": "double", "nullable": False},
            {"name": "expected_delay_minutes", "type": "decimal(7,2)", "nullable": True},
            {"name": "likely_late", "type": "boolean", "nullable": False},
        ],
    }
)


def write_part(folder: Path, rows: int) -> Path:
    """Write a part with this many rows below a folder, and return the file that describes it."""
    contract, key = row_contract(SCHEMA), f"part-{rows}.jsonl.gz"
    path = folder / BUCKET / key
    path.parent.mkdir(exist_ok=True)
    with gzip.open(path, "wb", compresslevel=6) as file:
        for number in range(rows):
            values = {
                "flight": f"AA-{number}-JFK",
                "carrier": "AA",
                "origin": "JFK",
                "scheduled_departure": f"2013-02-{number % 28 + 1:02}T{number % 24:02}:15:00Z",
                "distance_miles": 100 + number % 4000,
                "delay_probability": (number * 7919 % 100_003) / 100_003,
                "expected_delay_minutes": (number % 12_000) / 100 if number % 10 else None,
                "likely_late": number % 5 == 0,
            }
            file.write(prediction_line(contract, values).content)
    content = path.read_bytes()
    described = {
        "key": key,
        "bucket": BUCKET,
        "path": str(path),
        "rows": rows,
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "schema": SCHEMA.to_document(),
    }
    description = folder / f"part-{rows}.json"
    description.write_text(json.dumps(described))
    return description


def measure(client: str, kind: str, part: Path, address: str) -> dict[str, float]:
    """Return one client's figures for a part, measured in a process of its own.

    Raises:
        RuntimeError: The process failed.
    """
    python = str(WRANGLER_PYTHON) if client == "awswrangler" else sys.executable
    environment = {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "NO_PROXY": "127.0.0.1",
        "PATH": os.environ["PATH"],
    }
    done = subprocess.run(
        [python, "-m", "benchmarks.load_clients", client, kind, str(part)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{client} failed: {done.stderr[-2000:]}")
    measured = json.loads(done.stdout.splitlines()[-1])
    items = measured["items"]
    return {
        "items_per_cpu_s": items / measured["cpu_s"],
        "items_per_s": items / measured["wall_s"],
        "peak_mb": measured["peak_mb"],
    }


def side_by_side(part: Path, address: str, clients: Sequence[str], rounds: int) -> dict[str, Any]:
    """Return each client's medians for a part and for parsed rows.

    `ratio` is mlpipe's number of items per CPU second divided by the client's.
    """
    found: dict[str, Any] = {}
    for kind in ("part", "rows"):
        measured: dict[str, list[dict[str, float]]] = {client: [] for client in clients}
        for _ in range(rounds):
            for client in clients:
                measured[client].append(measure(client, kind, part, address))
        found[kind] = {
            client: {name: statistics.median(each[name] for each in rounds_of) for name in rounds_of[0]}
            for client, rounds_of in measured.items()
        }
        ours = found[kind]["mlpipe"]["items_per_cpu_s"]
        for values in found[kind].values():
            values["ratio"] = ours / values["items_per_cpu_s"]
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print and write; return 0 if mlpipe's CPU time and memory are within their limits."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=40_000, help="rows of the part")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each client")
    parser.add_argument("--long-rows", type=int, default=5_000_000, help="rows of the long part")
    parser.add_argument("--out", type=Path, default=RESULTS, help="file for the results")
    options = parser.parse_args(argv)
    clients = ["mlpipe", "boto3", *(["awswrangler"] if WRANGLER_PYTHON.exists() else [])]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with canned_load_store(folder) as (address, endpoint):
            found = side_by_side(write_part(folder, options.rows), address, clients, options.rounds)
            large = write_part(folder, options.long_rows)
            long = {kind: measure("mlpipe", kind, large, address) for kind in ("survey", "part")}
    peak = max(measured["peak_mb"] for measured in long.values())
    ratios = {client: found["part"][client]["ratio"] for client in clients if client != "mlpipe"}
    result = {
        "machine": f"{os.cpu_count()} x {platform.machine()}, Python {platform.python_version()}",
        "endpoint": endpoint,
        "part_rows": options.rows,
        "rounds": options.rounds,
        **found,
        "long": {"rows": options.long_rows, **long},
        "statements": {
            **{
                f"times the items per CPU second of {client}": {"measured": ratio, "at_least": LEAST_RATIO}
                for client, ratio in ratios.items()
            },
            f"MB at most with {options.long_rows} rows": {"measured": peak, "at_most": MAX_MB},
        },
    }
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text(f"{json.dumps(result, indent=2)}\n")
    _print(result)
    return int(min(ratios.values()) < LEAST_RATIO or peak > MAX_MB)


def _print(result: dict[str, Any]) -> None:
    lines = [f"{result['part_rows']} rows, 25 a request, to {result['endpoint']}; {result['machine']}"]
    for kind, title in (("part", "part file to wire"), ("rows", "parsed rows to wire")):
        lines.append(f"{title:<24}{'items/s':>10}{'items/CPU-s':>14}{'ours is':>10}{'peak MB':>10}")
        lines += [
            f"  {client:<22}{values['items_per_s']:>10.0f}{values['items_per_cpu_s']:>14.0f}"
            f"{values['ratio']:>9.1f}x{values['peak_mb']:>10.0f}"
            for client, values in result[kind].items()
        ]
    long = result["long"]
    lines += [
        f"{long['rows']} rows of one part, {kind}: {long[kind]['items_per_cpu_s']:.0f} items/CPU-s, "
        f"{long[kind]['items_per_s']:.0f} items/s, peak {long[kind]['peak_mb']:.0f} MB"
        for kind in ("survey", "part")
    ]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(main())
