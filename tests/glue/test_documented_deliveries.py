"""The programs of docs/delivering.md deliver batches that the load accepts."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prediction_batches.files.share_location import ShareLocation
from prediction_batches.object_store import ObjectStore
from prediction_contract.manifests.manifest import Manifest, parse_manifest, validate
from prediction_contract.naming.s3_layout import done_key
from tests.glue.batch_builder import PARTITION, WrittenBatch
from tests.glue.load_platform import ROOT, LoadPlatform
from tests.glue.test_spark import HAS_SPARK

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from prediction_contract.jobs.job_arguments import LoadArguments
    from prediction_contract.manifests.load_report import LoadReport
    from tests.stack_runs import LocalStack

pytestmark = pytest.mark.stack

PAGE = (ROOT / "docs" / "delivering.md").read_text(encoding="utf-8")
PROGRAMS = dict(re.findall(r"^`(\w+[.]py)`.*?^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
STARTED = "2013-02-02T01:00:00+00:00"
ROWS = 1000
_SECONDS = 120


@pytest.fixture(scope="module")
def tides(local_stack: LocalStack, aws_client: Callable[[str], Any]) -> LoadPlatform:
    """Return the page's model with its online table."""
    made = LoadPlatform(local_stack.environment, aws_client, "tides")
    made.create_online_table()
    return made


@pytest.fixture
def platform(tides: LoadPlatform) -> LoadPlatform:
    """Return the page's model for the `load` fixture."""
    return tides


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write the page's programs and predictions in three files, and return their folder."""
    for name, text in PROGRAMS.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "predictions").mkdir()
    for number, first in enumerate(range(0, ROWS, 400)):
        places = range(first, min(first + 400, ROWS))
        moments = pa.array([1359763200000000 + place for place in places], pa.timestamp("us", "UTC"))
        metres = pa.array([Decimal(place) / 100 for place in places], pa.decimal128(6, 2))
        table = pa.table(
            {"station": [f"s-{place:04}" for place in places], "high_water": moments, "metres": metres}
        )
        pq.write_table(table, tmp_path / "predictions" / f"file-{number}.parquet", row_group_size=100)
    tables = [pq.read_table(path) for path in sorted((tmp_path / "predictions").iterdir())]
    pq.write_table(pa.concat_tables(tables), tmp_path / "all.parquet", row_group_size=100)
    return tmp_path


def start(
    platform: LoadPlatform, folder: Path, name: str, data: str, **variables: str
) -> subprocess.Popen[str]:
    """Start a program of the page with its documented arguments."""
    bucket = platform.deployment.data_bucket
    return subprocess.Popen(
        [sys.executable, name, bucket, PARTITION, name, STARTED, data],
        cwd=folder,
        env=platform.script_environment | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def output_of(program: subprocess.Popen[str]) -> str:
    """Return the output of a program, which must succeed."""
    out, error = program.communicate(timeout=_SECONDS)
    assert program.returncode == 0, error
    return out.strip()


def read_manifest(platform: LoadPlatform, key: str) -> Manifest:
    """Return the manifest of a key after all the contract's checks."""
    bucket = platform.deployment.data_bucket
    content = platform.aws("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
    manifest = parse_manifest(content)
    validate(manifest, bucket=bucket, key=key)
    return manifest


def check_loaded(
    platform: LoadPlatform, load: Callable[[LoadArguments], LoadReport], manifest: Manifest
) -> None:
    """Load the batch with full verification, and check that both stores hold its rows."""
    load(platform.claim(WrittenBatch(manifest, []), verify="full"))
    assert platform.record(manifest.batch_id).load_state == "loaded"
    online, warehouse = (
        platform.online(manifest.batch_id),
        platform.warehouse(manifest.batch_id, manifest.schema),
    )
    assert len(online) == len(warehouse) == manifest.row_count == ROWS
    assert warehouse[7][:3] == ("s-0007", datetime(2013, 2, 2, 0, 0, 0, 7), Decimal("0.07"))  # noqa: DTZ001  # as Snowflake has it
    assert online["s-0007"]["metres"] == {"N": "0.07"}


def test_script_delivers_a_batch(
    platform: LoadPlatform, load: Callable[[LoadArguments], LoadReport], folder: Path
) -> None:
    """The plain script's batch is loaded, and a second run gives the same batch."""
    key = output_of(start(platform, folder, "deliver.py", "all.parquet"))
    check_loaded(platform, load, read_manifest(platform, key))
    assert output_of(start(platform, folder, "deliver.py", "all.parquet")) == key


def test_processes_deliver_a_batch(
    platform: LoadPlatform, load: Callable[[LoadArguments], LoadReport], folder: Path
) -> None:
    """Processes deliver one share per file, and the batch is loaded."""
    manifest = read_manifest(
        platform, output_of(start(platform, folder, "deliver_by_processes.py", "predictions"))
    )
    assert [part.rows for part in manifest.json_parts] == [400, 400, 200]
    check_loaded(platform, load, manifest)


def test_hosts_deliver_a_batch(
    platform: LoadPlatform, load: Callable[[LoadArguments], LoadReport], folder: Path
) -> None:
    """The first host waits for the others, and a repeated host changes nothing."""
    name = "deliver_by_hosts.py"
    hosts = [start(platform, folder, name, "all.parquet", HOST=f"{host}", HOSTS="3") for host in (0, 1, 2, 1)]
    key, *others = map(output_of, hosts)
    assert others == ["", "", ""]
    manifest = read_manifest(platform, key)
    assert [part.rows for part in manifest.json_parts] == [400, 300, 300]
    check_loaded(platform, load, manifest)


@pytest.mark.slow
@pytest.mark.skipif(
    not HAS_SPARK and os.environ.get("CI") != "true",
    reason="there is no Java, or pyspark is not installed, which `make test-full` does",
)
def test_spark_job_delivers_a_batch(
    platform: LoadPlatform, load: Callable[[LoadArguments], LoadReport], folder: Path
) -> None:
    """Each Spark task writes a share, and a second run gives the same batch."""
    key = output_of(start(platform, folder, "deliver_by_spark.py", "predictions"))
    manifest = read_manifest(platform, key)
    assert len(manifest.json_parts) == 4
    check_loaded(platform, load, manifest)
    assert output_of(start(platform, folder, "deliver_by_spark.py", "predictions")) == key


def test_page_documents_the_written_keys() -> None:
    """The keys on the page are those that the layout produces."""
    batch_id = "20130203T060000Z-00000001"
    location = ShareLocation(ObjectStore(None, "bucket"), "tides", "2013-02", batch_id, 7, "all")
    keys = [location.part_key(0), location.data_key(0), done_key("tides", batch_id)]
    words = {
        "2013-02-03": "<UTC date of the batch id>",
        "month=2013-02": "<partition>",
        batch_id: "<batch id>",
    }
    words |= {"tides": "<model>", "attempt=7": "attempt=<n>", "/7/": "/<n>/", "/all-": "/<share>-"}
    for written, word in words.items():
        keys = [key.replace(written, word) for key in keys]
    prefix = keys[0].partition("<share>")[0]
    beside = [location.receipt_key, location.keys_key]
    ends = [key.rpartition("attempt=7/")[2].replace("all", "<share>") for key in beside]
    assert prefix.endswith("attempt=<n>/")
    assert all(f"`{key}`" in PAGE for key in [*keys, *(f".../attempt=<n>/{end}" for end in ends)])
