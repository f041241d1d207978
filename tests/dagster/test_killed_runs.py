"""A run that follows a killed worker adopts its job, starts no second one and has the same result.

Workers are real `dagster job execute` processes, and jobs run the real scripts. Each job waits at a gate
until the following run waits for it, so the order of events does not depend on speed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import pytest

from mlpipe_dagster.pipeline.asset_names import load_job_name, score_job_name, train_job_name
from prediction_contract.manifests.manifest import Manifest
from prediction_contract.registry.records import LoadState, ReleaseState
from tests.dagster.gated_definitions import FEATURES_JOB, FIRST_PREPARED, LAST_PREPARED, MODEL, SCORED
from tests.dagster.gated_jobs import WAIT_SECONDS, GatedPlatform, Worker
from tests.stack_runs import StackRun, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.stack, pytest.mark.timeout(900)]
DAYS = {"asset_partition_range_start": FIRST_PREPARED, "asset_partition_range_end": LAST_PREPARED}


@dataclass(frozen=True)
class KilledRun:
    """The jobs seen around a run that was killed or cancelled.

    Attributes:
        beside: The step's jobs with their states while the following worker waited.
        after: The same jobs at the end.
        successor: The worker that followed the killed one, or the cancelled worker itself.
    """

    beside: dict[str, str]
    after: dict[str, str]
    successor: Worker


def kill_and_follow(
    platform: GatedPlatform,
    job: str,
    gate: str,
    jobs: Callable[[], dict[str, str]],
    *,
    waits: str,
    tags: Mapping[str, str] = MappingProxyType({}),
) -> KilledRun:
    """Kill a worker while its job waits at a gate, then let the worker that follows it succeed."""
    killed = platform.start(job, tags)
    platform.await_gate(gate, killed)
    killed.kill()
    successor = platform.start(job, tags, follows=killed)
    successor.await_line(waits)
    beside = jobs()
    platform.open_gate(gate)
    successor.succeed()
    return KilledRun(beside, jobs(), successor)


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatedPlatform]:
    """Yield a separate stack for these tests."""
    folder = tmp_path_factory.mktemp("killed")
    stack = StackRun(folder / "state")
    made = GatedPlatform(stack, folder / "dagster")
    try:
        stack.up()
        made.prepare()
        yield made
    finally:
        for worker in made.workers:
            worker.process.kill()
        stack.down()


@pytest.fixture(scope="module")
def cancelled(platform: GatedPlatform) -> KilledRun:
    """Cancel a run while its job waits at the gate."""
    jobs = lambda: platform.sagemaker_jobs("Processing", "features")  # noqa: E731  # asked several times
    worker = platform.start(FEATURES_JOB, {"partition": SCORED})
    platform.await_gate("features", worker)
    beside = jobs()
    platform.cancel(worker)
    wait_until(
        lambda: "Stopping" not in jobs().values(), seconds=WAIT_SECONDS, what="the cancelled run's job ends"
    )
    platform.close_gate("features")
    assert platform.keys(f"features/{MODEL}/dt={SCORED}/") == []
    return KilledRun(beside, jobs(), worker)


@pytest.fixture(scope="module")
def prepared(platform: GatedPlatform, cancelled: KilledRun) -> KilledRun:
    """Prepare the features of the training days and the day after with a killed worker."""
    jobs = lambda: {  # noqa: E731  # one question, asked twice
        name: state
        for name, state in platform.sagemaker_jobs("Processing", "features").items()
        if name not in cancelled.after
    }
    return kill_and_follow(platform, FEATURES_JOB, "features", jobs, waits="adopting it", tags=DAYS)


@pytest.fixture(scope="module")
def trained(platform: GatedPlatform, prepared: KilledRun) -> KilledRun:
    """Train the model with a killed worker, and promote it as a person would."""
    assert prepared.after

    def jobs() -> dict[str, str]:
        return platform.sagemaker_jobs("Training", "TrainModel")

    drill = kill_and_follow(platform, train_job_name(MODEL), "train", jobs, waits="Attempt 1 is execution")
    platform.promote(1)
    return drill


@pytest.fixture(scope="module")
def scored(platform: GatedPlatform, trained: KilledRun) -> KilledRun:
    """Score a day with a killed worker."""
    assert trained.after

    def jobs() -> dict[str, str]:
        return platform.sagemaker_jobs("Processing", "score")

    # The completed features job is adopted first, so the text names the state of the scoring job.
    return kill_and_follow(
        platform,
        score_job_name(MODEL),
        "predict",
        jobs,
        waits="is already InProgress: adopting it",
        tags={"partition": SCORED},
    )


@pytest.fixture(scope="module")
def manifest(platform: GatedPlatform, scored: KilledRun) -> Manifest:
    """Return the done file of the scored day."""
    assert scored.after
    return platform.manifests()[0]


@pytest.fixture(scope="module")
def loaded(platform: GatedPlatform, manifest: Manifest) -> KilledRun:
    """Load and publish the batch with a killed worker."""
    assert manifest.row_count
    return kill_and_follow(
        platform,
        load_job_name(MODEL),
        "load",
        platform.glue_job_runs,
        waits="is already loading",
        tags={"partition": SCORED},
    )


def test_cancelled_run_stops_its_job(platform: GatedPlatform, cancelled: KilledRun) -> None:
    """Cancelling in the UI stops the SageMaker job before it writes, and the run counts as cancelled."""
    assert list(cancelled.beside.values()) == ["InProgress"]
    assert cancelled.after == dict.fromkeys(cancelled.beside, "Stopped")
    assert str(platform.run_of(cancelled.successor).status.value) == "CANCELED"
    assert "is being stopped" in cancelled.successor.text()


def test_features_are_prepared_once(platform: GatedPlatform, prepared: KilledRun) -> None:
    """The killed run's job is adopted, and each day has the files of exactly one job."""
    assert list(prepared.beside.values()) == ["InProgress"]
    assert prepared.after == dict.fromkeys(prepared.beside, "Completed")
    for day in (FIRST_PREPARED, "2013-01-10", LAST_PREPARED):
        keys = platform.keys(f"features/{MODEL}/dt={day}/")
        assert len({key.split("/")[3] for key in keys}) == 1


def test_model_is_trained_once(platform: GatedPlatform, trained: KilledRun) -> None:
    """There is one execution, one training job and one artifact."""
    assert list(trained.beside.values()) == ["InProgress"]
    assert trained.after == dict.fromkeys(trained.beside, "Completed")
    artifacts = [key for key in platform.keys(f"models/{MODEL}/") if key.endswith("model.tar.gz")]
    assert len(artifacts) == 1
    assert platform.executions() == ["Succeeded"]


def test_batch_is_scored_once(scored: KilledRun, manifest: Manifest) -> None:
    """The killed run's batch is completed by its first job at its first attempt."""
    assert list(scored.beside.values()) == ["InProgress"]
    assert scored.after == dict.fromkeys(scored.beside, "Completed")
    (name,) = scored.after
    assert str(manifest.batch_id).lower() in name.lower()
    assert manifest.attempt == 1


def test_batch_is_loaded_once(platform: GatedPlatform, loaded: KilledRun, manifest: Manifest) -> None:
    """One job run and attempt write each row once to each store, and the batch is live."""
    assert list(loaded.beside.values()) == ["RUNNING"]
    assert loaded.after == dict.fromkeys(loaded.beside, "SUCCEEDED")
    record = platform.registry.batch(MODEL, manifest.batch_id)
    assert record is not None
    assert (record.load_state, record.load_attempts) == (LoadState.VERIFIED, 1)
    assert record.release_state == ReleaseState.LIVE
    assert platform.rows_online(manifest.batch_id) == manifest.row_count
    assert platform.rows_in_warehouse(manifest.batch_id) == manifest.row_count


def test_uninterrupted_run_scores_the_same_rows(
    platform: GatedPlatform, loaded: KilledRun, manifest: Manifest
) -> None:
    """Scoring the partition again without a kill gives the same count and checksum."""
    assert loaded.after
    platform.start(score_job_name(MODEL), {"partition": SCORED}).succeed()
    first, second = platform.manifests()
    assert first.batch_id == manifest.batch_id != second.batch_id
    assert (second.row_count, second.checksum) == (manifest.row_count, manifest.checksum)


def test_no_pipes_objects_are_left(platform: GatedPlatform, loaded: KilledRun) -> None:
    """Runs that follow killed workers delete what those left on S3."""
    assert loaded.after
    assert platform.pipes_objects() == []
