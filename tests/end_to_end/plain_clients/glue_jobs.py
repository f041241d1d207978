"""Glue with only boto3 and the environment: job runs that succeed, fail, are stopped, and time out.

`glue_jobs.py` shows the first three; `glue_jobs.py time-out` the last, which takes a minute, Glue's shortest.
"""

from __future__ import annotations

import os
import sys
import uuid
from typing import Any

import boto3
from job_watching import FAILS, SLEEPS, SUCCEEDS, ended, log_lines, upload, wait_for, wait_for_line

OUTPUT, ERROR = "/aws-glue/jobs/output", "/aws-glue/jobs/error"
FINAL = {"SUCCEEDED", "FAILED", "TIMEOUT", "STOPPED", "ERROR"}


def start(glue: Any, script: str, **arguments: Any) -> tuple[str, str]:
    """Define and start a job with this script; return its name and the run's id."""
    name = f"plain-{uuid.uuid4().hex}"
    # The role of the stack's own job, whose name is in `.env`.
    role = glue.get_job(JobName=os.environ["MLPIPE_LOAD_JOB"])["Job"]["Role"]
    command = {"Name": "glueetl", "ScriptLocation": upload(script), "PythonVersion": "3"}
    glue.create_job(Name=name, Role=role, Command=command, GlueVersion="5.1")
    return name, glue.start_job_run(JobName=name, **arguments)["JobRunId"]


def end_of(glue: Any, name: str, run_id: str) -> dict[str, Any]:
    """Wait for a run's end and return it."""

    def look() -> dict[str, Any] | None:
        return ended("JobRunState", FINAL, glue.get_job_run(JobName=name, RunId=run_id)["JobRun"])

    return wait_for(look, f"the end of {run_id}")


def succeed_fail_and_stop(glue: Any) -> None:
    """Check the state and the logs of a successful, a failed and a stopped run."""
    good = start(glue, SUCCEEDS, Arguments={"--model": "flight_delay"})
    bad = start(glue, FAILS)
    stopped = start(glue, SLEEPS)

    run = end_of(glue, *good)
    assert run["JobRunState"] == "SUCCEEDED", run
    (line,) = log_lines(OUTPUT, good[1])
    assert f"--JOB_NAME {good[0]} --JOB_RUN_ID {good[1]}" in line, line
    assert line.endswith("--model flight_delay"), line

    run = end_of(glue, *bad)
    assert (run["JobRunState"], run["ErrorMessage"]) == ("FAILED", "ValueError: bad rows"), run
    assert log_lines(ERROR, bad[1])[-1] == "ValueError: bad rows"

    wait_for_line(OUTPUT, stopped[1], "asleep")
    assert glue.get_job_run(JobName=stopped[0], RunId=stopped[1])["JobRun"]["JobRunState"] == "RUNNING"
    answer = glue.batch_stop_job_run(JobName=stopped[0], JobRunIds=[stopped[1]])
    assert [one["JobRunId"] for one in answer["SuccessfulSubmissions"]] == [stopped[1]], answer
    assert end_of(glue, *stopped)["JobRunState"] == "STOPPED"


def time_out(glue: Any) -> None:
    """Check that a run beyond its timeout ends as TIMEOUT and keeps its log."""
    name, run_id = start(glue, SLEEPS, Timeout=1)
    run = end_of(glue, name, run_id)
    assert run["JobRunState"] == "TIMEOUT", run
    assert log_lines(OUTPUT, run_id) == ["asleep"]


if __name__ == "__main__":
    client = boto3.client("glue")
    if sys.argv[1:] == ["time-out"]:
        time_out(client)
    else:
        succeed_fail_and_stop(client)
