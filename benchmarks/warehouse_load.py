"""Measure a load into the Snowflake stand-in, compared with a bare COPY of the same files.

    python -m benchmarks.warehouse_load [--rows 3000000] [--files 8] [--rounds 3]

Both read the same Delta files from the same stage, in turn. The COPY writes to a table of its own. The load
works like the job: it stages rows beside the table, counts them, moves them in one transaction, counts and
sums them again, commits and cleans up. Rows are not read back; counting them is measured separately. The best
round counts, because other processes may use the machine. Reports rows per second, and rows per CPU second of
the client and both stand-ins together. Writes `benchmarks/results/warehouse_load.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import boto3
import numpy as np
import psutil
import pyarrow as pa
import snowflake.connector
from deltalake import DeltaTable, write_deltalake

from benchmarks.load import SCHEMA
from benchmarks.local_stack import ROOT, stack
from glue_scripts.files.delivered_batch import DeliveredBatch
from glue_scripts.files.survey import NOTHING, PartSurvey, Survey
from glue_scripts.snowflake.warehouse_loader import WarehouseLoader
from infra.local.supervision.processes import stack_processes
from prediction_contract.jobs.job_arguments import LoadArguments
from prediction_contract.manifests.manifest import JsonPart, Manifest, build_manifest
from prediction_contract.naming.s3_layout import delta_table_prefix, json_part_key, report_key
from prediction_contract.rows.checksums import RowTally, batch_checksum
from prediction_contract.stores.warehouse_load import WarehouseLoad
from prediction_contract.stores.warehouse_stage import allowed_location, create_stage
from prediction_contract.stores.warehouse_table import SESSION_PARAMETERS, WarehouseTable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

RESULTS = ROOT / "benchmarks" / "results" / "warehouse_load.json"
MODEL, BATCH, PARTITION = "flight_delay", "20130201T060000Z-0123abcd", "2013-02-01"
BUCKET = "warehouse-load"
STAGE, INTEGRATION = "PREDICTION_FILES", "BENCH_S3"
LEAST_SHARE = 0.6
_SECONDS = 300
_CHECKSUM_STEP = 7_919_000_003


def predictions(first: int, rows: int) -> pa.Table:
    """Return rows as the score job commits them, all with different checksums."""
    numbers = np.arange(first, first + rows, dtype=np.int64)
    columns = {
        "flight": [f"AA-{number}-JFK" for number in numbers],
        "carrier": ["AA"] * rows,
        "origin": ["JFK"] * rows,
        "scheduled_departure": pa.array(numbers * 60_000_000, pa.timestamp("us", tz="UTC")),
        "distance_miles": numbers,
        "delay_probability": numbers / 1e9,
        "expected_delay_minutes": pa.array(
            [Decimal(int(number) % 10_000).scaleb(-2) for number in numbers], pa.decimal128(7, 2)
        ),
        "likely_late": numbers % 2 == 0,
        "batch_id": [BATCH] * rows,
        "row_checksum": numbers * _CHECKSUM_STEP,
    }
    return pa.table(columns)


def deliver(port: int, rows: int, files: int) -> Manifest:
    """Write the Delta table in this many files, and return the manifest of its batch."""
    endpoint = f"http://127.0.0.1:{port}"
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
    boto3.client("s3", endpoint_url=endpoint, **keys).create_bucket(Bucket=BUCKET)
    options = {name.upper(): value for name, value in keys.items() if name != "region_name"} | {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_REGION": "us-east-1",
        "AWS_ALLOW_HTTP": "true",
        "conditional_put": "etag",
    }
    address = f"s3://{BUCKET}/{delta_table_prefix(MODEL).rstrip('/')}"
    each = rows // files
    for number in range(files):
        part = predictions(number * each, each)
        write_deltalake(address, part, mode="append", storage_options=options)
    table = DeltaTable(address, storage_options=options)
    written = [uri.removeprefix(f"{address}/") for uri in table.file_uris()]
    return build_manifest(
        model=MODEL,
        batch_id=BATCH,
        attempt=1,
        partition=PARTITION,
        bucket=BUCKET,
        created_at=datetime(2013, 2, 1, 6, tzinfo=UTC),
        model_version="1",
        code_version="1",
        schema=SCHEMA,
        json_parts=[
            JsonPart(
                json_part_key(MODEL, PARTITION, BATCH, 1, share="part", number=0), each * files, 1, "0" * 64
            )
        ],
        delta_version=table.version(),
        delta_files=written,
        checksum=batch_checksum(number * _CHECKSUM_STEP for number in range(each * files)),
    )


def arguments(manifest: Manifest) -> LoadArguments:
    """Return the arguments of the batch's load."""
    return LoadArguments(
        model=manifest.model,
        batch_id=manifest.batch_id,
        bucket=manifest.bucket,
        manifest_key=manifest.key,
        manifest_digest=manifest.digest,
        claim_token="token",  # noqa: S106  # a name, not a secret
        load_attempt=1,
        registry_table="registry",
        online_table="online",
        items_expire_at=1,
        snowflake_secret="secret",  # noqa: S106  # a name
        snowflake_database="BENCH",
        snowflake_schema="PREDICTIONS",
        snowflake_warehouse="W",
        snowflake_stage=STAGE,
        snowflake_integration=INTEGRATION,
        report_key=report_key(manifest.model, manifest.batch_id, 1),
    )


@contextmanager
def warehouse(port: int, bucket: str) -> Iterator[Any]:
    """Connect to an empty warehouse that can read a bucket's predictions."""
    connection = snowflake.connector.connect(
        account="local",
        user="test",
        password="test",  # noqa: S106  # the stand-in's
        host="127.0.0.1",
        port=port,
        protocol="http",
        session_parameters=dict(SESSION_PARAMETERS),
        network_timeout=_SECONDS,
    )
    location = allowed_location(bucket)
    with closing(connection), closing(connection.cursor()) as cursor:
        for statement in (
            "CREATE DATABASE BENCH",
            "CREATE SCHEMA BENCH.PREDICTIONS",
            "USE SCHEMA BENCH.PREDICTIONS",
            f"CREATE STORAGE INTEGRATION {INTEGRATION} STORAGE_ALLOWED_LOCATIONS = ('{location}')",
            create_stage(STAGE, bucket, INTEGRATION),
        ):
            cursor.execute(statement)
        yield connection


class Stopwatch:
    """Measures seconds, and the CPU seconds of this process and of the stack's processes.

    Args:
        processes: The stack's processes.
    """

    def __init__(self, processes: Sequence[psutil.Process]) -> None:
        self._processes = [*processes, psutil.Process()]

    def read(self) -> Spent:
        """Return the seconds and CPU seconds so far; only differences are meaningful."""
        times = [process.cpu_times() for process in self._processes]
        return Spent(time.perf_counter(), sum(each.user + each.system for each in times))


class Spent(NamedTuple):
    """Seconds, and CPU seconds."""

    seconds: float
    cpu_seconds: float

    def since(self, earlier: Spent) -> Spent:
        """Return the difference."""
        return Spent(self.seconds - earlier.seconds, self.cpu_seconds - earlier.cpu_seconds)


def copied(watch: Stopwatch, connection: Any, manifest: Manifest) -> Spent:
    """Copy the files into an empty table; return the time."""
    table = WarehouseTable(MODEL, manifest.schema)
    bare = WarehouseLoad(table, BATCH, "bare")
    with closing(connection.cursor()) as cursor:
        for statement in bare.prepare():
            cursor.execute(statement)
        began = watch.read()
        for statement in bare.copy(STAGE, manifest.delta.files):
            cursor.execute(statement)
        spent = watch.read().since(began)
        for statement in bare.clean_up():
            cursor.execute(statement)
    return spent


class WatchedLoader(WarehouseLoader):
    """The job's loader, which also adds up the time that it spends on verification."""

    watch: Stopwatch
    verification = Spent(0.0, 0.0)

    def _run(self, step: str, statement: str, parameters: Sequence[Any] | None = None) -> list[Any]:
        began = self.watch.read()
        found = super()._run(step, statement, parameters)
        if step in {"count_staged", "verify"}:
            seconds, cpu_seconds = self.watch.read().since(began)
            before = self.verification
            self.verification = Spent(before.seconds + seconds, before.cpu_seconds + cpu_seconds)
        return found


def loaded(watch: Stopwatch, connection: Any, manifest: Manifest, job_run_id: str) -> tuple[Spent, Spent]:
    """Load the batch like the job; return the time without verification, and the time of verification."""
    accepted = RowTally(rows=manifest.row_count, checksum=int(manifest.checksum))
    survey = Survey([PartSurvey("part", accepted, NOTHING, Counter(), [], b"")], [])
    loader = WatchedLoader(connection, DeliveredBatch(manifest), arguments(manifest), job_run_id)
    loader.watch = watch
    began = watch.read()
    loader.stage()
    stored = loader.move(survey, [])
    loader.clean_up()
    spent = watch.read().since(began)
    if stored.rows.rows != manifest.row_count:
        raise RuntimeError(f"{stored.rows.rows} of {manifest.row_count} rows are in the table")
    return spent.since(loader.verification), loader.verification


def measured(ports: dict[str, int], watch: Stopwatch, options: argparse.Namespace) -> dict[str, list[Spent]]:
    """Return the times of each round for the bare COPY, the load and its verification."""
    manifest = deliver(ports["aws"], options.rows, options.files)
    found: dict[str, list[Spent]] = {"copy": [], "load": [], "verification": []}
    with warehouse(ports["snowflake"], BUCKET) as connection:
        # The first round is not counted: it creates tables and fills the cache.
        for number in range(options.rounds + 1):
            found["copy"].append(copied(watch, connection, manifest))
            load, verification = loaded(watch, connection, manifest, f"jr_{number}")
            found["load"].append(load)
            found["verification"].append(verification)
    return {name: rounds[1:] for name, rounds in found.items()}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print and write; return 1 if the load is too slow compared with the bare COPY."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rows", type=int, default=3_000_000, help="rows of the batch")
    parser.add_argument("--files", type=int, default=8, help="Delta files of the batch")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each")
    parser.add_argument("--out", type=Path, default=RESULTS, help="file for the results")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as name, stack(Path(name), "aws", "snowflake") as ports:
        found = measured(ports, Stopwatch(stack_processes(Path(name) / "state")), options)
    result = {
        "machine": f"{os.cpu_count()} x {platform.machine()}, Python {platform.python_version()}",
        "rows": options.rows,
        "files": options.files,
        "rounds": {name: [spent._asdict() for spent in rounds] for name, rounds in found.items()},
        **{
            f"rows_per_{unit.replace('seconds', 's')}": {
                name: options.rows / min(spent._asdict()[unit] for spent in rounds)
                for name, rounds in found.items()
            }
            for unit in Spent._fields
        },
    }
    share = result["rows_per_s"]["load"] / result["rows_per_s"]["copy"]
    result["statements"] = {"of a bare COPY's rows per second": {"measured": share, "at_least": LEAST_SHARE}}
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text(f"{json.dumps(result, indent=2)}\n")
    lines = [
        f"{options.rows} rows in {options.files} files; {result['machine']}",
        f"{'':<14}{'rows/s':>10}{'rows/CPU-s':>14}",
        *(
            f"  {name:<12}{result['rows_per_s'][name]:>10.0f}{result['rows_per_cpu_s'][name]:>14.0f}"
            for name in found
        ),
        f"the load has {share:.0%} of the bare COPY's rows per second",
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    return int(share < LEAST_SHARE)


if __name__ == "__main__":
    sys.exit(main())
