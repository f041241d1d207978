"""Tests of the metrics that a training job computes."""

from __future__ import annotations

import pytest

from prediction_contract.jobs.metrics import METRIC_KINDS, Metric


def test_label_identifies_the_metric() -> None:
    """A metric's label contains its kind or function, its quantile and its column."""
    assert Metric("mae", "a", "b").label == "mae:a"
    assert Metric("pinball", "a", "b", 0.9).label == "pinball_0.9:a"
    assert Metric("function", "a", "b", function="acme.metrics:cost", better="higher").label == "cost:a"


@pytest.mark.parametrize("kind", METRIC_KINDS)
def test_each_metric_has_a_better_direction(kind: str) -> None:
    """Lower values are better except for r2 and roc_auc; a function's metric declares its direction."""
    if kind == "function":
        assert Metric(kind, "a", "b", better="lower").is_lower_better
        assert not Metric(kind, "a", "b", better="higher").is_lower_better
    else:
        assert Metric(kind, "a", "b").is_lower_better is (kind not in {"r2", "roc_auc"})
