"""Runs the done-file sensor on canned services, and measures a tick's requests and time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import dagster as dg

from benchmarks.canned.canned_done_files import BUCKET, MODEL, CannedDoneFiles
from mlpipe_dagster.done_files.done_file_cursor import Cursor, Sweep
from mlpipe_dagster.done_files.done_file_fingerprints import WINDOW_DAYS, Fingerprint
from mlpipe_dagster.done_files.done_file_queue import DoneFileQueue
from mlpipe_dagster.done_files.done_file_tick import DoneFileTick
from mlpipe_dagster.resources.data_bucket import DataBucket
from prediction_contract.registry.table import RegistryTable

NOW = datetime(2026, 11, 23, 6, tzinfo=UTC)
PARTITIONS = {MODEL: dg.DailyPartitionsDefinition("2013-01-01", end_date="2014-01-01", timezone="UTC")}


@dataclass(frozen=True)
class TickFigures:
    """The results and costs of one tick.

    Attributes:
        runs: The number of requested runs.
        list_calls: The number of list calls.
        calls: The number of all requests, by kind.
        seconds: The wall-clock time.
        cpu_seconds: The CPU time of this process, including the canned services.
        cursor_bytes: The size of the new cursor.
    """

    runs: int
    list_calls: int
    calls: dict[str, int]
    seconds: float
    cpu_seconds: float
    cursor_bytes: int


@dataclass
class CannedSensor:
    """The sensor, with boto3 clients of canned services.

    Attributes:
        canned: The done files.
        address: The address of the canned services.
        instance: A Dagster instance without runs.
        cursor: The cursor at the start of each tick.
        kept: The cursor that the last tick returned. The next tick begins with `cursor` again.
    """

    canned: CannedDoneFiles
    address: str
    instance: dg.DagsterInstance
    cursor: str = ""
    kept: str = ""

    def client(self, service: str) -> Any:
        """Return a boto3 client."""
        return canned_client(service, self.address)

    def mark_all_processed(self) -> None:
        """Set the cursor as if all files of the window had been loaded, with a sweep due."""
        cursor, bucket = Cursor(sweep=Sweep(began_at=0, turn=0)), DataBucket(self.client("s3"), BUCKET)
        for back in range(WINDOW_DAYS + 1):
            after, more = "", True
            while more:
                day = f"{NOW.date() - timedelta(days=back):%Y-%m-%d}"
                page, more = bucket.done_page(day, after=after)
                for found in page:
                    cursor.fingerprints.add(found.key, Fingerprint.of(found, PARTITIONS), NOW.date())
                after = page[-1].key if page else ""
        self.cursor = cursor.text()
        self.canned.calls.clear()

    def tick(self, *, lists: bool) -> TickFigures:
        """Run one tick, with or without a listing due."""
        cursor = Cursor.parse(self.cursor)
        cursor.sweep = Sweep(began_at=0 if lists else int(NOW.timestamp()))
        self.canned.calls.clear()
        context = dg.build_sensor_context(instance=self.instance, cursor=cursor.text())
        tick = DoneFileTick(
            context=context,
            bucket=DataBucket(self.client("s3"), BUCKET),
            registry=RegistryTable(self.client("dynamodb"), "registry"),
            queue=DoneFileQueue(self.client("sqs"), f"{self.address}/queue", BUCKET),
            partitions=PARTITIONS,
            now=NOW,
            clock=time.monotonic,
        )
        wall, cpu = time.monotonic(), time.process_time()
        result = tick.result()
        seconds, cpu_seconds = time.monotonic() - wall, time.process_time() - cpu
        calls, self.kept = dict(self.canned.calls), result.cursor or ""
        return TickFigures(
            runs=len(result.run_requests or ()),
            list_calls=calls.get("ListObjectsV2", 0),
            calls=calls,
            seconds=round(seconds, 3),
            cpu_seconds=round(cpu_seconds, 3),
            cursor_bytes=len(self.kept),
        )


def canned_client(service: str, address: str) -> Any:
    """Return a boto3 client of canned services."""
    return boto3.client(
        service,
        endpoint_url=address,
        region_name="us-east-1",
        aws_access_key_id="canned",
        aws_secret_access_key="canned",  # noqa: S106  # not checked
    )


@contextmanager
def canned_sensor(*, history: int, per_day: int, answer_seconds: float = 0) -> Iterator[CannedSensor]:
    """Yield a sensor that has processed a whole history; each answer is delayed by `answer_seconds`."""
    canned = CannedDoneFiles(NOW.date(), history, per_day, answer_seconds)
    with canned.served() as address, dg.DagsterInstance.ephemeral() as instance:
        sensor = CannedSensor(canned, address, instance)
        sensor.mark_all_processed()
        yield sensor
