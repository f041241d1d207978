"""Tests of the partitions that a retraining trains on and holds out."""

from __future__ import annotations

import pytest

from prediction_contract.jobs.retraining_range import RetrainingRange, RetrainingRangeError
from prediction_contract.naming.batch import Partition


def up_to(newest: str, *, start: str, is_judged: bool = True) -> RetrainingRange:
    """Return a range with a window of ten partitions, a gap of one and two held-out partitions."""
    return RetrainingRange.up_to(
        Partition(newest),
        model="tides",
        start=Partition(start),
        window=10,
        held_out=2,
        gap=1,
        is_judged=is_judged,
    )


def test_range_ends_with_held_out_partitions() -> None:
    """The held-out partitions come last, after the training window and the gap."""
    assert up_to("2013-03-01", start="2013-01-01") == RetrainingRange(
        first="2013-02-17", last="2013-02-26", first_held_out="2013-02-28", last_held_out="2013-03-01"
    )


def test_model_without_metrics_holds_out_nothing() -> None:
    """A model that is not judged trains up to the newest partition, and no partition is held out."""
    assert up_to("2013-03-01", start="2013-01-01", is_judged=False) == RetrainingRange(
        first="2013-02-20", last="2013-03-01", first_held_out=None, last_held_out=None
    )


def test_window_begins_with_the_model() -> None:
    """A young model trains on the partitions that exist, and needs at least one."""
    assert up_to("2013-W04", start="2013-W01").first == "2013-W01"
    with pytest.raises(RetrainingRangeError, match="partitions begin with 2013-W01"):
        up_to("2013-W03", start="2013-W01")
