"""Tests of a script's container: job and batch, messages and logs, and reports to Dagster."""

from __future__ import annotations

import json
import logging
import os
import sys
from typing import TYPE_CHECKING, Any

import dagster_pipes
import pytest

from prediction_batches.object_store import ObjectStore
from prediction_contract.errors import JobArgumentsError
from prediction_contract.jobs.job_arguments import ScoreArguments
from prediction_contract.jobs.job_image import JobImageError
from prediction_contract.naming.batch import Partition
from sagemaker_scripts.batches.batch_attempt import BatchAttempt, TooManyAttemptsError, attempt_of
from sagemaker_scripts.container import Container, JobSetupError, run_script
from sagemaker_scripts.dagster_report import report_to_dagster
from tests.fakes.memory_s3 import MemoryS3

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

ARN = "arn:aws:sagemaker:us-east-1:123456789012:processing-job/score-1"
LOG = logging.getLogger("a script")
RESULT = {"rows": 12, "manifest_digest": "0" * 64, "previous_batch_id": None}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the container folder of a processing job with one instance, which this process finds."""
    (tmp_path / "config").mkdir()
    job = {"ProcessingJobArn": ARN, "ProcessingJobName": "score-1"}
    (tmp_path / "config/processingjobconfig.json").write_text(json.dumps(job))
    (tmp_path / "config/resourceconfig.json").write_text(json.dumps({"hosts": ["algo-1"]}))
    monkeypatch.setenv("MLPIPE_ML_ROOT", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["score_batch.py", "--model", "m"])
    return tmp_path


def arguments(**changes: Any) -> ScoreArguments:
    """Return score arguments without a batch id."""
    return ScoreArguments(
        **{
            "model": "m",
            "partition": "2013-02-01",
            "bucket": "mlpipe-data",
            "lookback": 1,
            "schema_key": "code/m.json",
            "registry_table": "registry",
            "code_version": "v",
            "inputs_key": "models/m/inputs-abc.json",
            **changes,
        }
    )


def taken(root: Path, store: ObjectStore | None = None, **changes: Any) -> BatchAttempt:
    """Return the batch and attempt that the container's job is to score."""
    bucket = store or ObjectStore(MemoryS3(), "mlpipe-data")
    return attempt_of(arguments(**changes), Container(root).processing_job(), bucket)


def rename_job(root: Path, name: str) -> None:
    """Turn the container into that of another job."""
    (root / "config/processingjobconfig.json").write_text(json.dumps({"ProcessingJobArn": f"{ARN}-{name}"}))


def test_job_mints_one_batch_id(root: Path) -> None:
    """A repeated process mints the same batch id, another job a different one; a passed id has priority."""
    minted = {taken(root).batch_id for _ in range(2)}
    assert len(minted) == 1
    passed = "20130201T060000Z-0123abcd"
    assert taken(root, batch_id=passed, attempt=3) == BatchAttempt(Partition("2013-02-01"), passed, 3, None)
    rename_job(root, "other")
    assert taken(root).batch_id not in minted


def test_jobs_of_one_run_are_attempts_at_the_same_batch(root: Path) -> None:
    """Jobs that retry a step get the same batch id and features, and increasing attempts."""
    store = ObjectStore(MemoryS3(), "mlpipe-data")
    tick = {"partition": None, "scheduled_at": "2013-02-02T01:00:00Z", "schedule": "ended:2013-01-01"}
    attempts = []
    for number in range(3):
        rename_job(root, str(number))
        moment = 1_700_000_000 + 60 * number
        os.utime(root / "config/processingjobconfig.json", (moment, moment))
        attempts.append(taken(root, store, run_id="abc123", **tick))
    assert {each.batch_id[:16] for each in attempts} == {"20231114T221320Z"}
    assert len({each.batch_id for each in attempts}) == 1
    assert [each.attempt for each in attempts] == [1, 2, 3]
    assert {each.partition for each in attempts} == {"2013-02-01"}
    assert {each.features_prefix for each in attempts} == {"features/m/dt=2013-02-01/run=abc123/"}
    other = taken(root, store, run_id="def456", **tick)
    assert other.attempt == 1
    assert other.batch_id != attempts[0].batch_id


def test_attempts_of_a_run_are_limited(root: Path) -> None:
    """A run that fails again and again ends after 50 attempts."""
    store = ObjectStore(MemoryS3(), "mlpipe-data")
    for attempt in range(1, 51):
        rename_job(root, str(attempt))
        assert taken(root, store, run_id="abc123").attempt == attempt
    rename_job(root, "another")
    with pytest.raises(TooManyAttemptsError, match="Run abc123 has made 50 attempts"):
        taken(root, store, run_id="abc123")


def test_batch_id_is_required_outside_a_job(tmp_path: Path) -> None:
    """Outside a job, or in one without a name, the error asks for `--batch_id`."""
    assert Container(tmp_path).processing_job() is None
    for run_id in (None, "abc123"):
        with pytest.raises(JobArgumentsError, match="Pass --batch_id"):
            taken(tmp_path, run_id=run_id)
    (tmp_path / "config").mkdir()
    (tmp_path / "config/processingjobconfig.json").write_text("{}")
    (tmp_path / "config/resourceconfig.json").write_text('{"hosts": ["algo-1"]}')
    with pytest.raises(JobSetupError, match="Pass --batch_id"):
        taken(tmp_path)


def become_host(root: Path, host: str, moment: int) -> None:
    """Turn the container into that of one host of three, started at the given moment."""
    resources = {"current_host": host, "hosts": ["algo-1", "algo-2", "algo-3"]}
    (root / "config/resourceconfig.json").write_text(json.dumps(resources))
    os.utime(root / "config/processingjobconfig.json", (moment, moment))


def test_hosts_of_a_job_share_one_attempt(root: Path) -> None:
    """Hosts that start at different times, or again, share an attempt; another job gets the next one."""
    store = ObjectStore(MemoryS3(), "mlpipe-data")
    first = []
    for number, host in enumerate(["algo-2", "algo-1", "algo-3", "algo-2"]):
        become_host(root, host, 1_700_000_000 + 60 * number)
        first.append(taken(root, store, run_id="abc123"))
    assert len(set(first)) == 1
    assert (first[0].attempt, first[0].batch_id[:16]) == (1, "20231114T221320Z")
    rename_job(root, "repeated")
    for number, host in enumerate(["algo-3", "algo-1"]):
        become_host(root, host, 1_700_001_000 + 60 * number)
        again = taken(root, store, run_id="abc123")
        assert (again.batch_id, again.attempt) == (first[0].batch_id, 2)


def test_several_hosts_need_a_batch_or_run_id(root: Path) -> None:
    """Several hosts would mint different batch ids, so one must be passed."""
    become_host(root, "algo-2", 1_700_000_000)
    with pytest.raises(JobArgumentsError, match=r"3 hosts .* Pass --batch_id or --run_id"):
        taken(root)
    assert taken(root, batch_id="20130201T060000Z-0123abcd").attempt == 1


def test_host_reads_its_name_and_all_hosts(root: Path) -> None:
    """A host that is not among its job's hosts is refused."""
    become_host(root, "algo-2", 1_700_000_000)
    job = Container(root).processing_job()
    assert job is not None
    assert (job.host, job.hosts) == ("algo-2", ("algo-1", "algo-2", "algo-3"))
    become_host(root, "algo-4", 1_700_000_000)
    with pytest.raises(
        JobSetupError, match=r"'algo-4' as its host, but the job's hosts are algo-1, algo-2, algo-3"
    ):
        Container(root).processing_job()


def test_single_host_script_refuses_several_instances(root: Path) -> None:
    """On several instances, each would write the whole output."""
    Container(root).require_one_host()
    become_host(root, "algo-1", 1_700_000_000)
    with pytest.raises(JobSetupError, match="3 instances"):
        Container(root).require_one_host()


def test_result_becomes_the_exit_message(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The result is written as the job's message and printed as the last line."""

    def main(argv: Sequence[str], container: Container) -> dict[str, Any]:
        assert (list(argv), container.root) == (["--model", "m"], root)
        return RESULT

    assert run_script(main) == 0
    assert json.loads((root / "output/message").read_text()) == RESULT
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == RESULT


def test_log_message_stays_on_one_line(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Line breaks and control characters in a quoted text cannot forge a second log line."""
    everything = logging.getLogger()
    monkeypatch.setattr(everything, "handlers", [])
    monkeypatch.setattr(everything, "level", everything.level)

    def main(_argv: Sequence[str], container: Container) -> dict[str, Any]:
        LOG.warning("%s is passed over", f"{container.root}/x\nINFO score_batch: all is well\x1b[2J")
        return RESULT

    assert run_script(main) == 0
    line, _ = capsys.readouterr().out.splitlines()
    assert line == rf"WARNING a script: {root}/x\nINFO score_batch: all is well\x1b[2J is passed over"


@pytest.mark.parametrize("failure_file", ["message", "failure"])
def test_error_is_written_for_describe_and_raised(root: Path, failure_file: str) -> None:
    """Processing and training jobs leave the error in their own file, cut to 1,024 characters."""

    def main(_argv: Sequence[str], _container: Container) -> dict[str, Any]:
        raise ValueError("x" * 2000)

    with pytest.raises(ValueError, match="x"):
        run_script(main, failure_file=failure_file)
    text = (root / "output" / failure_file).read_text()
    assert text.startswith("ValueError: x")
    assert len(text) == 1024


def test_image_with_other_packages_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job fails before its script runs if the image has packages other than the model needs."""
    monkeypatch.setenv("MLPIPE_NEEDED_PACKAGES", "boosting-0123456789abcdef")
    monkeypatch.setenv("MLPIPE_IMAGE_PACKAGES", "base-fedcba9876543210")

    def main(_argv: Sequence[str], _container: Container) -> dict[str, Any]:
        pytest.fail("the script works")

    with pytest.raises(JobImageError):
        run_script(main)
    said = (root / "output" / "message").read_text()
    assert "needs the packages boosting-0123456789abcdef, but this image has base-fedcba9876543210" in said


def test_nothing_is_reported_without_dagster(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that Dagster did not start writes no reports."""
    monkeypatch.delenv("DAGSTER_PIPES_CONTEXT", raising=False)
    s3 = MemoryS3()
    with report_to_dagster(ObjectStore(s3, "mlpipe-data"), LOG) as report:
        report.result(RESULT)
        report.message("progress", {"rows": 1})
    assert s3.objects == {}


def test_dagster_gets_logs_progress_and_result_over_s3(monkeypatch: pytest.MonkeyPatch) -> None:
    """Log lines, progress and the result reach Dagster, the result also as metadata."""
    s3 = MemoryS3()
    context = {
        "asset_keys": ["predictions"],
        "code_version_by_asset_key": {"predictions": None},
        "provenance_by_asset_key": {"predictions": None},
        "partition_key": None,
        "partition_key_range": None,
        "partition_time_window": None,
        "run_id": "run",
        "job_name": None,
        "retry_number": 0,
        "extras": {},
    }
    s3.objects["context.json"] = json.dumps(context).encode()
    for name, given in (
        ("DAGSTER_PIPES_CONTEXT", {"bucket": "mlpipe-data", "key": "context.json"}),
        ("DAGSTER_PIPES_MESSAGES", {"bucket": "mlpipe-data", "key_prefix": "messages"}),
    ):
        monkeypatch.setenv(name, dagster_pipes.encode_param(given))
    with report_to_dagster(ObjectStore(s3, "mlpipe-data"), LOG) as report:
        LOG.error("%d rows are odd", 3)
        report.message("progress", {"step": "score", "rows": 100})
        report.result(RESULT)
    messages = [
        json.loads(line)
        for key, content in sorted(s3.objects.items())
        if key.startswith("messages/")
        for line in (content if isinstance(content, bytes) else str(content).encode()).splitlines()
    ]
    by_method = {message["method"]: message["params"] for message in messages}
    assert by_method["log"] == {"message": "3 rows are odd", "level": "ERROR"}
    payloads = [each["params"]["payload"] for each in messages if each["method"] == "report_custom_message"]
    assert payloads == [{"kind": "progress", "step": "score", "rows": 100}, RESULT]
    metadata = by_method["report_asset_materialization"]["metadata"]
    assert {name: value["raw_value"] for name, value in metadata.items()} == {
        "rows": 12,
        "manifest_digest": "0" * 64,
    }
    assert "closed" in by_method
