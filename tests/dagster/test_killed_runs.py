"""A run worker is killed while its job runs: its successor starts no second one, and comes to the same end.

Workers are real processes of `dagster job execute`, jobs the real scripts on the job executor. Each job waits
at a gate until the successor is there, so that nothing depends on who is quicker.
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
from tests.dagster.gated_jobs import GatedPlatform, Worker
from tests.stack_runs import StackRun

pytestmark = [pytest.mark.slow, pytest.mark.stack, pytest.mark.timeout(900)]
DAYS = {"asset_partition_range_start": FIRST_PREPARED, "asset_partition_range_end": LAST_PREPARED}


@dataclass(frozen=True)
class Drill:
    """What was seen of one kill.

    Attributes:
        beside: The jobs of the step, with their states, while the successor waited.
        after: The same in the end.
        successor: The worker that came after the killed one.
    """

    beside: dict[str, str]
    after: dict[str, str]
    successor: Worker


def drilled(
    platform: GatedPlatform,
    job: str,
    gate: str,
    jobs: Callable[[], dict[str, str]],
    *,
    waits: str,
    tags: Mapping[str, str] = MappingProxyType({}),
) -> Drill:
    """Kill a worker while its job waits at a gate, and let the worker that follows it come to the end."""
    killed = platform.start(job, tags)
    platform.await_gate(gate, killed)
    killed.kill()
    successor = platform.start(job, tags, follows=killed)
    successor.await_line(waits)
    beside = jobs()
    platform.open_gate(gate)
    successor.succeed()
    return Drill(beside, jobs(), successor)


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatedPlatform]:
    """A stack of these tests' own."""
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
def cancelled(platform: GatedPlatform) -> Drill:
    """A run that is cancelled while its job waits at the gate, and executed again."""
    jobs = lambda: platform.sagemaker_jobs("Processing", "features")  # noqa: E731  # one question, asked twice
    worker = platform.start(FEATURES_JOB, {"partition": SCORED})
    platform.await_gate("features", worker)
    platform.cancel(worker)
    platform.close_gate("features")
    return Drill(jobs(), jobs(), worker)


@pytest.fixture(scope="module")
def prepared(platform: GatedPlatform, cancelled: Drill) -> Drill:
    """Features of the days to learn from, and of the one after; their worker was killed."""
    jobs = lambda: {  # noqa: E731  # one question, asked twice
        name: state
        for name, state in platform.sagemaker_jobs("Processing", "features").items()
        if name not in cancelled.after
    }
    return drilled(platform, FEATURES_JOB, "features", jobs, waits="adopting it", tags=DAYS)


@pytest.fixture(scope="module")
def trained(platform: GatedPlatform, prepared: Drill) -> Drill:
    """The trained model, which a person has promoted; the worker of its retraining was killed."""
    assert prepared.after

    def jobs() -> dict[str, str]:
        return platform.sagemaker_jobs("Training", "TrainModel")

    drill = drilled(platform, train_job_name(MODEL), "train", jobs, waits="Attempt 1 is execution")
    platform.promote(1)
    return drill


@pytest.fixture(scope="module")
def scored(platform: GatedPlatform, trained: Drill) -> Drill:
    """A scored day; its worker was killed."""
    assert trained.after

    def jobs() -> dict[str, str]:
        return platform.sagemaker_jobs("Processing", "score")

    # The day's features come first, adopted as well: the line is the second one of its kind.
    return drilled(
        platform,
        score_job_name(MODEL),
        "predict",
        jobs,
        waits="is already InProgress: adopting it",
        tags={"partition": SCORED},
    )


@pytest.fixture(scope="module")
def manifest(platform: GatedPlatform, scored: Drill) -> Manifest:
    """The done file of the scored day."""
    assert scored.after
    return platform.manifests()[0]


@pytest.fixture(scope="module")
def loaded(platform: GatedPlatform, manifest: Manifest) -> Drill:
    """The loaded and published batch; its worker was killed."""
    assert manifest.row_count
    return drilled(
        platform,
        load_job_name(MODEL),
        "load",
        platform.glue_job_runs,
        waits="is already loading",
        tags={"partition": SCORED},
    )


def test_a_cancelled_run_stops_its_job_and_leaves_nothing(platform: GatedPlatform, cancelled: Drill) -> None:
    """The web page's button ends the remote job, and the run counts as cancelled."""
    assert set(cancelled.after.values()) <= {"Stopping", "Stopped"}
    assert str(platform.run_of(cancelled.successor).status.value) == "CANCELED"
    assert "is being stopped" in cancelled.successor.text()


def test_features_are_prepared_once(platform: GatedPlatform, prepared: Drill) -> None:
    """The job of the killed run is adopted; every day has the files of one job and no other."""
    assert list(prepared.beside.values()) == ["InProgress"]
    assert prepared.after == dict.fromkeys(prepared.beside, "Completed")
    runs = {key.split("/")[2:4][0]: set() for key in platform.keys(f"features/{MODEL}/")}
    for key in platform.keys(f"features/{MODEL}/"):
        day, run = key.split("/")[2:4]
        runs[day].add(run)
    assert all(len(runs[f"dt={day}"]) == 1 for day in (FIRST_PREPARED, LAST_PREPARED))


def test_a_model_is_trained_once(platform: GatedPlatform, trained: Drill) -> None:
    """There is one execution, with one training job and one artifact."""
    assert list(trained.beside.values()) == ["InProgress"]
    assert trained.after == dict.fromkeys(trained.beside, "Completed")
    artifacts = [key for key in platform.keys(f"models/{MODEL}/") if key.endswith("model.tar.gz")]
    assert len(artifacts) == 1
    assert platform.executions() == ["Succeeded"]


def test_a_batch_is_scored_once(scored: Drill, manifest: Manifest) -> None:
    """There is one job and one done file, of the batch that the killed run began, at its first attempt."""
    assert list(scored.beside.values()) == ["InProgress"]
    assert scored.after == dict.fromkeys(scored.beside, "Completed")
    (name,) = scored.after
    assert str(manifest.batch_id).lower() in name.lower()
    assert manifest.attempt == 1


def test_a_batch_is_loaded_once(platform: GatedPlatform, loaded: Drill, manifest: Manifest) -> None:
    """There is one job run, one attempt, and each row once in each store; the batch is live."""
    assert list(loaded.beside.values()) == ["RUNNING"]
    assert loaded.after == dict.fromkeys(loaded.beside, "SUCCEEDED")
    record = platform.registry.batch(MODEL, manifest.batch_id)
    assert record is not None
    assert (record.load_state, record.load_attempts) == (LoadState.VERIFIED, 1)
    assert record.release_state == ReleaseState.LIVE
    assert platform.rows_online(manifest.batch_id) == manifest.row_count
    assert platform.rows_in_warehouse(manifest.batch_id) == manifest.row_count


def test_an_undisturbed_run_comes_to_the_same(
    platform: GatedPlatform, loaded: Drill, manifest: Manifest
) -> None:
    """The same partition, scored by a run that nobody kills, has the same rows."""
    assert loaded.after
    platform.start(score_job_name(MODEL), {"partition": SCORED}).succeed()
    first, second = platform.manifests()
    assert first.batch_id == manifest.batch_id != second.batch_id
    assert (second.row_count, second.checksum) == (manifest.row_count, manifest.checksum)


def test_nothing_of_pipes_is_left(platform: GatedPlatform, loaded: Drill) -> None:
    """What the killed workers left on S3 was deleted by those that followed them."""
    assert loaded.after
    assert platform.pipes_objects() == []
