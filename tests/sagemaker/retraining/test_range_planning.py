"""Tests of a retraining's range: its newest partition, held-out partitions, gap and start."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

from prediction_batches.object_store import ObjectStore
from prediction_contract.errors import JobArgumentsError
from prediction_contract.jobs.retraining_arguments import PlanRetrainingArguments
from prediction_contract.jobs.retraining_range import RetrainingRange, RetrainingRangeError
from prediction_contract.naming.batch import Partition
from sagemaker_scripts.retraining.range_planning import find_or_make_range
from tests.fakes.memory_s3 import MemoryS3
from tests.sagemaker.prepared_tables import prepared_of, write_feature_set

if TYPE_CHECKING:
    from collections.abc import Iterable

NOW = datetime(2013, 3, 1, tzinfo=UTC)


def bucket(*prepared: str) -> ObjectStore:
    """Return a bucket with prepared features of the given partitions."""
    store = ObjectStore(MemoryS3(), "mlpipe-data")
    for partition in prepared:
        rows = prepared_of(pd.DataFrame({"entity_id": ["e1"]}))
        write_feature_set(store, rows, model="m", partition=partition, run_id="r", code_version="v")
    return store


def arguments(**changes: Any) -> PlanRetrainingArguments:
    """Return planning arguments with a window of six, a gap of one and three held-out partitions."""
    given: dict[str, Any] = {"window": 6, "held_out": 3, "gap": 1, "schedule": "ended:2013-01-01"}
    given |= {"execution_id": "one", "code_version": "v", "registry_table": "t"}
    given |= {"inputs_key": "models/m/i.json", "schema_key": "models/m/s.json", "bucket": "mlpipe-data"}
    return PlanRetrainingArguments(model="m", **given | changes)


def found(store: ObjectStore | None = None, *, is_judged: bool = True, **changes: Any) -> RetrainingRange:
    """Return the range of a new execution."""
    return find_or_make_range(arguments(**changes), store or bucket(), is_judged=is_judged, now=NOW)


def days(found: RetrainingRange) -> Iterable[str | None]:
    """Return the first and last partition for training and for judging."""
    return found.first, found.last, found.first_held_out, found.last_held_out


def test_window_ends_before_gap_and_held_out_partitions() -> None:
    """Six days are used for training, one is left out, and three are held out."""
    named = found(last_partition="2013-02-20")
    assert days(named) == ("2013-02-11", "2013-02-16", "2013-02-18", "2013-02-20")
    assert named.newest == "2013-02-20"


def test_window_starts_no_earlier_than_the_schedule() -> None:
    """A window is cut at the model's first partition, and must keep at least one partition."""
    assert days(found(last_partition="2013-01-07")) == (
        "2013-01-01",
        "2013-01-03",
        "2013-01-05",
        "2013-01-07",
    )
    assert found(last_partition="2013-01-05").last == "2013-01-01"
    with pytest.raises(RetrainingRangeError, match=r"begin with 2013-01-01.*up to 2013-01-04 3 are held out"):
        found(last_partition="2013-01-04")


def test_model_without_metrics_trains_up_to_newest_partition() -> None:
    """Without metrics nothing is held out, so the window ends with the newest partition."""
    assert days(found(is_judged=False, last_partition="2013-02-20")) == (
        "2013-02-15",
        "2013-02-20",
        None,
        None,
    )


def test_tick_ends_one_partition_before_the_due_one() -> None:
    """A scheduled retraining ends one partition early, because the due one provides its outcomes."""
    ended = found(scheduled_at="2013-02-20T01:00:00Z")
    assert ended.newest == "2013-02-18"
    current = found(scheduled_at="2013-02-20T01:00:00Z", schedule="current:2013-01-01")
    assert current.newest == "2013-02-19"


def test_tick_of_unfinished_partition_is_refused() -> None:
    """A tick from a clock that is ahead is refused, because future days would look like days without rows."""
    with pytest.raises(JobArgumentsError, match="scheduled_at is wrong: 2013-03-01 has not ended"):
        found(scheduled_at="2013-03-02T23:00:00Z", schedule="current:2013-01-01")


@pytest.mark.parametrize("last", ["2012-12-31", "2013-02-20T05", "2014-01-01"])
def test_partition_outside_the_schedule_is_refused(last: str) -> None:
    """A last partition before the start, after the end or of another kind is refused."""
    with pytest.raises(JobArgumentsError, match=f"last_partition is wrong: {last} is not a partition of m"):
        found(last_partition=last, schedule="ended:2013-01-01:2014-01-01")


@pytest.mark.parametrize(
    ("prepared", "newest"),
    [
        (("2013-02-10", "2013-02-11", "2013-02-12"), "2013-02-11"),
        # The outcomes of a partition come with the next one: 2013-02-11 and 2013-02-14 have none yet.
        (("2013-02-10", "2013-02-11", "2013-02-14"), "2013-02-10"),
        (("2013-02-01T22", "2013-02-01T23", "2013-02-02T00"), "2013-02-01T23"),
        (("2013-W05", "2013-W06"), "2013-W05"),
        (("2013-01", "2013-02"), "2013-01"),
    ],
)
def test_newest_partition_has_a_prepared_successor(prepared: tuple[str, ...], newest: str) -> None:
    """The newest partition is the last one whose successor has features, which provide its outcomes."""
    store = bucket(*prepared)
    store.put("features/m/dt=2013-02-28/run=failed/features-00000.parquet", b"")
    store.put("features/m/dt=tomorrow/run=odd/features.json", b"")
    start = Partition(prepared[0]).earlier(20)
    assert found(store, schedule=f"ended:{start}").newest == newest


def test_missing_features_error_suggests_a_command() -> None:
    """If no two consecutive partitions are prepared, the error suggests `mlpipe retrain --last`."""
    with pytest.raises(RetrainingRangeError, match=r"No two consecutive.*mlpipe retrain m --last 2013-02-01"):
        found(bucket("2013-02-10"))


def test_repeated_execution_keeps_its_range() -> None:
    """A repeated execution keeps its range despite newer features, and an unreadable range is refused."""
    store = bucket("2013-02-10", "2013-02-11")
    first = found(store)
    assert first.newest == "2013-02-10"
    rows = prepared_of(pd.DataFrame({"entity_id": ["e1"]}))
    write_feature_set(store, rows, model="m", partition="2013-02-12", run_id="r", code_version="v")
    assert found(store) == first
    assert found(store, execution_id="two").newest == "2013-02-11"
    store.put("models/m/retraining/three/range.json", json.dumps({"first": 1}).encode())
    with pytest.raises(RetrainingRangeError, match="cannot be read"):
        found(store, execution_id="three")
