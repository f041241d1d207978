"""A batch is loaded by exactly one Glue job run, also after failures, crashes and cancellations."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import timedelta
from typing import Any

import dagster as dg
import pytest

from mlpipe_dagster.job_clients.job_errors import GlueJobError, JobApiError, JobNotStartedError
from mlpipe_dagster.loading.load_coordinator import (
    BatchNotLoadableError,
    LoadIncompleteError,
    complete_attempt,
    load_report,
)
from mlpipe_dagster.resources.platform import Platform
from prediction_contract.manifests.load_report import LoadReport
from prediction_contract.registry.load_rules import claim_load, confirm_claim
from prediction_contract.registry.records import LoadState
from tests.dagster.job_steps import FAILS, QUICK, SLEEPS, fault, in_step
from tests.dagster.load_job_on_glue import Job, load_coordinator, load_script
from tests.dagster.small_model import TOKEN, SmallModel, declaration, now

pytestmark = pytest.mark.stack


@pytest.fixture
def job(platform: Platform) -> Job:
    """Return the load job of this test's stage."""
    return Job(platform)


def loaded(job: Job, small: SmallModel, batch_id: str, *, above_attempt: int = 0) -> LoadReport:
    """Load a batch inside a Dagster step, and return the load's report."""
    coordinator, record = load_coordinator(job, small), small.record(batch_id)
    complete = in_step(lambda context: coordinator.run(context, record, above_attempt=above_attempt))
    attempt = complete_attempt(complete.record)
    return load_report(small.platform.bucket, small.name, batch_id, attempt)


def test_load_is_claimed_and_started_once(job: Job, small_model: SmallModel) -> None:
    """The load report is read from S3; a second run finds the batch loaded and starts no job run."""
    job.define(load_script("complete"))
    batch_id = small_model.registered_batch()
    report = loaded(job, small_model, batch_id)
    assert (report.attempt, report.batch_id) == (1, batch_id)
    assert small_model.record(batch_id).load_state == LoadState.LOADED
    assert loaded(job, small_model, batch_id).job_run_id == report.job_run_id
    assert job.runs() == ["SUCCEEDED"]


def test_job_arguments_follow_declaration(job: Job, small_model: SmallModel) -> None:
    """The job run gets the declared write cap, verification, wait and quarantine limits."""
    job.define(load_script("complete"))
    quality = {"verify": "scan", "quarantine_rows": 3, "quarantine_rate": "0.5"}
    declared = declaration(
        small_model.name, quality=quality, loading={"max_write_units_per_second": 500, "wait_minutes": 3}
    )
    loaded(job, replace(small_model, declaration=declared), small_model.registered_batch())
    (run,) = job.glue.get_job_runs(JobName=job.name)["JobRuns"]
    told = {
        "verify": "scan",
        "max_write_units_per_second": "500",
        "quarantine_rows": "3",
        "wait_minutes": "3",
    }
    assert {name: run["Arguments"][f"--{name}"] for name in told} == told
    assert run["Arguments"]["--quarantine_rate"] == "0.5"


def test_requested_reload_makes_one_new_attempt(job: Job, small_model: SmallModel) -> None:
    """A reload starts the next attempt; repeating the request takes that attempt's result."""
    job.define(load_script("complete"))
    batch_id = small_model.registered_batch()
    loaded(job, small_model, batch_id)
    for _ in range(2):
        assert loaded(job, small_model, batch_id, above_attempt=1).attempt == 2
    assert len(job.runs()) == 2


def test_refused_batch_fails_with_reason(job: Job, small_model: SmallModel) -> None:
    """The run fails with the reason that the job run found; a retry fails alike and starts no job run."""
    job.define(load_script("refuse"))
    batch_id = small_model.registered_batch()
    for _ in range(2):
        with pytest.raises(BatchNotLoadableError, match="part missing"):
            loaded(job, small_model, batch_id)
    assert job.runs() == ["FAILED"]


@pytest.mark.parametrize("wanted", ["crash", "release"])
def test_failed_load_is_claimed_again(job: Job, small_model: SmallModel, wanted: str) -> None:
    """The next run starts the next attempt after the job run released its claim or crashed with it."""
    batch_id = small_model.registered_batch()
    job.define(load_script(wanted))
    with pytest.raises(GlueJobError):
        loaded(job, small_model, batch_id)
    assert small_model.record(batch_id).claim_token is None
    job.define(load_script("complete"))
    assert loaded(job, small_model, batch_id).attempt == 2


@pytest.mark.parametrize("body", [FAILS, SLEEPS.format(seconds=0)])
def test_job_run_that_never_confirmed_its_claim_does_not_block_batch(
    job: Job, small_model: SmallModel, body: str
) -> None:
    """The next attempt starts at once, because the job run is known to have ended."""
    batch_id = small_model.registered_batch()
    job.define(body)
    with pytest.raises((GlueJobError, LoadIncompleteError)):
        loaded(job, small_model, batch_id)
    job.define(load_script("complete"))
    assert loaded(job, small_model, batch_id).attempt == 2


def test_job_run_refused_by_glue_leaves_no_claim(job: Job, small_model: SmallModel) -> None:
    """The run fails with Glue's error, and the batch can be loaded once the job exists."""
    batch_id = small_model.registered_batch()
    with pytest.raises(JobNotStartedError, match="EntityNotFound"):
        loaded(job, small_model, batch_id)
    job.define(load_script("complete"))
    assert loaded(job, small_model, batch_id).attempt == 2


def test_start_with_lost_answer_keeps_its_claim(job: Job, small_model: SmallModel) -> None:
    """A job run may have started, so the retry takes its result and does not start another."""
    job.define(load_script("complete"))
    batch_id = small_model.registered_batch()
    fault(os.environ["AWS_ENDPOINT_URL_GLUE"], service="glue", operation="StartJobRun", lost_answer=True)
    with pytest.raises(JobApiError, match="It is unknown whether Glue started"):
        loaded(job, small_model, batch_id)
    assert loaded(job, small_model, batch_id).attempt == 1
    assert len(job.runs()) == 1


@pytest.mark.parametrize("is_known", [True, False])
def test_dead_job_run_of_crashed_run_is_replaced(job: Job, small_model: SmallModel, is_known: bool) -> None:
    """The next attempt starts whether Glue reports the job run as failed or no longer knows it."""
    job.define(FAILS)
    batch_id = small_model.registered_batch()
    run_id = job.glue.start_job_run(JobName=job.name)["JobRunId"] if is_known else f"jr_{'0' * 64}"
    later = now() + timedelta(minutes=5)
    for step in (
        lambda: claim_load(small_model.record(batch_id), token=TOKEN, confirm_by=later, now=now()),
        lambda: confirm_claim(small_model.record(batch_id), token=TOKEN, job_run_id=run_id),
    ):
        job.platform.registry.carry_out(step)
    if is_known:
        with pytest.raises(GlueJobError):
            job.run(job.client())
    job.define(load_script("complete"))
    assert loaded(job, small_model, batch_id).attempt == 2


def test_job_run_left_by_crashed_run_is_awaited(job: Job, small_model: SmallModel) -> None:
    """The run after a crash takes the result of that job run and does not start another."""
    body = f"import time\ntime.sleep(3)\n{load_script('complete')}"
    job.define(body)
    batch_id = small_model.registered_batch()
    record = small_model.record(batch_id)
    registry = job.platform.registry
    claim = claim_load(record, token=TOKEN, confirm_by=now() + timedelta(minutes=5), now=now())
    registry.carry_out(lambda: claim)
    loading = load_coordinator(job, small_model)
    arguments = loading._arguments(small_model.record(batch_id), "run").glue_arguments()
    run_id = job.glue.start_job_run(JobName=job.name, Arguments=arguments)["JobRunId"]
    assert loaded(job, small_model, batch_id).job_run_id == run_id
    # The registry may know that the load is complete before Glue says that its job run is.
    assert len(job.runs()) == 1


def interrupted_once_started(job: Job) -> Any:
    """Return a sleep function that interrupts the run as soon as a job run exists."""

    def sleep(seconds: float) -> None:
        QUICK.sleep(seconds)
        if job.runs():
            raise KeyboardInterrupt

    return sleep


def test_load_cancelled_before_confirmation_can_be_claimed_at_once(job: Job, small_model: SmallModel) -> None:
    """The job run is stopped and its claim released, so the next attempt does not wait."""
    job.define(SLEEPS.format(seconds=60))
    batch_id = small_model.registered_batch()
    polling = replace(QUICK, sleep=interrupted_once_started(job))
    coordinator = load_coordinator(job, small_model, polling=polling)
    record = small_model.record(batch_id)
    with pytest.raises((KeyboardInterrupt, dg.DagsterExecutionInterruptedError)):
        in_step(lambda context: coordinator.run(context, record))
    assert small_model.record(batch_id).claim_token is None
    assert set(job.runs()) <= {"STOPPING", "STOPPED"}
    job.define(load_script("complete"))
    assert loaded(job, small_model, batch_id).attempt == 2


def test_cancelled_run_leaves_claim_and_job_run_of_another_run(job: Job, small_model: SmallModel) -> None:
    """A cancelled run that waited for another run's load does not disturb that load."""
    job.define(f"import time\ntime.sleep(4)\n{load_script('complete')}")
    batch_id = small_model.registered_batch()
    claim = claim_load(
        small_model.record(batch_id), token=TOKEN, confirm_by=now() + timedelta(minutes=5), now=now()
    )
    job.platform.registry.carry_out(lambda: claim)
    arguments = (
        load_coordinator(job, small_model)._arguments(small_model.record(batch_id), "run").glue_arguments()
    )
    job.glue.start_job_run(JobName=job.name, Arguments=arguments)
    polling = replace(QUICK, sleep=interrupted_once_started(job))
    coordinator = load_coordinator(job, small_model, polling=polling)
    record = small_model.record(batch_id)
    with pytest.raises((KeyboardInterrupt, dg.DagsterExecutionInterruptedError)):
        in_step(lambda context: coordinator.run(context, record))
    assert small_model.record(batch_id).claim_token == TOKEN
    assert loaded(job, small_model, batch_id).attempt == 1
    assert len(job.runs()) == 1


def test_finished_load_still_shows_its_job_run(job: Job, small_model: SmallModel) -> None:
    """A run that finds the batch loaded shows the id and the cost of the job run that loaded it."""
    job.define(load_script("complete"))
    batch_id = small_model.registered_batch()
    report = loaded(job, small_model, batch_id)
    record = small_model.record(batch_id)
    coordinator = load_coordinator(job, small_model)
    again = in_step(lambda context: coordinator.run(context, record))
    metadata = again.job_metadata or coordinator.job_metadata(report.job_run_id)
    assert metadata["Glue job run"] == report.job_run_id
    assert metadata["estimated_cost_usd"] > 0
