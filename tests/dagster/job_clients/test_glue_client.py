"""The Glue client on the job executor: every end, every trouble of the API, what a run shows meanwhile."""

from __future__ import annotations

import os
from copy import deepcopy
from dataclasses import replace
from typing import Any

import dagster as dg
import pytest
from dagster_pipes import DagsterPipesError

from mlpipe_dagster.job_clients.job_errors import GlueJobError, JobApiError, JobNotStartedError
from mlpipe_dagster.resources.platform import Platform
from tests.dagster.job_steps import (
    FAILS,
    QUICK,
    REPORTS,
    SLEEPS,
    WAITS_AFTER_REPORT,
    FinishJobOnceShown,
    fault,
    in_step,
    let_job_finish,
    log_lines,
    pipes_objects,
)
from tests.dagster.load_job_on_glue import Job

pytestmark = pytest.mark.stack


@pytest.fixture
def job(platform: Platform) -> Job:
    """A job that no other test has."""
    return Job(platform)


def test_a_job_run_that_succeeds_reports_and_leaves_nothing_behind(job: Job) -> None:
    """Messages arrive, the caller's arguments stay as they were, and Pipes' objects are gone."""
    job.define(REPORTS)
    arguments = {"--own": "kept"}
    before = deepcopy(arguments)
    invocation = job.run(job.client(dpu_hour_usd=0.5), Arguments=arguments)
    assert invocation.get_custom_messages() == ({"rows": 7},)
    assert arguments == before
    assert pipes_objects(job.platform) == []
    told: dict[str, Any] = {name: value.value for name, value in invocation.metadata.items()}
    assert invocation.job_run_id in str(told["job_page"])
    assert invocation.job_run_id in str(told["log_page"])
    # Two workers of one DPU each, for a minute at least.
    assert (told["worker_type"], told["workers"]) == ("G.1X", 2)
    assert told["dpu_seconds"] == 2 * max(60, invocation.job_run["ExecutionTime"])
    assert told["price_usd_per_dpu_hour"] == 0.5
    assert told["estimated_cost_usd"] == pytest.approx(told["dpu_seconds"] / 3600 * 0.5, abs=1e-6)


def test_a_failing_job_run_shows_its_own_log(job: Job) -> None:
    """The error names state, cause, the job run's page and the log's last lines; Pipes leaves nothing."""
    job.define(FAILS)
    with pytest.raises(
        GlueJobError, match=r"(?s)FAILED.*https://.*End of its log.*ValueError: no such batch"
    ):
        job.run(job.client())
    assert pipes_objects(job.platform) == []


def test_an_interrupted_step_stops_its_job_run(job: Job) -> None:
    """Cancelling the run in the UI ends the job run too."""
    looks = iter(range(1000))

    def interrupted(_seconds: float) -> None:
        if next(looks) >= 3:
            raise KeyboardInterrupt

    job.define(SLEEPS.format(seconds=60))
    with pytest.raises((KeyboardInterrupt, dg.DagsterExecutionInterruptedError)):
        job.run(job.client(polling=replace(QUICK, sleep=interrupted)))
    assert set(job.runs()) <= {"STOPPING", "STOPPED"}
    assert pipes_objects(job.platform) == []


@pytest.mark.parametrize(
    "trouble",
    [
        {"operation": "GetJobRun", "error": "ThrottlingException"},
        {"operation": "GetJobRun", "error": "InternalServiceException"},
        {"operation": "GetJobRun", "lost_answer": True},
        {"operation": "StartJobRun", "error": "ThrottlingException"},
        {"operation": "StartJobRun", "error": "ConcurrentRunsExceededException"},
    ],
)
def test_passing_trouble_of_the_api_is_survived(job: Job, trouble: dict[str, Any]) -> None:
    """A throttled look and a queue that is full cost time and nothing else: there is one job run."""
    job.define(SLEEPS.format(seconds=0))
    fault(os.environ["AWS_ENDPOINT_URL_GLUE"], service="glue", count=2, **trouble)
    job.run(job.client())
    assert job.runs() == ["SUCCEEDED"]


@pytest.mark.parametrize("state", ["EXPIRED", "ERROR", "TIMEOUT", "STOPPED"])
def test_every_state_that_stays_is_an_end(job: Job, state: str) -> None:
    """Not even a job run that expired in the queue is waited for until the deadline."""
    job.define(SLEEPS.format(seconds=60))
    fault(os.environ["AWS_ENDPOINT_URL_GLUE"], service="glue", operation="StartJobRun", ends_as=state)
    with pytest.raises(GlueJobError, match=f"ended as {state}"):
        job.run(job.client())
    assert job.runs() == [state]


def test_a_job_run_waits_for_room(job: Job) -> None:
    """While the one place is taken the start is tried again; then there is one job run more, and no other."""
    job.define(SLEEPS.format(seconds=3), max_concurrent_runs=1)
    job.glue.start_job_run(JobName=job.name)
    job.run(job.client())
    assert job.runs() == ["SUCCEEDED", "SUCCEEDED"]


def test_the_wait_for_room_ends(job: Job) -> None:
    """A place that nobody gives up is waited for until a deadline, and the error says what to look at."""
    job.define(SLEEPS.format(seconds=60), max_concurrent_runs=1)
    taken = job.glue.start_job_run(JobName=job.name)["JobRunId"]
    with pytest.raises(JobNotStartedError, match=r"did not end within 1 s.*Check which job runs"):
        in_step(
            lambda context: job.client().run(
                context=context, start_job_run_params={"JobName": job.name}, start_within_seconds=1
            )
        )
    assert len(job.runs()) == 1
    job.glue.batch_stop_job_run(JobName=job.name, JobRunIds=[taken])


def test_what_a_running_job_tells_is_shown_while_it_runs(job: Job) -> None:
    """The job ends only after the Dagster run has shown its message."""
    job.define(WAITS_AFTER_REPORT.format(bucket=job.platform.settings.data_bucket))
    with dg.DagsterInstance.ephemeral() as instance:
        shown = FinishJobOnceShown(job.platform, instance, "The job reports progress: step=survey rows=5")
        client = job.client(polling=replace(QUICK, sleep=shown))
        params = {"JobName": job.name}
        in_step(lambda context: client.run(context=context, start_job_run_params=params), instance)
        assert shown.was_shown
        assert "The job reports its result: rows=7" in log_lines(instance)


def test_a_job_whose_messages_got_lost_does_not_turn_green(job: Job) -> None:
    """What a job has not reported is not made up, although the job run succeeded."""
    job.define(SLEEPS.format(seconds=0))
    invocation = job.run(job.client())
    assert invocation.get_results() == ()
    with pytest.raises(DagsterPipesError, match="No materialization"):
        invocation.get_materialize_result()


def test_a_job_run_that_was_left_alone_is_adopted_with_its_messages(job: Job) -> None:
    """If Glue does not answer, the job goes on; who waits for it next shows what it tells, and tidies up."""
    job.define(WAITS_AFTER_REPORT.format(bucket=job.platform.settings.data_bucket))
    fault(
        os.environ["AWS_ENDPOINT_URL_GLUE"],
        service="glue",
        operation="GetJobRun",
        error="InternalServiceException",
        count=4,
    )
    with pytest.raises(JobApiError, match="Querying Glue job"):
        job.run(job.client(polling=replace(QUICK, patience_seconds=0)))
    assert len(pipes_objects(job.platform)) >= 1
    (run,) = job.glue.get_job_runs(JobName=job.name)["JobRuns"]
    let_job_finish(job.platform)
    with dg.DagsterInstance.ephemeral() as instance:
        ended = in_step(
            lambda context: job.client().wait(
                context=context, job_name=job.name, job_run_id=run["Id"], is_ours=True
            ),
            instance,
        )
        assert "The job reports its result: rows=7" in log_lines(instance)
    assert ended["JobRunState"] == "SUCCEEDED"
    assert pipes_objects(job.platform) == []


@pytest.mark.parametrize(
    ("is_ours", "states"), [(True, {"STOPPING", "STOPPED"}), (False, {"RUNNING", "STARTING"})]
)
def test_cancelling_a_wait_stops_only_what_is_ours(job: Job, is_ours: bool, states: set[str]) -> None:
    """A job run of somebody else's run goes on; one that a crashed try of ours has left is stopped."""
    job.define(SLEEPS.format(seconds=60))
    run_id = job.glue.start_job_run(JobName=job.name)["JobRunId"]

    def interrupted(_seconds: float) -> None:
        raise KeyboardInterrupt

    client = job.client(polling=replace(QUICK, sleep=interrupted))
    with pytest.raises((KeyboardInterrupt, dg.DagsterExecutionInterruptedError)):
        in_step(
            lambda context: client.wait(
                context=context, job_name=job.name, job_run_id=run_id, is_ours=is_ours
            )
        )
    assert set(job.runs()) <= states
    if not is_ours:
        job.glue.batch_stop_job_run(JobName=job.name, JobRunIds=[run_id])
