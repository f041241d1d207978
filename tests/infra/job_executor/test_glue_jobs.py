"""Glue job runs of real scripts: arguments, states, logs, limits and errors, through boto3."""

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


def run_states(executor: Executor, job: str, run_id: str) -> str:
    """Return the state of a run."""
    return executor.client("glue").get_job_run(JobName=job, RunId=run_id)["JobRun"]["JobRunState"]


def test_a_run_succeeds_with_its_arguments_and_logs(executor: Executor, aws: Aws, name: str) -> None:
    """Defaults overlaid by the run's arguments arrive in argv, and each output in its own log group."""
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


def test_a_failing_run_shows_its_exception(executor: Executor, aws: Aws, name: str) -> None:
    """The error message is the script's last exception, and its log holds the whole trace."""
    job = glue_job(executor, aws, name, "raise ValueError('bad rows')")
    run_id = executor.client("glue").start_job_run(JobName=job)["JobRunId"]
    run = glue_end(executor, job, run_id)
    assert run["JobRunState"] == "FAILED"
    assert run["ErrorMessage"] == "ValueError: bad rows"
    assert aws.logs("/aws-glue/jobs/error", run_id)[0].startswith("Traceback")


def test_a_run_over_its_timeout_ends_with_its_children(executor: Executor, aws: Aws, name: str) -> None:
    """A run past its minutes becomes TIMEOUT and leaves no process of its script behind."""
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


def test_what_a_script_leaves_running_ends_with_it(executor: Executor, aws: Aws, name: str) -> None:
    """A child in a session of its own, whose parent is gone, ends with its run, as it does on AWS."""
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
    """Tell whether a process exists and is more than a zombie."""
    try:
        with open(f"/proc/{pid}/stat") as stat:  # noqa: PTH123 - a kernel file
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_run_is_stopped(executor: Executor, aws: Aws, name: str) -> None:
    """Stopping submits the run, lists the unknown one, and the run passes STOPPING to STOPPED."""
    job = glue_job(executor, aws, name, SLEEPER)
    client = executor.client("glue")
    run_id = client.start_job_run(JobName=job)["JobRunId"]
    wait_for_line(aws, "/aws-glue/jobs/output", run_id, "asleep")
    assert run_states(executor, job, run_id) == "RUNNING"
    answer = client.batch_stop_job_run(JobName=job, JobRunIds=[run_id, "jr_unknown"])
    assert [item["JobRunId"] for item in answer["SuccessfulSubmissions"]] == [run_id]
    assert answer["Errors"][0]["ErrorDetail"]["ErrorCode"] == "EntityNotFoundException"
    assert run_states(executor, job, run_id) in {"STOPPING", "STOPPED"}
    assert glue_end(executor, job, run_id)["JobRunState"] == "STOPPED"
    again = client.batch_stop_job_run(JobName=job, JobRunIds=[run_id])
    assert again["Errors"][0]["JobRunId"] == run_id


def test_one_run_at_a_time_unless_the_job_allows_more(executor: Executor, aws: Aws, name: str) -> None:
    """A second run beside a live one is refused, and accepted once the limit is raised."""
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


def test_arguments_beyond_glues_limit_are_refused(executor: Executor, aws: Aws, name: str) -> None:
    """Names and values count together, and a run whose arguments take more is not started."""
    job = glue_job(executor, aws, name, SLEEPER)
    client = executor.client("glue")
    full = {f"--{number}": "x" * 64_997 for number in range(4)}
    for arguments in (full | {"--0": "x" * 64_998}, full | {"--4": ""}):
        with pytest.raises(client.exceptions.InvalidInputException, match="at most 260000"):
            client.start_job_run(JobName=job, Arguments=arguments)
    run_id = client.start_job_run(JobName=job, Arguments=full)["JobRunId"]
    client.batch_stop_job_run(JobName=job, JobRunIds=[run_id])


def test_of_many_starts_at_once_one_wins(executor: Executor, aws: Aws, name: str) -> None:
    """Eight clients start a job of one concurrent run: one run starts, and can be stopped at once."""
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


def test_an_ended_run_can_be_retried_by_its_id(executor: Executor, aws: Aws, name: str) -> None:
    """`JobRunId` makes another attempt with the same arguments, once."""
    job = glue_job(executor, aws, name, "import sys; sys.exit('no: ' + sys.argv[-1])")
    client = executor.client("glue")
    first = client.start_job_run(JobName=job, Arguments={"--why": "because"})["JobRunId"]
    assert glue_end(executor, job, first)["ErrorMessage"] == "no: because"
    second = client.start_job_run(JobName=job, JobRunId=first)["JobRunId"]
    run = glue_end(executor, job, second)
    assert second == f"{first}_attempt_1"
    assert (run["Attempt"], run["PreviousRunId"], run["ErrorMessage"]) == (1, first, "no: because")
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


def test_a_script_acts_under_its_jobs_role(executor: Executor, aws: Aws, name: str) -> None:
    """The script's own boto3, with nothing configured, is the job's role and finds every endpoint."""
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


def test_a_missing_script_fails_the_run(executor: Executor, aws: Aws, name: str) -> None:
    """A script that is not on S3 is a failed run with the address in its message."""
    client = executor.client("glue")
    location = f"s3://{BUCKET}/nowhere/{name}.py"
    command = {"Name": "glueetl", "ScriptLocation": location}
    client.create_job(Name=name, Role=aws.glue_role, Command=command)
    run = glue_end(executor, name, client.start_job_run(JobName=name)["JobRunId"])
    assert run["JobRunState"] == "FAILED"
    assert location in run["ErrorMessage"]


@pytest.mark.parametrize("role", ["nobody", "sagemaker-jobs", "arn:aws:iam::111111111111:role/glue-jobs"])
@pytest.mark.usefixtures("aws")
def test_a_role_that_glue_cannot_assume_is_refused(executor: Executor, name: str, role: str) -> None:
    """A role that is absent, of another account or does not trust Glue is refused before anything runs."""
    client = executor.client("glue")
    command = {"Name": "glueetl", "ScriptLocation": f"s3://{BUCKET}/x.py"}
    with pytest.raises(client.exceptions.InvalidInputException, match="unable to assume"):
        client.create_job(Name=name, Role=role, Command=command)
    with pytest.raises(client.exceptions.EntityNotFoundException):
        client.get_job(JobName=name)


def test_definitions_are_kept_listed_and_deleted(executor: Executor, aws: Aws, name: str) -> None:
    """A definition can be made once, is listed page by page, and deleting it twice is no error."""
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
