"""Tests of waiting for the files of a done file that arrived before them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from glue_scripts.files import delivered_batch
from glue_scripts.files.delivered_batch import wait_for_files
from glue_scripts.progress import Progress
from prediction_contract.jobs.job_arguments import LoadArguments
from prediction_contract.manifests.manifest import JsonPart, Manifest, build_manifest
from prediction_contract.naming.s3_layout import json_part_key
from tests.contract.prediction_rows import FULL_SCHEMA
from tests.fakes.memory_s3 import MemoryS3
from tests.glue.batch_builder import BATCH, PARTITION

if TYPE_CHECKING:
    from collections.abc import Callable

    from prediction_contract.manifests.load_report import LoadReport
    from tests.glue.load_platform import LoadPlatform

# When the done file, the bucket's first object, was written.
PUT_AT = datetime(2013, 2, 1, tzinfo=UTC)
MINUTES = 10
PARTS = [json_part_key("m", PARTITION, BATCH, 1, share="part", number=number) for number in range(2)]
LOG_ENTRY = "predictions/m/delta/_delta_log/00000000000000000007.json"
DELTA_FILE = f"predictions/m/delta/part-{BATCH}.parquet"


@pytest.fixture
def manifest() -> Manifest:
    """Return a manifest with two parts and one Delta file."""
    return build_manifest(
        model="m",
        batch_id=BATCH,
        attempt=1,
        partition=PARTITION,
        bucket="bucket",
        created_at=PUT_AT,
        model_version="v",
        code_version="c",
        schema=FULL_SCHEMA,
        json_parts=[JsonPart(key, 3, 100, "a" * 64) for key in PARTS],
        delta_version=7,
        delta_files=[f"part-{BATCH}.parquet"],
        checksum="1",
    )


@pytest.fixture
def s3(manifest: Manifest) -> MemoryS3:
    """Return a bucket with the manifest and all its files."""
    made = MemoryS3()
    for key in (manifest.key, *PARTS, LOG_ENTRY, DELTA_FILE):
        made.put_object(Bucket="bucket", Key=key, Body=b"x")
    return made


class Waiting:
    """A clock that advances with each pause, and the progress reports; a file may arrive after two pauses."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, s3: MemoryS3, began: datetime, late: str | None = None
    ) -> None:
        self.now = began
        self.pauses: list[float] = []
        self.reported: list[Any] = []
        self._s3, self._late = s3, late
        monkeypatch.setattr(delivered_batch, "now", lambda: self.now)
        monkeypatch.setattr(delivered_batch, "pause", self._pause)

    def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += timedelta(seconds=seconds)
        if self._late and len(self.pauses) > 1:
            self._s3.put_object(Bucket="bucket", Key=self._late, Body=b"x")

    def wait(self, manifest: Manifest, minutes: int | None = MINUTES) -> None:
        """Wait for a manifest's files."""
        arguments = replace(LOAD, manifest_key=manifest.key, wait_minutes=minutes)
        progress = Progress(lambda _kind, values: self.reported.append(values))
        wait_for_files(self._s3, manifest, arguments, progress)


LOAD = LoadArguments(
    model="m",
    batch_id=BATCH,
    bucket="bucket",
    manifest_key="done/key",
    manifest_digest="a" * 64,
    claim_token="t",
    load_attempt=1,
    registry_table="r",
    online_table="o",
    items_expire_at=1,
    snowflake_secret="s",
    snowflake_database="D",
    snowflake_schema="S",
    snowflake_warehouse="W",
    snowflake_stage="P",
    snowflake_integration="I",
    report_key="reports/r.json",
)


@pytest.mark.parametrize("late", [PARTS[0], PARTS[1], LOG_ENTRY, DELTA_FILE])
def test_late_file_is_awaited(
    s3: MemoryS3, manifest: Manifest, monkeypatch: pytest.MonkeyPatch, late: str
) -> None:
    """A missing file is reported while the load waits, and the wait ends when it arrives."""
    waiting = Waiting(monkeypatch, s3, PUT_AT + timedelta(minutes=1), late)
    del s3.objects[late]
    waiting.wait(manifest)
    assert len(waiting.pauses) == 2
    assert waiting.reported[0] == {"missing": late, "until": "2013-02-01T00:10:00Z"}


def test_wait_for_missing_file_ends_as_declared(
    s3: MemoryS3, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wait for a file that never arrives ends after the declared minutes."""
    waiting = Waiting(monkeypatch, s3, PUT_AT + timedelta(minutes=1))
    del s3.objects[PARTS[1]]
    waiting.wait(manifest)
    assert waiting.now == PUT_AT + timedelta(minutes=MINUTES)


@pytest.mark.parametrize(("age", "minutes"), [(timedelta(days=30), MINUTES), (timedelta(0), None)])
def test_no_wait_for_old_done_file_or_if_undeclared(
    s3: MemoryS3, manifest: Manifest, monkeypatch: pytest.MonkeyPatch, age: timedelta, minutes: int | None
) -> None:
    """A load long after the done file, or of a model without wait_minutes, does not wait."""
    waiting = Waiting(monkeypatch, s3, PUT_AT + age)
    del s3.objects[PARTS[1]]
    waiting.wait(manifest, minutes)
    assert waiting.pauses == []


def test_manifest_without_parts_is_not_awaited(
    s3: MemoryS3, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A manifest without parts causes no wait and no error."""
    waiting = Waiting(monkeypatch, s3, PUT_AT + timedelta(minutes=1))
    waiting.wait(replace(manifest, json_parts=(), row_count=0))
    assert waiting.pauses == []


@pytest.mark.stack
def test_batch_with_late_part_is_loaded(
    platform: LoadPlatform,
    load: Callable[[LoadArguments], LoadReport],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The load waits for a late part before it checks the files."""
    written = platform.builder.write([{"flight": "F-1", "seats": 1}])
    s3, bucket, key = platform.aws("s3"), platform.deployment.data_bucket, written.manifest.json_parts[0].key
    content = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    s3.delete_object(Bucket=bucket, Key=key)
    monkeypatch.setattr(
        delivered_batch, "pause", lambda _seconds: s3.put_object(Bucket=bucket, Key=key, Body=content)
    )
    assert load(platform.claim(written, wait_minutes=MINUTES)).status == "loaded"
