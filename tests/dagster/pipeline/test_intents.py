"""Retries keep the batch of the first run; a deliberate new run gets a new one."""

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
    """Make an empty instance."""
    return dg.DagsterInstance.ephemeral()


def run_of(instance: dg.DagsterInstance, **tags: str) -> dg.DagsterRun:
    """Record a run with tags; `__` in a tag's name stands for `/`."""
    named = {name.replace("__", "/"): value for name, value in tags.items()}
    return instance.add_run(dg.DagsterRun(job_name="flight_delay_score", tags=named))


@pytest.mark.parametrize("kind", [{"dagster__retry_number": "1"}, {"dagster__is_resume_retry": "true"}])
def test_retry_keeps_batch_of_first_run(instance: dg.DagsterInstance, kind: dict[str, str]) -> None:
    """Automatic retries and retries from failure keep the batch id along the whole chain."""
    first = run_of(instance)
    second = run_of(instance, dagster__parent_run_id=first.run_id, **kind)
    third = run_of(instance, dagster__parent_run_id=second.run_id, **kind)
    ids = {batch_id_of(instance, run, "flight_delay", "2013-02-01") for run in (first, second, third)}
    assert len(ids) == 1
    assert intent_of(instance, third)[0] == first.run_id


def test_full_reexecution_makes_new_batch(instance: dg.DagsterInstance) -> None:
    """Re-executing a whole run from the UI scores a new batch."""
    first = run_of(instance)
    again = run_of(instance, dagster__parent_run_id=first.run_id, dagster__root_run_id=first.run_id)
    assert batch_id_of(instance, first, "flight_delay", "2013-02-01") != batch_id_of(
        instance, again, "flight_delay", "2013-02-01"
    )


def test_retry_with_deleted_parent_is_its_own_intent(instance: dg.DagsterInstance) -> None:
    """A deleted parent run does not stop a retry."""
    orphan = run_of(instance, dagster__parent_run_id="gone", dagster__retry_number="1")
    assert intent_of(instance, orphan)[0] == orphan.run_id


def record(batch_id: str, **changes: Any) -> BatchRecord:
    """Return the record of a batch of one partition."""
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
def test_newest_usable_batch_of_partition_is_selected(passed_over: dict[str, str]) -> None:
    """Refused, retired and withdrawn batches and other partitions are skipped."""
    found = Records(record(OLDER), record(NEWER), record(NEWEST, **passed_over))
    assert newest_batch(found, "things", PARTITION).batch_id == NEWER  # type: ignore[arg-type]  # a fake


def test_partition_without_batch_is_named_in_error() -> None:
    """The error names the partition and says to score it or to name a batch."""
    with pytest.raises(NoBatchError, match=r"2013-02-01 .*Score the partition, or name a batch_id"):
        newest_batch(Records(), "things", PARTITION)  # type: ignore[arg-type]  # a fake


class Records(FakeRegistryTable):
    """A registry with given batches."""

    def __init__(self, *found: BatchRecord) -> None:
        super().__init__()
        self.found = found

    def batches_of(self, _model: str, partition: str) -> list[BatchRecord]:
        """Return the batches of a partition, the newest first."""
        return [each for each in reversed(self.found) if each.partition == partition]


def test_all_steps_of_a_run_use_the_same_batch(instance: dg.DagsterInstance) -> None:
    """A newer batch that arrives during the run is not selected."""
    run = run_of(instance, dagster__partition="2013-02-01")
    assert select_batch(instance, run, Records(record(OLDER)), "things") == OLDER  # type: ignore[arg-type]  # a fake
    later = Records(record(OLDER), record(NEWER))
    assert select_batch(instance, run, later, "things") == OLDER  # type: ignore[arg-type]  # a fake


def test_configured_batch_is_kept_for_later_steps(instance: dg.DagsterInstance) -> None:
    """A batch named in one step's config also applies to the steps after it."""
    run = run_of(instance, dagster__partition="2013-02-01")
    found = Records(record(OLDER), record(NEWER))
    assert select_batch(instance, run, found, "things", OLDER) == OLDER  # type: ignore[arg-type]  # a fake
    assert select_batch(instance, run, found, "things") == OLDER  # type: ignore[arg-type]  # a fake


def test_run_without_partition_is_refused(instance: dg.DagsterInstance) -> None:
    """The run fails instead of guessing a partition, and the error says how to name one."""
    with pytest.raises(NoBatchError, match="Start it with --partition"):
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
def test_only_full_reexecution_selects_batch_anew(
    instance: dg.DagsterInstance, kind: dict[str, str], taken: str
) -> None:
    """Retries and step selections keep the selected batch, although Dagster copies the tags in every case."""
    first = run_of(instance, dagster__partition="2013-02-01")
    select_batch(instance, first, Records(record(OLDER)), "things")  # type: ignore[arg-type]  # a fake
    parent = instance.get_run_by_id(first.run_id)
    assert parent is not None
    tags = {**parent.tags, "dagster__parent_run_id": first.run_id, **kind}
    again = run_of(instance, **tags)
    found = Records(record(OLDER), record(NEWER))
    for _ in range(2):
        assert select_batch(instance, again, found, "things") == taken  # type: ignore[arg-type]  # a fake
