"""Loads on Spark give the same rows and the same refusals as loads by processes."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from tests.glue.load_platform import ROOT
from tests.glue.store_checks import check_stores

if TYPE_CHECKING:
    from collections.abc import Callable

    from prediction_contract.jobs.job_arguments import LoadArguments
    from prediction_contract.manifests.load_report import LoadReport
    from tests.glue.load_platform import LoadPlatform

    Load = Callable[[LoadArguments], LoadReport]

HAS_SPARK = bool(find_spec("pyspark") and (os.environ.get("JAVA_HOME") or shutil.which("java")))
pytestmark = [
    pytest.mark.stack,
    pytest.mark.slow,
    pytest.mark.skipif(
        not HAS_SPARK and os.environ.get("CI") != "true",
        reason="there is no Java, or pyspark is not installed, which `make test-full` does",
    ),
]

SCRIPT = ROOT / "glue_scripts" / "load_predictions.py"


def part(number: int) -> list[dict[str, Any] | bytes]:
    """Return a part with valid rows, a truncated one, and a key that each part has."""
    good = [{"flight": f"F-{number}-{row:02}", "seats": row} for row in range(40)]
    return [*good, b'{"flight": "cut', {"flight": "everywhere", "seats": number}]


def test_spark_and_processes_give_the_same_result(platform: LoadPlatform, load: Load) -> None:
    """Items, rows, quarantine and counts of each part are the same with both engines."""
    written = platform.builder.write(*(part(number) for number in range(5)))
    arguments = platform.claim(written, quarantine_rows=10)
    load(arguments)
    by_processes = platform.report(arguments)
    assert by_processes.quarantine.reasons == {"duplicate_key": 5, "unparsable": 5}
    before = platform.stores()
    platform.clear_online()
    arguments = platform.claim(written, quarantine_rows=10)
    run = platform.run_in_process(arguments, SCRIPT, job_run_id="jr_spark")
    assert run.returncode == 0, run.stderr
    assert "engine: name=spark concurrency=2" in run.stdout
    by_spark = platform.report(arguments)
    assert by_spark.parts == by_processes.parts
    assert by_spark.quarantine.reasons == by_processes.quarantine.reasons
    assert by_spark.evidence() is not None
    assert platform.stores() == before
    assert before[0].keys() == {f"F-{number}-{row:02}" for number in range(5) for row in range(40)}


def test_missing_part_refuses_the_batch_on_spark(platform: LoadPlatform) -> None:
    """A missing part that a Spark executor finds refuses the batch."""
    written = platform.builder.write(*([{"flight": f"F-{number}"}] for number in range(5)))
    key = written.manifest.json_parts[3].key
    s3, bucket = platform.aws("s3"), platform.deployment.data_bucket
    s3.delete_object(Bucket=bucket, Key=key)
    run = platform.run_in_process(platform.claim(written), SCRIPT, job_run_id="jr_spark")
    assert "engine: name=spark" in run.stdout
    assert f"BatchRefusedError: {platform.model}/{written.batch_id}: The batch is refused: Part {key}" in (
        run.stderr
    )
    assert platform.record().load_state == "refused"
    assert platform.stores() == ({}, [])


def _begin_on_spark(
    platform: LoadPlatform, arguments: LoadArguments, job_run_id: str
) -> subprocess.Popen[str]:
    """Start the script and return it once it uses Spark."""
    process = subprocess.Popen(
        platform.command(arguments, SCRIPT, job_run_id=job_run_id),
        cwd=ROOT,
        env=platform.script_environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("engine: name=spark"):
            return process
    raise AssertionError(f"The script ended with {process.wait()}")


@pytest.mark.timeout(900)
@pytest.mark.parametrize("wanted", [2, pytest.param(8, marks=pytest.mark.drill)])
def test_killed_spark_load_can_be_repeated(wanted: int, platform: LoadPlatform, load: Load) -> None:
    """A Spark load killed at a random time leaves no processes, and another load completes the batch."""
    rows = [[{"flight": f"F-{part}-{row:03}", "seats": row} for row in range(120)] for part in range(5)]
    kills, longest = 0, 8.0
    for number in range(3 * wanted):
        if kills == wanted:
            break
        written = platform.builder.write(*rows, batch_id=f"20130201T060000Z-{number:08x}")
        killed = f"jr_killed_{number}"
        with _begin_on_spark(platform, platform.claim(written), killed) as process:
            processes = psutil.Process(process.pid).children(recursive=True)
            time.sleep(random.uniform(0, longest))
            process.kill()
        if process.returncode == 0:
            longest /= 2
            continue
        assert process.returncode == -signal.SIGKILL
        kills += 1
        _, left = psutil.wait_procs(processes, timeout=60)
        assert left == []
        load(platform.claim(written, ended=killed))
        check_stores(platform, written)
    assert kills == wanted
    assert platform.staging_tables() == []
