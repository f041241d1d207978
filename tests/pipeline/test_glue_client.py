"""The Glue client and the load that uses it, on the job executor and a real registry."""

from __future__ import annotations

import os
from copy import deepcopy
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from infra import resource_definitions
from mlpipe_dagster.batch_loading import BatchLoad, BatchRefusedError, LoadFailedError
from mlpipe_dagster.job_clients.errors import GlueJobError, JobApiError, JobNotStartedError
from mlpipe_dagster.job_clients.glue import GlueInvocation, PipesGlueJobClient
from mlpipe_dagster.resources.platform import Platform
from prediction_contract.load_report import LoadReport
from prediction_contract.registry.load_rules import claim_load, confirm_claim
from prediction_contract.registry.records import LoadState
from tests.pipeline.job_steps import (
    FAILS,
    QUICK,
    REPORTS,
    SLEEPS,
    ensure_roles,
    fault,
    in_step,
    pipes,
    pipes_objects,
    unrepeating,
    upload,
)
from tests.pipeline.small_model import TOKEN, SmallModel, now

pytestmark = pytest.mark.stack
LOAD_SCRIPT = (Path(__file__).parent / "load_job.py").read_text(encoding="utf-8")


class Job:
    """The load job of a test's own stage, with a script of the test's choice."""

    def __init__(self, platform: Platform) -> None:
        ensure_roles(platform)
        self.platform = platform
        self.glue = unrepeating(platform, "glue")
        self.name = platform.settings.deployment.load_job

    def define(self, script: str) -> None:
        """Let the job run a script from now on."""
        definition = resource_definitions.load_job(self.platform.settings.deployment)
        update = replace(definition, script_location=upload(self.platform, script)).job_update()
        try:
            self.glue.create_job(Name=self.name, **update)
        except self.glue.exceptions.AlreadyExistsException:
            self.glue.update_job(JobName=self.name, JobUpdate=update)

    def client(self, glue: Any = None, **changes: Any) -> PipesGlueJobClient:
        """Return a client of the job."""
        return PipesGlueJobClient(client=glue or self.glue, **{**pipes(self.platform), **changes})

    def run(self, client: PipesGlueJobClient, **params: Any) -> GlueInvocation:
        """Run the job inside a Dagster step."""
        return in_step(
            lambda context: client.run(
                context=context,
                start_job_run_params={"JobName": self.name, **params},
                extras={"rows": 7},
                start_within_seconds=60,
            )
        )

    def runs(self) -> list[str]:
        """Return the states of all job runs there were."""
        return [run["JobRunState"] for run in self.glue.get_job_runs(JobName=self.name)["JobRuns"]]


@pytest.fixture
def job(platform: Platform) -> Job:
    """A job that no other test has."""
    return Job(platform)


def test_a_job_run_that_succeeds_reports_and_leaves_nothing_behind(job: Job) -> None:
    """Messages arrive, the caller's arguments stay as they were, and Pipes' objects are gone."""
    job.define(REPORTS)
    arguments = {"--own": "kept"}
    before = deepcopy(arguments)
    invocation = job.run(job.client(), Arguments=arguments)
    assert invocation.get_custom_messages() == ({"rows": 7},)
    assert arguments == before
    assert pipes_objects(job.platform) == []


def test_a_failing_job_run_shows_its_own_log(job: Job) -> None:
    """The error names state, cause and the log's last lines."""
    job.define(FAILS)
    with pytest.raises(GlueJobError, match=r"(?s)FAILED.*ValueError: no such batch"):
        job.run(job.client())


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


@pytest.mark.parametrize(
    "trouble",
    [
        {"operation": "GetJobRun", "error": "ThrottlingException"},
        {"operation": "StartJobRun", "error": "ConcurrentRunsExceededException"},
    ],
)
def test_passing_trouble_of_the_api_is_survived(job: Job, trouble: dict[str, Any]) -> None:
    """A throttled look and a queue that is full cost time and nothing else: there is one job run."""
    job.define(SLEEPS.format(seconds=0))
    fault(os.environ["AWS_ENDPOINT_URL_GLUE"], service="glue", count=2, **trouble)
    job.run(job.client())
    assert job.runs() == ["SUCCEEDED"]


class Ending:
    """A Glue client whose job runs end in a state that the job executor never reaches."""

    def __init__(self, glue: Any, state: str) -> None:
        self._glue = glue
        self._state = state

    def __getattr__(self, name: str) -> Any:
        """Pass everything else on."""
        return getattr(self._glue, name)

    def get_job_run(self, **arguments: Any) -> dict[str, Any]:
        """Return the job run in that state."""
        run = self._glue.get_job_run(**arguments)["JobRun"]
        return {"JobRun": {**run, "JobRunState": self._state}}


@pytest.mark.parametrize("state", ["EXPIRED", "ERROR", "TIMEOUT", "STOPPED"])
def test_every_state_that_stays_is_an_end(job: Job, state: str) -> None:
    """Not even a job run that expired in the queue is waited for until the deadline."""
    job.define(SLEEPS.format(seconds=0))
    with pytest.raises(GlueJobError, match=state):
        job.run(job.client(Ending(job.glue, state)))


def loaded(job: Job, small: SmallModel, batch_id: str, *, again: bool = False) -> LoadReport:
    """Load a batch inside a Dagster step, and return the load's report."""
    platform = job.platform
    loading = BatchLoad(
        declaration=small.declaration,
        settings=platform.settings,
        bucket=platform.bucket,
        registry=platform.registry,
        glue=job.client(),
    )
    return in_step(lambda context: loading.run(context, batch_id, again=again))[0]


def load_script(wanted: str) -> str:
    """Return the script of a load that ends as wanted."""
    return f'{LOAD_SCRIPT}\n\nmain("{wanted}")\n'


def test_a_load_is_claimed_and_started_once(job: Job, small_model: SmallModel) -> None:
    """Its report is read from S3; a second run of the same batch finds it loaded and starts nothing."""
    job.define(load_script("complete"))
    batch_id = small_model.noticed_batch()
    report = loaded(job, small_model, batch_id)
    assert (report.attempt, report.batch_id) == (1, batch_id)
    assert small_model.record(batch_id).load_state == LoadState.LOADED
    assert loaded(job, small_model, batch_id).job_run_id == report.job_run_id
    assert job.runs() == ["SUCCEEDED"]


def test_a_loaded_batch_is_loaded_again_if_asked(job: Job, small_model: SmallModel) -> None:
    """A new attempt renews the life of the items."""
    job.define(load_script("complete"))
    batch_id = small_model.noticed_batch()
    loaded(job, small_model, batch_id)
    assert loaded(job, small_model, batch_id, again=True).attempt == 2


def test_a_refused_batch_is_an_error_with_the_reason(job: Job, small_model: SmallModel) -> None:
    """What the job run found wrong is what the Dagster run says, now and at every later try."""
    job.define(load_script("refuse"))
    batch_id = small_model.noticed_batch()
    for _ in range(2):
        with pytest.raises(BatchRefusedError, match="part missing"):
            loaded(job, small_model, batch_id)
    assert job.runs() == ["FAILED"]


@pytest.mark.parametrize("wanted", ["crash", "release"])
def test_a_load_that_failed_is_claimed_again(job: Job, small_model: SmallModel, wanted: str) -> None:
    """Whether it gave up its claim or died with it, the next run starts the next attempt."""
    batch_id = small_model.noticed_batch()
    job.define(load_script(wanted))
    with pytest.raises(GlueJobError):
        loaded(job, small_model, batch_id)
    assert small_model.record(batch_id).claim_token is None
    job.define(load_script("complete"))
    assert loaded(job, small_model, batch_id).attempt == 2


@pytest.mark.parametrize("body", [FAILS, SLEEPS.format(seconds=0)])
def test_a_job_run_that_never_took_its_claim_does_not_block_the_batch(
    job: Job, small_model: SmallModel, body: str
) -> None:
    """Nobody waits for the claim to lapse whose job run is known to have ended."""
    batch_id = small_model.noticed_batch()
    job.define(body)
    with pytest.raises((GlueJobError, LoadFailedError)):
        loaded(job, small_model, batch_id)
    job.define(load_script("complete"))
    assert loaded(job, small_model, batch_id).attempt == 2


def test_a_job_run_that_glue_refuses_to_start_leaves_no_claim(job: Job, small_model: SmallModel) -> None:
    """The error is Glue's own, and the batch loads as soon as its cause is gone."""
    batch_id = small_model.noticed_batch()
    with pytest.raises(JobNotStartedError, match="EntityNotFound"):
        loaded(job, small_model, batch_id)
    job.define(load_script("complete"))
    assert loaded(job, small_model, batch_id).attempt == 2


def test_a_start_whose_answer_was_lost_keeps_its_claim(job: Job, small_model: SmallModel) -> None:
    """A job run may be under way: the next try takes its result and starts none beside it."""
    job.define(load_script("complete"))
    batch_id = small_model.noticed_batch()
    fault(os.environ["AWS_ENDPOINT_URL_GLUE"], service="glue", operation="StartJobRun", lost_answer=True)
    with pytest.raises(JobApiError, match="did not say"):
        loaded(job, small_model, batch_id)
    assert loaded(job, small_model, batch_id).attempt == 1
    assert len(job.runs()) == 1


@pytest.mark.parametrize("is_known", [True, False])
def test_a_dead_job_run_of_a_crashed_run_is_replaced(
    job: Job, small_model: SmallModel, is_known: bool
) -> None:
    """Its claim stands confirmed; whether Glue knows how it ended or forgot it, the next attempt starts."""
    job.define(FAILS)
    batch_id = small_model.noticed_batch()
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


def test_a_job_run_that_a_crashed_run_left_behind_is_waited_for(job: Job, small_model: SmallModel) -> None:
    """The successor of a killed run takes the result of its job run and starts none of its own."""
    body = f"import time\ntime.sleep(3)\n{load_script('complete')}"
    job.define(body)
    batch_id = small_model.noticed_batch()
    record = small_model.record(batch_id)
    registry = job.platform.registry
    claim = claim_load(record, token=TOKEN, confirm_by=now() + timedelta(minutes=5), now=now())
    registry.carry_out(lambda: claim)
    loading = BatchLoad(
        declaration=small_model.declaration,
        settings=job.platform.settings,
        bucket=job.platform.bucket,
        registry=registry,
        glue=job.client(),
    )
    arguments = loading._arguments(small_model.record(batch_id)).glue_arguments()
    run_id = job.glue.start_job_run(JobName=job.name, Arguments=arguments)["JobRunId"]
    assert loaded(job, small_model, batch_id).job_run_id == run_id
    # The registry may know that the load is complete before Glue says that its job run is.
    assert len(job.runs()) == 1
