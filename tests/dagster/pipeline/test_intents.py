"""Which batch a run is about: the same through all retries, another when somebody means something new."""

from __future__ import annotations

from typing import Any

import dagster as dg
import pytest

from mlpipe_dagster.pipeline.batch_selection import NoBatchError, newest_batch, partition_key_of, select_batch
from mlpipe_dagster.pipeline.retries import batch_id_of, intent_of
from prediction_contract.naming.batch import Partition
from prediction_contract.registry.records import BatchRecord, LoadState, ReleaseState
from tests.fakes.registry_table import FakeRegistryTable


@pytest.fixture
def instance() -> dg.DagsterInstance:
    """An instance of its own."""
    return dg.DagsterInstance.ephemeral()


def run_of(instance: dg.DagsterInstance, **tags: str) -> dg.DagsterRun:
    """Record a run with tags whose names are written with two underscores for a slash."""
    named = {name.replace("__", "/"): value for name, value in tags.items()}
    return instance.add_run(dg.DagsterRun(job_name="flight_delay_score", tags=named))


@pytest.mark.parametrize("kind", [{"dagster__retry_number": "1"}, {"dagster__is_resume_retry": "true"}])
def test_a_retry_scores_the_batch_of_its_first_run(
    instance: dg.DagsterInstance, kind: dict[str, str]
) -> None:
    """Automatic retries and retries from failure keep the batch id, however long their chain."""
    first = run_of(instance)
    second = run_of(instance, dagster__parent_run_id=first.run_id, **kind)
    third = run_of(instance, dagster__parent_run_id=second.run_id, **kind)
    ids = {batch_id_of(instance, run, "flight_delay", "2013-02-01") for run in (first, second, third)}
    assert len(ids) == 1
    assert intent_of(instance, third)[0] == first.run_id


def test_a_deliberate_execution_again_is_a_new_batch(instance: dg.DagsterInstance) -> None:
    """Executing a whole run again from the UI means a new scoring."""
    first = run_of(instance)
    again = run_of(instance, dagster__parent_run_id=first.run_id, dagster__root_run_id=first.run_id)
    assert batch_id_of(instance, first, "flight_delay", "2013-02-01") != batch_id_of(
        instance, again, "flight_delay", "2013-02-01"
    )


def test_a_retry_whose_parent_is_gone_stands_for_itself(instance: dg.DagsterInstance) -> None:
    """A deleted history does not stop a run."""
    orphan = run_of(instance, dagster__parent_run_id="gone", dagster__retry_number="1")
    assert intent_of(instance, orphan)[0] == orphan.run_id


def record(batch_id: str, **changes: Any) -> BatchRecord:
    """Return a done batch of one partition."""
    return BatchRecord(**{"model": "things", "batch_id": batch_id, "partition": "2013-02-01", **changes})


PARTITION = Partition("2013-02-01")
OLDER, NEWER, NEWEST = (f"20261123T01020{second}Z-00000001" for second in range(3))


@pytest.mark.parametrize(
    "passed_over",
    [
        {"load_state": LoadState.REFUSED},
        {"load_state": LoadState.RETIRED},
        {"release_state": ReleaseState.WITHDRAWN},
        {"partition": "2013-02-02"},
    ],
)
def test_the_newest_batch_of_a_partition_is_taken(passed_over: dict[str, str]) -> None:
    """Refused, retired and withdrawn batches and other partitions are passed over."""
    found = Records(record(OLDER), record(NEWER), record(NEWEST, **passed_over))
    assert newest_batch(found, "things", PARTITION).batch_id == NEWER  # type: ignore[arg-type]  # a fake


def test_a_partition_without_a_batch_is_said_so() -> None:
    """The error names the partition and what to do."""
    with pytest.raises(NoBatchError, match="2013-02-01"):
        newest_batch(Records(), "things", PARTITION)  # type: ignore[arg-type]  # a fake


class Records(FakeRegistryTable):
    """A registry of given batches."""

    def __init__(self, *found: BatchRecord) -> None:
        super().__init__()
        self.found = found

    def batches_of(self, _model: str, partition: str) -> list[BatchRecord]:
        """Return a partition's, the newest first."""
        return [each for each in reversed(self.found) if each.partition == partition]


def test_all_steps_of_a_run_take_the_batch_that_the_first_took(instance: dg.DagsterInstance) -> None:
    """A newer batch that comes in between is another run's."""
    run = run_of(instance, dagster__partition="2013-02-01")
    assert select_batch(instance, run, Records(record(OLDER)), "things") == OLDER  # type: ignore[arg-type]  # a fake
    later = Records(record(OLDER), record(NEWER))
    assert select_batch(instance, run, later, "things") == OLDER  # type: ignore[arg-type]  # a fake


def test_a_configured_batch_is_taken_and_kept(instance: dg.DagsterInstance) -> None:
    """Naming a batch in one step's config decides for the steps after it."""
    run = run_of(instance, dagster__partition="2013-02-01")
    found = Records(record(OLDER), record(NEWER))
    assert select_batch(instance, run, found, "things", OLDER) == OLDER  # type: ignore[arg-type]  # a fake
    assert select_batch(instance, run, found, "things") == OLDER  # type: ignore[arg-type]  # a fake


def test_a_run_without_partition_is_refused(instance: dg.DagsterInstance) -> None:
    """Nobody guesses which partition was meant."""
    with pytest.raises(NoBatchError, match="partition"):
        partition_key_of(run_of(instance), "things")


@pytest.mark.parametrize(
    ("kind", "taken"),
    [
        ({}, NEWER),
        ({"dagster__is_resume_retry": "true"}, OLDER),
        ({"dagster__retry_number": "1"}, OLDER),
        ({"dagster__step_selection": "things__adds_up"}, OLDER),
    ],
)
def test_only_a_whole_run_executed_again_on_purpose_chooses_anew(
    instance: dg.DagsterInstance, kind: dict[str, str], taken: str
) -> None:
    """Dagster hands a run's tags on; what a retry keeps, a new intent must not."""
    first = run_of(instance, dagster__partition="2013-02-01")
    select_batch(instance, first, Records(record(OLDER)), "things")  # type: ignore[arg-type]  # a fake
    parent = instance.get_run_by_id(first.run_id)
    assert parent is not None
    tags = {**parent.tags, "dagster__parent_run_id": first.run_id, **kind}
    again = run_of(instance, **tags)
    found = Records(record(OLDER), record(NEWER))
    for _ in range(2):
        assert select_batch(instance, again, found, "things") == taken  # type: ignore[arg-type]  # a fake
