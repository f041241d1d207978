"""Tests of the metrics that a training job evaluates by."""

from __future__ import annotations

import pytest

from prediction_contract.errors import InvalidNameError
from prediction_contract.jobs.metrics import Metric, Metrics

TWO = (Metric("mae", "expected_minutes", "minutes"), Metric("roc_auc", "probability", "late"))


def test_metrics_survive_as_text() -> None:
    """One argument holds them all."""
    text = Metrics.of(TWO)
    assert text == "mae:expected_minutes:minutes,roc_auc:probability:late"
    assert Metrics(text).each == TWO


@pytest.mark.parametrize("text", ["", "mae", "mae:a", "mae:a:b,", "rmse:a:b", "mae:a:b:c", "mae:a b:c"])
def test_what_names_no_metrics_is_refused(text: str) -> None:
    """An unknown kind would else be taken for another."""
    with pytest.raises(InvalidNameError, match="names no metrics"):
        Metrics(text)
