"""Shows defects of dagster-aws's Glue client that this project's client does not have.

Each test asserts the defect in dagster-aws, so it fails once a release repairs it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest
from botocore.exceptions import ClientError
from dagster._core.errors import DagsterExecutionInterruptedError
from dagster._core.pipes import utils as dagster_pipes_utils
from dagster_aws.pipes import PipesCloudWatchMessageReader
from dagster_aws.pipes.clients import glue as dagster_aws_glue
from dagster_pipes import DagsterPipesError

from mlpipe_dagster.job_clients.job_errors import GlueJobError, JobDeadlineError
from mlpipe_dagster.loading.load_coordinator import complete_attempt
from mlpipe_dagster.resources.platform import Platform
from tests.dagster.job_clients.dagster_aws_client import dagster_aws_client, run_by_dagster_aws
from tests.dagster.job_steps import (
    FAILS,
    QUICK,
    REPORTS,
    SLEEPS,
    fault,
    in_step,
    log_lines,
    pipes_objects,
)
from tests.dagster.load_job_on_glue import Job, load_coordinator, load_script
from tests.dagster.small_model import SmallModel
from tests.stack_runs import PROJECT_ROOT, wait_until

pytestmark = [pytest.mark.stack, pytest.mark.slow]
LIVE = {"STARTING", "RUNNING", "WAITING"}


class EnoughError(Exception):
    """End a wait that would never end by itself."""


class Sleep:
    """Replace dagster-aws's `time`: record each pause, shorten it, and end the wait after some pauses.

    Args:
        most: How many pauses are allowed.
        then: Called after each pause.
    """

    def __init__(self, most: int, then: Callable[[], Any] = lambda: None) -> None:
        self.pauses: list[float] = []
        self._most = most
        self._then = then

    def __call__(self, seconds: float) -> None:
        """Record the pause, and sleep briefly."""
        self.pauses.append(seconds)
        if len(self.pauses) > self._most:
            raise EnoughError
        time.sleep(0.2)
        self._then()


@pytest.fixture
def job(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> Job:
    """Return the load job of this test's stage, and shorten dagster-aws's wait for missing messages."""
    monkeypatch.setattr(dagster_pipes_utils, "WAIT_FOR_LOGS_AFTER_EXECUTION_INTERVAL", 1)
    return Job(platform)


@pytest.fixture
def their_sleep(monkeypatch: pytest.MonkeyPatch) -> Callable[[Sleep], Sleep]:
    """Return a function that replaces the sleep of dagster-aws's client."""

    def use(sleep: Sleep) -> Sleep:
        monkeypatch.setattr(dagster_aws_glue, "time", SimpleNamespace(sleep=sleep))
        return sleep

    return use


def glue_fault(**what: Any) -> None:
    """Make Glue fail at its next call."""
    fault(os.environ["AWS_ENDPOINT_URL_GLUE"], service="glue", **what)


def stop_all(job: Job) -> None:
    """Stop all job runs that a client left running."""
    runs = job.glue.get_job_runs(JobName=job.name)["JobRuns"]
    live = [run["Id"] for run in runs if run["JobRunState"] in LIVE]
    if live:
        job.glue.batch_stop_job_run(JobName=job.name, JobRunIds=live)


def keys(platform: Platform) -> set[str]:
    """Return all keys of the bucket except those of code."""
    listed = platform.client("s3").list_objects_v2(Bucket=platform.settings.data_bucket)
    return {item["Key"] for item in listed.get("Contents", ()) if not item["Key"].startswith("code/")}


def test_dagster_aws_waits_forever_for_expired_job_run(
    job: Job, their_sleep: Callable[[Sleep], Sleep]
) -> None:
    """Its wait never ends; this project's client raises an error that names the state."""
    job.define(SLEEPS.format(seconds=60))
    their_sleep(Sleep(40))
    glue_fault(operation="StartJobRun", ends_as="EXPIRED")
    with pytest.raises(EnoughError):
        run_by_dagster_aws(job)
    assert job.runs() == ["EXPIRED"]
    glue_fault(operation="StartJobRun", ends_as="EXPIRED")
    with pytest.raises(GlueJobError, match="ended as EXPIRED"):
        job.run(job.client())


def test_dagster_aws_fails_step_on_one_throttled_query(
    job: Job, their_sleep: Callable[[Sleep], Sleep]
) -> None:
    """It leaves the job run running; this project's client repeats the query."""
    job.define(SLEEPS.format(seconds=20))
    # The first query follows the start directly; the second one begins the wait.
    their_sleep(Sleep(5, then=lambda: glue_fault(operation="GetJobRun", error="ThrottlingException")))
    with pytest.raises(ClientError, match="ThrottlingException"):
        run_by_dagster_aws(job)
    assert set(job.runs()) <= LIVE
    stop_all(job)
    job.define(SLEEPS.format(seconds=0))
    glue_fault(operation="GetJobRun", error="ThrottlingException")
    job.run(job.client())
    assert job.runs()[0] == "SUCCEEDED"


def test_dagster_aws_shows_no_log_of_a_failed_job(job: Job, capfd: pytest.CaptureFixture[str]) -> None:
    """Its CloudWatch reader shows no line of it; this project's error ends with the last lines."""
    job.define(FAILS)
    reader = PipesCloudWatchMessageReader(client=job.platform.client("logs"))
    with dg.DagsterInstance.ephemeral() as instance:
        with pytest.raises(RuntimeError, match="FAILED") as failed:
            run_by_dagster_aws(job, dagster_aws_client(job, message_reader=reader), instance=instance)
        shown = f"{failed.value}{log_lines(instance)}{capfd.readouterr()}"
    assert "what led to it" not in shown
    with pytest.raises(GlueJobError, match="what led to it"):
        job.run(job.client())


def test_dagster_aws_hides_cancellation_if_glue_refuses_to_stop(
    job: Job, their_sleep: Callable[[Sleep], Sleep]
) -> None:
    """It reads `errors` instead of `Errors`; this project's client warns and passes the cancellation on."""
    job.define(SLEEPS.format(seconds=60))

    def cancelled_too_late(_seconds: float = 0) -> None:
        # Glue refuses to stop a job run that is already stopped.
        stop_all(job)
        raise DagsterExecutionInterruptedError

    their_sleep(Sleep(5, then=cancelled_too_late))
    with pytest.raises(KeyError, match="errors"):
        run_by_dagster_aws(job)
    with dg.DagsterInstance.ephemeral() as instance:
        client = job.client(polling=replace(QUICK, sleep=cancelled_too_late))
        params = {"JobName": job.name}
        with pytest.raises(DagsterExecutionInterruptedError):
            in_step(lambda context: client.run(context=context, start_job_run_params=params), instance)
        assert any("was not stopped" in line for line in log_lines(instance))


def test_dagster_aws_changes_its_callers_arguments(job: Job) -> None:
    """The dict keeps one run's Pipes arguments for the next run; this project's client copies it."""
    job.define(REPORTS)
    given: dict[str, Any] = {"JobName": job.name, "Arguments": {"--own": "kept"}}
    before = deepcopy(given)
    run_by_dagster_aws(job, params=given)
    assert "--dagster-pipes-context" in given["Arguments"]
    ours = deepcopy(before)
    in_step(lambda context: job.client().run(context=context, start_job_run_params=ours, extras={"rows": 7}))
    assert ours == before


def test_dagster_aws_polls_every_five_seconds_without_deadline(
    job: Job, their_sleep: Callable[[Sleep], Sleep]
) -> None:
    """Its pauses never grow; this project's grow and vary, and the job run is stopped at the deadline."""
    job.define(SLEEPS.format(seconds=60))
    theirs = their_sleep(Sleep(30))
    with pytest.raises(EnoughError):
        run_by_dagster_aws(job)
    assert set(theirs.pauses) == {5}
    stop_all(job)
    moment, pauses = [0.0], list[float]()

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        moment[0] += seconds

    polling = replace(QUICK, longest_pause=15, deadline_seconds=100, clock=lambda: moment[0], sleep=sleep)
    with pytest.raises(JobDeadlineError, match="within 100 s"):
        job.run(job.client(polling=polling))
    assert len(set(pauses)) == len(pauses)
    assert pauses[0] < 1
    assert 7 < max(pauses) <= 15
    assert not LIVE & set(job.runs())


def test_dagster_aws_leaves_objects_on_s3(job: Job) -> None:
    """Contexts of failed jobs and all messages stay; this project's client deletes its own."""
    job.define(FAILS)
    with pytest.raises(RuntimeError, match="FAILED"):
        run_by_dagster_aws(job)
    contexts = {key for key in keys(job.platform) if key.endswith("context.json")}
    assert len(contexts) == 1
    job.define(REPORTS)
    run_by_dagster_aws(job)
    left = keys(job.platform)
    assert any(key.endswith("/1.json") for key in left)
    job.run(job.client())
    assert keys(job.platform) == left
    assert pipes_objects(job.platform) == []


def test_dagster_aws_invents_result_of_a_silent_job(job: Job) -> None:
    """A job without messages gets a materialization; this project's client raises an error."""
    job.define(SLEEPS.format(seconds=0))
    made_up = run_by_dagster_aws(job).get_materialize_result()
    assert isinstance(made_up, dg.MaterializeResult)
    with pytest.raises(DagsterPipesError, match="No materialization"):
        job.run(job.client()).get_materialize_result()


def killed_while_it_waits(job: Job, *arguments: str) -> None:
    """Run a step in its own process, and kill it once its job run exists."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.dagster.killable_step", *arguments],
        cwd=PROJECT_ROOT,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": ""},
    )
    try:
        wait_until(lambda: bool(job.runs()), seconds=120, what="the step has started a job run")
    finally:
        process.kill()
        process.wait(timeout=30)


def test_dagster_aws_starts_second_job_run_after_a_crash(
    job: Job, small_model: SmallModel, their_sleep: Callable[[Sleep], Sleep]
) -> None:
    """With this project's client the next run takes the first job run's result."""
    job.define(SLEEPS.format(seconds=60))
    killed_while_it_waits(job, "dagster-aws", job.name)
    their_sleep(Sleep(1))
    with pytest.raises(EnoughError):
        run_by_dagster_aws(job)
    assert len([state for state in job.runs() if state in LIVE]) == 2
    stop_all(job)
    before = len(job.runs())
    job.define(f"import time\ntime.sleep(3)\n{load_script('complete')}")
    batch_id = small_model.registered_batch()

    def new_runs() -> list[str]:
        return job.runs()[:-before]

    process = subprocess.Popen(
        [sys.executable, "-m", "tests.dagster.killable_step", "ours", job.name, small_model.name, batch_id],
        cwd=PROJECT_ROOT,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": ""},
    )
    wait_until(lambda: bool(new_runs()), seconds=120, what="the step has started a job run")
    process.kill()
    process.wait(timeout=30)
    coordinator, record = load_coordinator(job, small_model), small_model.record(batch_id)
    complete = in_step(lambda context: coordinator.run(context, record))
    assert complete_attempt(complete.record) == 1
    assert len(new_runs()) == 1
