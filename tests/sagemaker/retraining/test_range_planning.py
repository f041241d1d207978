"""Tests of the partitions of a retraining: which end is known, what is held out, where they begin."""

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
    """Return a bucket with features of partitions."""
    store = ObjectStore(MemoryS3(), "mlpipe-data")
    for partition in prepared:
        rows = prepared_of(pd.DataFrame({"entity_id": ["e1"]}))
        write_feature_set(store, rows, model="m", partition=partition, run_id="r", code_version="v")
    return store


def arguments(**changes: Any) -> PlanRetrainingArguments:
    """Return the arguments of a plan for six partitions to learn from and three to judge on."""
    given: dict[str, Any] = {"window": 6, "held_out": 3, "gap": 1, "schedule": "ended:2013-01-01"}
    given |= {"execution_id": "one", "code_version": "v", "registry_table": "t"}
    given |= {"inputs_key": "models/m/i.json", "schema_key": "models/m/s.json", "bucket": "mlpipe-data"}
    return PlanRetrainingArguments(model="m", **given | changes)


def found(store: ObjectStore | None = None, *, is_judged: bool = True, **changes: Any) -> RetrainingRange:
    """Return the range of a new execution."""
    return find_or_make_range(arguments(**changes), store or bucket(), is_judged=is_judged, now=NOW)


def days(found: RetrainingRange) -> Iterable[str | None]:
    """Return first and last partition to learn from, and to judge on."""
    return found.first, found.last, found.first_held_out, found.last_held_out


def test_a_window_ends_before_gap_and_held_out_partitions() -> None:
    """Six days to learn from, one left out, three to judge on."""
    named = found(last_partition="2013-02-20")
    assert days(named) == ("2013-02-11", "2013-02-16", "2013-02-18", "2013-02-20")
    assert named.newest == "2013-02-20"


def test_a_window_begins_with_the_models_first_partition_at_the_earliest() -> None:
    """There is nothing before; at least one partition must be left to learn from."""
    assert days(found(last_partition="2013-01-07")) == (
        "2013-01-01",
        "2013-01-03",
        "2013-01-05",
        "2013-01-07",
    )
    assert found(last_partition="2013-01-05").last == "2013-01-01"
    with pytest.raises(RetrainingRangeError, match=r"begin with 2013-01-01.*up to 2013-01-04 3 are held out"):
        found(last_partition="2013-01-04")


def test_a_model_without_metrics_learns_up_to_the_newest_partition() -> None:
    """Nothing is held out where nothing can be judged."""
    assert days(found(is_judged=False, last_partition="2013-02-20")) == (
        "2013-02-15",
        "2013-02-20",
        None,
        None,
    )


def test_a_tick_uses_the_partition_before_the_one_that_is_due() -> None:
    """The features of the one that is due tell its outcomes."""
    ended = found(scheduled_at="2013-02-20T01:00:00Z")
    assert ended.newest == "2013-02-18"
    current = found(scheduled_at="2013-02-20T01:00:00Z", schedule="current:2013-01-01")
    assert current.newest == "2013-02-19"


def test_a_tick_by_a_clock_that_is_ahead_is_refused() -> None:
    """Sources that answer with nothing for days to come would pass for days without rows."""
    with pytest.raises(JobArgumentsError, match="scheduled_at is wrong: 2013-03-01 has not ended"):
        found(scheduled_at="2013-03-02T23:00:00Z", schedule="current:2013-01-01")


@pytest.mark.parametrize("last", ["2012-12-31", "2013-02-20T05", "2014-01-01"])
def test_a_partition_that_is_none_of_the_models_is_refused(last: str) -> None:
    """Before the first, of another kind, or no longer one."""
    with pytest.raises(JobArgumentsError, match=f"last_partition is wrong: {last} is not a partition of m"):
        found(last_partition=last, schedule="ended:2013-01-01:2014-01-01")


@pytest.mark.parametrize(
    ("prepared", "newest"),
    [
        (("2013-02-10", "2013-02-11", "2013-02-12"), "2013-02-11"),
        # Nothing tells yet what became of the newest, nor of one that stands alone.
        (("2013-02-10", "2013-02-11", "2013-02-14"), "2013-02-10"),
        (("2013-02-01T22", "2013-02-01T23", "2013-02-02T00"), "2013-02-01T23"),
        (("2013-W05", "2013-W06"), "2013-W05"),
        (("2013-01", "2013-02"), "2013-01"),
    ],
)
def test_the_newest_partition_is_one_whose_successor_is_prepared(
    prepared: tuple[str, ...], newest: str
) -> None:
    """Partitions of any kind; folders of others and of failed runs do not count."""
    store = bucket(*prepared)
    store.put("features/m/dt=2013-02-28/run=failed/features-00000.parquet", b"")
    store.put("features/m/dt=tomorrow/run=odd/features.json", b"")
    start = Partition(prepared[0]).earlier(20)
    assert found(store, schedule=f"ended:{start}").newest == newest


def test_nothing_prepared_is_told_with_what_to_do() -> None:
    """The first retraining of a model names its last partition."""
    with pytest.raises(RetrainingRangeError, match=r"No two consecutive.*mlpipe retrain m --last 2013-02-01"):
        found(bucket("2013-02-10"))


def test_a_second_run_of_an_execution_keeps_to_the_range_of_the_first() -> None:
    """Though newer features have come since; another execution takes the newer ones."""
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
