"""Tests of executor restarts: jobs survive a kill, a shutdown is reported, damaged state is kept."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.infra.job_executor.job_stack import (
    Aws,
    Executor,
    eventually,
    glue_end,
    glue_job,
    processing_request,
    sagemaker_end,
    wait_for_line,
)

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.stack

COUNTER = """
    import time
    for number in range(50):
        print(f"line {number}", flush=True)
        time.sleep(0.1)
"""


def test_jobs_survive_a_killed_executor(own_executor: Executor, aws: Aws, name: str) -> None:
    """Jobs run on while the executor is dead, and the next one finishes them with each log line once."""
    job = glue_job(own_executor, aws, name, COUNTER)
    run_id = own_executor.client("glue").start_job_run(JobName=job)["JobRunId"]
    client = own_executor.client("sagemaker")
    cluster = {"InstanceCount": 2, "InstanceType": "ml.m5.large", "VolumeSizeInGB": 10}
    request = processing_request(aws, name, COUNTER, ProcessingResources={"ClusterConfig": cluster})
    client.create_processing_job(**request)
    streams = [f"{name}/algo-{number}-" for number in (1, 2)]
    wait_for_line(aws, "/aws-glue/jobs/output", run_id, "line 3")
    for stream in streams:
        wait_for_line(aws, "/aws/sagemaker/ProcessingJobs", stream, "line 3")
    own_executor.kill()
    own_executor.start()
    assert own_executor.client("glue").get_job_run(JobName=job, RunId=run_id)["JobRun"]["JobRunState"] in {
        "RUNNING",
        "SUCCEEDED",
    }
    assert glue_end(own_executor, job, run_id)["JobRunState"] == "SUCCEEDED"
    assert sagemaker_end(own_executor, "Processing", name)["ProcessingJobStatus"] == "Completed"
    whole = [f"line {number}" for number in range(50)]
    assert aws.logs("/aws-glue/jobs/output", run_id) == whole
    for stream in streams:
        assert aws.logs("/aws/sagemaker/ProcessingJobs", stream) == whole


def test_accepted_job_runs_once_after_kill(own_executor: Executor, aws: Aws, name: str) -> None:
    """A run that was accepted right before the executor was killed is carried out once by the next one."""
    job = glue_job(own_executor, aws, name, "print('once')")
    run_id = own_executor.client("glue").start_job_run(JobName=job)["JobRunId"]
    own_executor.kill()
    own_executor.start()
    assert glue_end(own_executor, job, run_id)["JobRunState"] == "SUCCEEDED"
    assert aws.logs("/aws-glue/jobs/output", run_id) == ["once"]


@pytest.mark.slow
def test_jobs_survive_repeated_kills(own_executor: Executor, aws: Aws, name: str) -> None:
    """Jobs started between a dozen kills all succeed, with each log line written once."""
    moments = random.Random(name)
    job = glue_job(own_executor, aws, name, COUNTER, ExecutionProperty={"MaxConcurrentRuns": 20})
    runs, processing = [], []
    for number in range(12):
        runs.append(own_executor.client("glue").start_job_run(JobName=job)["JobRunId"])
        if number % 4 == 0:
            processing.append(f"{name}-{number}")
            request = processing_request(aws, processing[-1], COUNTER)
            own_executor.client("sagemaker").create_processing_job(**request)
        time.sleep(moments.uniform(0, 1.5))
        own_executor.kill()
        own_executor.start()
    whole = [f"line {number}" for number in range(50)]
    for run_id in runs:
        assert glue_end(own_executor, job, run_id)["JobRunState"] == "SUCCEEDED"
        assert aws.logs("/aws-glue/jobs/output", run_id) == whole
    for processing_job in processing:
        assert sagemaker_end(own_executor, "Processing", processing_job)["ProcessingJobStatus"] == "Completed"
        assert aws.logs("/aws/sagemaker/ProcessingJobs", f"{processing_job}/algo-1-") == whole


def test_job_of_killed_executor_can_be_stopped(own_executor: Executor, aws: Aws, name: str) -> None:
    """A restarted executor can stop a job that its killed predecessor started."""
    job = glue_job(own_executor, aws, name, "import time; print('up', flush=True); time.sleep(300)")
    run_id = own_executor.client("glue").start_job_run(JobName=job)["JobRunId"]
    wait_for_line(aws, "/aws-glue/jobs/output", run_id, "up")
    own_executor.kill()
    own_executor.start()
    own_executor.client("glue").batch_stop_job_run(JobName=job, JobRunIds=[run_id])
    assert glue_end(own_executor, job, run_id)["JobRunState"] == "STOPPED"


def test_shutdown_fails_running_jobs_with_reason(own_executor: Executor, aws: Aws, name: str) -> None:
    """SIGTERM ends the jobs' processes, and the next executor reports the shutdown as the reason."""
    script = "import os, time; print(os.getpid(), flush=True); time.sleep(300)"
    job = glue_job(own_executor, aws, name, script)
    run_id = own_executor.client("glue").start_job_run(JobName=job)["JobRunId"]
    eventually(lambda: output_lines(aws, run_id), what="the script has begun")
    assert own_executor.stop() == 0
    own_executor.start()
    run = own_executor.client("glue").get_job_run(JobName=job, RunId=run_id)["JobRun"]
    assert run["JobRunState"] == "FAILED"
    assert "executor was shut down" in run["ErrorMessage"]
    pid = int(aws.logs("/aws-glue/jobs/output", run_id)[0])
    eventually(lambda: not _exists(pid), what="the script is gone")


def test_killed_job_process_fails_the_run(own_executor: Executor, aws: Aws, name: str) -> None:
    """A run whose supervising process is killed fails with that reason, and its script is ended too."""
    script = "import os, time; print(os.getpid(), flush=True); time.sleep(300)"
    job = glue_job(own_executor, aws, name, script)
    run_id = own_executor.client("glue").start_job_run(JobName=job)["JobRunId"]
    (pid,) = eventually(lambda: output_lines(aws, run_id), what="the script has begun")
    parent = psutil.Process(int(pid)).parent()
    assert parent is not None
    parent.kill()
    run = glue_end(own_executor, job, run_id)
    assert run["JobRunState"] == "FAILED"
    assert "killed from outside" in run["ErrorMessage"]
    eventually(lambda: not _exists(int(pid)), what="the script is gone")


def output_lines(aws: Aws, run_id: str) -> list[str]:
    """Return a run's output so far, or nothing before its log stream exists."""
    client = aws.client("logs")
    try:
        return aws.logs("/aws-glue/jobs/output", run_id)
    except (AssertionError, client.exceptions.ResourceNotFoundException):
        return []


def _exists(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_damaged_state_is_reported_and_kept(aws: Aws, tmp_path: Path) -> None:
    """An executor with a damaged state file exits with advice, and leaves the file unchanged."""
    executor = Executor(aws.url, tmp_path)
    damaged = b"this is no database" * 100
    (tmp_path / "executor.sqlite3").write_bytes(damaged)
    assert executor.spawn().wait(timeout=60) == 3
    log_text = (tmp_path / "executor.log").read_text()
    assert "is damaged" in log_text
    assert "move it" in log_text
    assert (tmp_path / "executor.sqlite3").read_bytes() == damaged


def test_port_in_use_is_reported(own_executor: Executor, aws: Aws, tmp_path: Path) -> None:
    """An executor whose port is taken exits with a message that names the port."""
    second = Executor(aws.url, tmp_path / "second", port=own_executor.port)
    assert second.spawn().wait(timeout=60) == 4
    assert f"Port {second.port} cannot be used" in (second.state_dir / "executor.log").read_text()


def test_second_executor_on_same_state_is_refused(own_executor: Executor, aws: Aws) -> None:
    """A second executor on the same state directory refuses to start."""
    second = Executor(aws.url, own_executor.state_dir)
    assert second.spawn().wait(timeout=60) == 3
    assert "in use by another job executor" in (own_executor.state_dir / "executor.log").read_text()
