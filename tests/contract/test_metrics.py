"""Tests of the metrics that a training job evaluates by."""

from __future__ import annotations

import pytest

from prediction_contract.jobs.metrics import METRIC_KINDS, Metric


def test_a_metric_is_known_by_a_short_name() -> None:
    """Two quantiles and two functions are told apart."""
    assert Metric("mae", "a", "b").label == "mae:a"
    assert Metric("pinball", "a", "b", 0.9).label == "pinball_0.9:a"
    assert Metric("function", "a", "b", function="acme.metrics:cost", better="higher").label == "cost:a"


@pytest.mark.parametrize("kind", METRIC_KINDS)
def test_each_metric_says_which_values_are_better(kind: str) -> None:
    """A function's metric says it itself."""
    if kind == "function":
        assert Metric(kind, "a", "b", better="lower").is_lower_better
        assert not Metric(kind, "a", "b", better="higher").is_lower_better
    else:
        assert Metric(kind, "a", "b").is_lower_better is (kind not in {"r2", "roc_auc"})
