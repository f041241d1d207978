"""Which partitions a retraining learns from and judges on."""

from __future__ import annotations

import pytest

from prediction_contract.jobs.retraining_range import RetrainingRange, RetrainingRangeError
from prediction_contract.naming.batch import Partition


def up_to(newest: str, *, start: str, is_judged: bool = True) -> RetrainingRange:
    """Return the range of ten partitions, of which two later ones are held out behind a gap of one."""
    return RetrainingRange.up_to(
        Partition(newest),
        model="tides",
        start=Partition(start),
        window=10,
        held_out=2,
        gap=1,
        is_judged=is_judged,
    )


def test_a_range_ends_with_the_partitions_to_judge_on() -> None:
    """Before them lies the gap, and before that the window."""
    assert up_to("2013-03-01", start="2013-01-01") == RetrainingRange(
        first="2013-02-17", last="2013-02-26", first_held_out="2013-02-28", last_held_out="2013-03-01"
    )


def test_a_model_without_metrics_learns_from_all() -> None:
    """Nothing is held out where nothing could be compared."""
    assert up_to("2013-03-01", start="2013-01-01", is_judged=False) == RetrainingRange(
        first="2013-02-20", last="2013-03-01", first_held_out=None, last_held_out=None
    )


def test_the_window_begins_with_the_model() -> None:
    """A young model learns from what there is, of one partition at least."""
    assert up_to("2013-W04", start="2013-W01").first == "2013-W01"
    with pytest.raises(RetrainingRangeError, match="partitions begin with 2013-W01"):
        up_to("2013-W03", start="2013-W01")
