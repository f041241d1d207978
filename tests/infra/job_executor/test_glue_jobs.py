"""Tests of Glue job runs of real scripts through boto3: arguments, states, logs, limits and errors."""

from __future__ import annotations

import io
import json
import zipfile
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.infra.job_executor.job_stack import (
    BUCKET,
    Aws,
    Executor,
    eventually,
    glue_end,
    glue_job,
    wait_for_line,
)

if TYPE_CHECKING:
    from typing import Any

pytestmark = pytest.mark.stack

SLEEPER = """
    import time
    print("asleep", flush=True)
    time.sleep(300)
"""


def run_state(executor: Executor, job: str, run_id: str) -> str:
    """Return the state of a run."""
    return executor.client("glue").get_job_run(JobName=job, RunId=run_id)["JobRun"]["JobRunState"]


def test_run_gets_merged_arguments_and_logs(executor: Executor, aws: Aws, name: str) -> None:
    """A run's arguments override the job's defaults, and each output goes to its own log group."""
    script = """
        import json, os, sys
        print(json.dumps(sys.argv[1:]))
        print("LEAK_ME" in os.environ, os.listdir("."))
        print("to stderr", file=sys.stderr)
    """
    job = glue_job(executor, aws, name, script, DefaultArguments={"--color": "red", "--size": "1"})
    client = executor.client("glue")
    run_id = client.start_job_run(JobName=job, Arguments={"--color": "blue"})["JobRunId"]
    run = glue_end(executor, job, run_id)
    assert run["JobRunState"] == "SUCCEEDED"
    assert run["Attempt"] == 0
    assert run["Timeout"] == 480
    assert "ErrorMessage" not in run
    assert run["StartedOn"] <= run["CompletedOn"]
    arguments, surroundings = aws.logs(f"{run['LogGroupName']}/output", run_id)
    argv = json.loads(arguments)
    assert argv[:4] == ["--JOB_NAME", job, "--JOB_RUN_ID", run_id]
    assert argv[6:] == ["--color", "blue", "--size", "1"]
    assert surroundings == "False []"
    assert aws.logs("/aws-glue/jobs/error", run_id) == ["to stderr"]


def test_failed_run_shows_its_exception(executor: Executor, aws: Aws, name: str) -> None:
    """The error message is the script's last exception, and the log holds the traceback."""
    job = glue_job(executor, aws, name, "raise ValueError('bad rows')")
    run_id = executor.client("glue").start_job_run(JobName=job)["JobRunId"]
    run = glue_end(executor, job, run_id)
    assert run["JobRunState"] == "FAILED"
    assert run["ErrorMessage"] == "ValueError: bad rows"
    assert aws.logs("/aws-glue/jobs/error", run_id)[0].startswith("Traceback")


def test_timed_out_run_ends_its_child_processes(executor: Executor, aws: Aws, name: str) -> None:
    """A run past its timeout becomes TIMEOUT and leaves no process of its script behind."""
    script = """
        import subprocess, sys, time
        child = subprocess.Popen(["sleep", "300"])
        print(child.pid, flush=True)
        time.sleep(300)
    """
    job = glue_job(executor, aws, name, script, Timeout=60)
    run_id = executor.client("glue").start_job_run(JobName=job, Timeout=3)["JobRunId"]
    run = glue_end(executor, job, run_id)
    assert run["JobRunState"] == "TIMEOUT"
    assert run["Timeout"] == 3
    child = int(aws.logs("/aws-glue/jobs/output", run_id)[0])
    eventually(lambda: not _alive(child), what="the script's child is gone")


def test_background_process_ends_with_its_run(executor: Executor, aws: Aws, name: str) -> None:
    """A background process in its own session ends with the run that started it, as on AWS."""
    script = """
        import subprocess
        command = 'sleep 300 > /dev/null 2>&1 & echo $!'
        print(subprocess.check_output(["sh", "-c", command], start_new_session=True, text=True))
    """
    job = glue_job(executor, aws, name, script)
    run_id = executor.client("glue").start_job_run(JobName=job)["JobRunId"]
    assert glue_end(executor, job, run_id)["JobRunState"] == "SUCCEEDED"
    (child,) = aws.logs("/aws-glue/jobs/output", run_id)
    assert not _alive(int(child))


def _alive(pid: int) -> bool:
    """Return whether a process exists and is not a zombie."""
    try:
        with open(f"/proc/{pid}/stat") as stat:  # noqa: PTH123 - a kernel file
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_run_can_be_stopped(executor: Executor, aws: Aws, name: str) -> None:
    """A stopped run passes from STOPPING to STOPPED, and an unknown or ended run is listed as an error."""
    job = glue_job(executor, aws, name, SLEEPER)
    client = executor.client("glue")
    run_id = client.start_job_run(JobName=job)["JobRunId"]
    wait_for_line(aws, "/aws-glue/jobs/output", run_id, "asleep")
    assert run_state(executor, job, run_id) == "RUNNING"
    answer = client.batch_stop_job_run(JobName=job, JobRunIds=[run_id, "jr_unknown"])
    assert [item["JobRunId"] for item in answer["SuccessfulSubmissions"]] == [run_id]
    assert answer["Errors"][0]["ErrorDetail"]["ErrorCode"] == "EntityNotFoundException"
    assert run_state(executor, job, run_id) in {"STOPPING", "STOPPED"}
    assert glue_end(executor, job, run_id)["JobRunState"] == "STOPPED"
    again = client.batch_stop_job_run(JobName=job, JobRunIds=[run_id])
    assert again["Errors"][0]["JobRunId"] == run_id


def test_concurrent_runs_are_limited(executor: Executor, aws: Aws, name: str) -> None:
    """A second concurrent run is refused until the job's limit is raised; runs are listed newest first."""
    job = glue_job(executor, aws, name, SLEEPER)
    client = executor.client("glue")
    first = client.start_job_run(JobName=job)["JobRunId"]
    with pytest.raises(client.exceptions.ConcurrentRunsExceededException):
        client.start_job_run(JobName=job)
    kept = {key: client.get_job(JobName=job)["Job"][key] for key in ("Role", "Command")}
    client.update_job(JobName=job, JobUpdate=kept | {"ExecutionProperty": {"MaxConcurrentRuns": 2}})
    second = client.start_job_run(JobName=job)["JobRunId"]
    runs = client.get_job_runs(JobName=job, MaxResults=1)
    assert [run["Id"] for run in runs["JobRuns"]] == [second]
    older = client.get_job_runs(JobName=job, MaxResults=1, NextToken=runs["NextToken"])
    assert [run["Id"] for run in older["JobRuns"]] == [first]
    assert "NextToken" not in older
    client.batch_stop_job_run(JobName=job, JobRunIds=[first, second])
    assert {glue_end(executor, job, run_id)["JobRunState"] for run_id in (first, second)} == {"STOPPED"}


def test_oversized_arguments_are_refused(executor: Executor, aws: Aws, name: str) -> None:
    """A run is not started if its arguments' names and values together exceed Glue's limit."""
    job = glue_job(executor, aws, name, SLEEPER)
    client = executor.client("glue")
    full = {f"--{number}": "x" * 64_997 for number in range(4)}
    for arguments in (full | {"--0": "x" * 64_998}, full | {"--4": ""}):
        with pytest.raises(client.exceptions.InvalidInputException, match="at most 260000"):
            client.start_job_run(JobName=job, Arguments=arguments)
    run_id = client.start_job_run(JobName=job, Arguments=full)["JobRunId"]
    client.batch_stop_job_run(JobName=job, JobRunIds=[run_id])


def test_simultaneous_starts_make_one_run(executor: Executor, aws: Aws, name: str) -> None:
    """If eight clients start a job with one concurrent run at the same time, exactly one run starts."""
    job = glue_job(executor, aws, name, SLEEPER)
    client = executor.client("glue")

    def start(_number: int) -> str | None:
        try:
            return client.start_job_run(JobName=job)["JobRunId"]
        except client.exceptions.ConcurrentRunsExceededException:
            return None

    with ThreadPoolExecutor(8) as pool:
        started = [run_id for run_id in pool.map(start, range(8)) if run_id]
    assert len(started) == 1
    client.batch_stop_job_run(JobName=job, JobRunIds=started)
    assert glue_end(executor, job, started[0])["JobRunState"] == "STOPPED"


def test_ended_run_can_be_retried_by_its_id(executor: Executor, aws: Aws, name: str) -> None:
    """`JobRunId` starts one more attempt with the same arguments; a retried or unknown run is refused."""
    job = glue_job(executor, aws, name, "import sys; sys.exit('no: ' + sys.argv[-1])")
    client = executor.client("glue")
    first = client.start_job_run(JobName=job, Arguments={"--why": "because"})["JobRunId"]
    assert glue_end(executor, job, first)["ErrorMessage"] == "no: because"
    second = client.start_job_run(JobName=job, JobRunId=first)["JobRunId"]
    run = glue_end(executor, job, second)
    assert second == f"{first}_attempt_1"
    assert (run["Attempt"], run["PreviousRunId"], run["ErrorMessage"]) == (1, first, "no: because")
    with pytest.raises(client.exceptions.InvalidInputException, match=f"{first} was already retried"):
        client.start_job_run(JobName=job, JobRunId=first)
    assert len(client.get_job_runs(JobName=job)["JobRuns"]) == 2
    with pytest.raises(client.exceptions.EntityNotFoundException):
        client.start_job_run(JobName=job, JobRunId="jr_unknown")


def test_extra_modules_are_importable(executor: Executor, aws: Aws, name: str) -> None:
    """Archives and single modules named by `--extra-py-files` are on the script's path."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("packed_code/__init__.py", "WORD = 'from the zip'")
    key = f"code/{name}.zip"
    aws.client("s3").put_object(Bucket=BUCKET, Key=key, Body=buffer.getvalue())
    module = aws.upload("WORD = 'from the module'", "single_code.py")
    arguments = {"--extra-py-files": f"s3://{BUCKET}/{key},{module}"}
    script = "import packed_code, single_code; print(packed_code.WORD, single_code.WORD)"
    job = glue_job(executor, aws, name, script, DefaultArguments=arguments)
    run_id = executor.client("glue").start_job_run(JobName=job)["JobRunId"]
    assert glue_end(executor, job, run_id)["JobRunState"] == "SUCCEEDED"
    assert aws.logs("/aws-glue/jobs/output", run_id) == ["from the zip from the module"]


def test_script_uses_the_role_of_its_job(executor: Executor, aws: Aws, name: str) -> None:
    """Without configuration, a script's boto3 clients use the job's role and find the local endpoints."""
    script = """
        import boto3
        print(boto3.client("sts").get_caller_identity()["Arn"])
        print(boto3.client("glue").get_jobs(MaxResults=1)["ResponseMetadata"]["HTTPStatusCode"])
    """
    job = glue_job(executor, aws, name, script)
    run_id = executor.client("glue").start_job_run(JobName=job)["JobRunId"]
    glue_end(executor, job, run_id)
    identity, status = aws.logs("/aws-glue/jobs/output", run_id)
    assert identity == "arn:aws:sts::000000000000:assumed-role/glue-jobs/GlueJobRunnerSession"
    assert status == "200"


def test_missing_script_fails_the_run(executor: Executor, aws: Aws, name: str) -> None:
    """A run whose script is missing on S3 fails with the script's address in its message."""
    client = executor.client("glue")
    location = f"s3://{BUCKET}/nowhere/{name}.py"
    command = {"Name": "glueetl", "ScriptLocation": location}
    client.create_job(Name=name, Role=aws.glue_role, Command=command)
    run = glue_end(executor, name, client.start_job_run(JobName=name)["JobRunId"])
    assert run["JobRunState"] == "FAILED"
    assert location in run["ErrorMessage"]


@pytest.mark.parametrize("role", ["nobody", "sagemaker-jobs", "arn:aws:iam::111111111111:role/glue-jobs"])
@pytest.mark.usefixtures("aws")
def test_role_that_glue_cannot_assume_is_refused(executor: Executor, name: str, role: str) -> None:
    """A job whose role is missing, of another account or does not trust Glue is not created."""
    client = executor.client("glue")
    command = {"Name": "glueetl", "ScriptLocation": f"s3://{BUCKET}/x.py"}
    with pytest.raises(client.exceptions.InvalidInputException, match="unable to assume"):
        client.create_job(Name=name, Role=role, Command=command)
    with pytest.raises(client.exceptions.EntityNotFoundException):
        client.get_job(JobName=name)


def test_job_definitions_are_listed_and_deleted(executor: Executor, aws: Aws, name: str) -> None:
    """A job can be created only once, is listed in pages, and can be deleted twice without an error."""
    job = glue_job(executor, aws, name, "")
    client = executor.client("glue")
    definition: dict[str, Any] = client.get_job(JobName=job)["Job"]
    with pytest.raises(client.exceptions.AlreadyExistsException):
        client.create_job(Name=job, Role=definition["Role"], Command=definition["Command"])
    pages = client.get_paginator("get_jobs").paginate(PaginationConfig={"PageSize": 1})
    assert job in [found["Name"] for one in pages for found in one["Jobs"]]
    client.delete_job(JobName=job)
    client.delete_job(JobName=job)
    for call in (client.get_job, client.start_job_run, client.get_job_runs):
        with pytest.raises(client.exceptions.EntityNotFoundException):
            call(JobName=job)
