"""The Glue client handles every end of a job run, API failures and progress messages."""

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
    """Return the load job of this test's stage."""
    return Job(platform)


def test_successful_job_run_reports_and_leaves_no_objects(job: Job) -> None:
    """Messages arrive, the caller's arguments are unchanged, and Pipes' objects are deleted."""
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
    # Two workers with one DPU each are billed for at least a minute.
    assert (told["worker_type"], told["workers"]) == ("G.1X", 2)
    assert told["dpu_seconds"] == 2 * max(60, invocation.job_run["ExecutionTime"])
    assert told["price_usd_per_dpu_hour"] == 0.5
    assert told["estimated_cost_usd"] == pytest.approx(told["dpu_seconds"] / 3600 * 0.5, abs=1e-6)


def test_failed_job_run_error_shows_its_log(job: Job) -> None:
    """The error names state, page and cause with the last log lines; Pipes' objects are deleted."""
    job.define(FAILS)
    with pytest.raises(
        GlueJobError, match=r"(?s)FAILED.*https://.*End of its log.*ValueError: no such batch"
    ):
        job.run(job.client())
    assert pipes_objects(job.platform) == []


def test_interrupted_step_stops_its_job_run(job: Job) -> None:
    """Cancelling the run in the UI must not leave a job run that costs money."""
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
def test_transient_api_errors_do_not_start_a_second_job_run(job: Job, trouble: dict[str, Any]) -> None:
    """Throttling, server errors, lost answers and a full queue only cost time."""
    job.define(SLEEPS.format(seconds=0))
    fault(os.environ["AWS_ENDPOINT_URL_GLUE"], service="glue", count=2, **trouble)
    job.run(job.client())
    assert job.runs() == ["SUCCEEDED"]


@pytest.mark.parametrize("state", ["EXPIRED", "ERROR", "TIMEOUT", "STOPPED"])
def test_every_final_state_ends_the_wait(job: Job, state: str) -> None:
    """A job run that expired in the queue fails the step at once, not at the deadline."""
    job.define(SLEEPS.format(seconds=60))
    fault(os.environ["AWS_ENDPOINT_URL_GLUE"], service="glue", operation="StartJobRun", ends_as=state)
    with pytest.raises(GlueJobError, match=f"ended as {state}"):
        job.run(job.client())
    assert job.runs() == [state]


def test_job_run_waits_for_a_free_slot(job: Job) -> None:
    """The start is retried while another job run takes the only slot."""
    job.define(SLEEPS.format(seconds=3), max_concurrent_runs=1)
    job.glue.start_job_run(JobName=job.name)
    job.run(job.client())
    assert job.runs() == ["SUCCEEDED", "SUCCEEDED"]


def test_wait_for_a_free_slot_ends(job: Job) -> None:
    """The error names the time limit and says what to check."""
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


def test_message_is_shown_while_the_job_runs(job: Job) -> None:
    """The job finishes only after the Dagster run has shown its progress."""
    job.define(WAITS_AFTER_REPORT.format(bucket=job.platform.settings.data_bucket))
    with dg.DagsterInstance.ephemeral() as instance:
        shown = FinishJobOnceShown(job.platform, instance, "The job reports progress: step=survey rows=5")
        client = job.client(polling=replace(QUICK, sleep=shown))
        params = {"JobName": job.name}
        in_step(lambda context: client.run(context=context, start_job_run_params=params), instance)
        assert shown.was_shown
        assert "The job reports its result: rows=7" in log_lines(instance)


def test_job_without_messages_has_no_result(job: Job) -> None:
    """A job run that succeeded without a report raises an error instead of a materialization."""
    job.define(SLEEPS.format(seconds=0))
    invocation = job.run(job.client())
    assert invocation.get_results() == ()
    with pytest.raises(DagsterPipesError, match="No materialization"):
        invocation.get_materialize_result()


def test_abandoned_job_run_is_adopted_with_its_messages(job: Job) -> None:
    """After a Glue outage the next wait shows its messages and deletes Pipes' objects."""
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
def test_cancelled_wait_stops_only_own_job_run(job: Job, is_ours: bool, states: set[str]) -> None:
    """Another run's job run continues; one left by an earlier attempt of the same run is stopped."""
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
