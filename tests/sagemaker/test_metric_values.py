"""Tests of metric values, compared with scikit-learn, and of a project's own metric functions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn import metrics as known

from prediction_contract.jobs.metrics import Metric
from sagemaker_scripts.learning.evaluation import evaluate
from sagemaker_scripts.learning.metric_values import EvaluationError, metric_value
from sagemaker_scripts.learning.outcomes import ScoredPartition

if TYPE_CHECKING:
    from pathlib import Path

RANDOM = np.random.default_rng(0)
NUMBERS = RANDOM.normal(size=200) * 10
GUESSED = np.round(NUMBERS + RANDOM.normal(size=200))
TRUTH = (RANDOM.random(200) < 0.3).astype(float)
# Rounded, so that many rows have equal predictions.
PROBABILITY = np.round(np.clip(0.3 * TRUTH + RANDOM.random(200) * 0.6, 0, 1), 1)


@pytest.mark.parametrize("kind", ["rmse", "r2", "mape"])
def test_infinite_metric_is_refused(kind: str) -> None:
    """JSON has no infinity, and infinite metrics cannot be compared."""
    metric = Metric(kind, "p", "a")
    with pytest.raises(EvaluationError, match=f"{kind} of p and a is larger than any number"):
        metric_value(metric, np.array([1e-300, 1.0]), np.array([1e300, 1.0]), np.array([1.0]))


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        (Metric("mae", "p", "a"), known.mean_absolute_error(NUMBERS, GUESSED)),
        (Metric("rmse", "p", "a"), known.root_mean_squared_error(NUMBERS, GUESSED)),
        (Metric("mape", "p", "a"), known.mean_absolute_percentage_error(NUMBERS, GUESSED)),
        (Metric("r2", "p", "a"), known.r2_score(NUMBERS, GUESSED)),
        (Metric("pinball", "p", "a", 0.9), known.mean_pinball_loss(NUMBERS, GUESSED, alpha=0.9)),
        (Metric("roc_auc", "p", "a"), known.roc_auc_score(TRUTH, PROBABILITY)),
        (Metric("log_loss", "p", "a"), known.log_loss(TRUTH, PROBABILITY)),
        (
            Metric("function", "p", "a", None, "sklearn.metrics:median_absolute_error", "lower"),
            known.median_absolute_error(NUMBERS, GUESSED),
        ),
    ],
)
def test_metric_equals_scikit_learn(metric: Metric, expected: float) -> None:
    """Each metric equals scikit-learn's, good predictions beat the baselines, and the mean does not."""
    two = metric.kind in {"roc_auc", "log_loss"}
    actual, predicted = (TRUTH, PROBABILITY) if two else (NUMBERS, GUESSED)
    found = metric_value(metric, actual, predicted, actual)
    assert found.value == pytest.approx(float(expected), rel=1e-3)
    assert found.rows == 200
    assert found.baselines
    if metric.kind != "log_loss":
        assert found.beats_baselines
    naive = metric_value(metric, actual, np.full(200, actual.mean()), actual)
    assert not naive.beats_baselines
    assert naive.value == pytest.approx(naive.baselines.get("train_mean", naive.value))


def test_quantile_baseline_comes_from_training() -> None:
    """A high quantile is compared with the training quantile, which is a better baseline than the median."""
    found = metric_value(Metric("pinball", "p", "a", 0.9), NUMBERS, GUESSED, NUMBERS)
    assert list(found.baselines) == ["train_quantile", "train_median"]
    assert found.baselines["train_quantile"] < found.baselines["train_median"]


def test_mape_leaves_out_outcomes_of_zero() -> None:
    """Rows with an outcome of 0 have no percentage error, so they are left out and counted."""
    actual = np.array([0.0, 2.0, 4.0])
    found = metric_value(Metric("mape", "p", "a"), actual, np.array([5.0, 1.0, 4.0]), actual)
    assert (found.value, found.rows, found.rows_left_out) == (0.25, 2, 1)


@pytest.mark.parametrize(
    ("metric", "actual", "predicted", "complaint"),
    [
        (Metric("mape", "p", "a"), [0, 0], [1, 2], "a is 0 in all evaluated rows. Declare mae"),
        (Metric("r2", "p", "a"), [3, 3], [1, 2], "the same a, but r2 compares different ones"),
        (Metric("roc_auc", "p", "a"), [1, 1], [1, 2], "the same a, but roc_auc compares"),
        (Metric("roc_auc", "p", "a"), [1, 2], [1, 2], "a is 2 in some rows, but roc_auc needs truth values"),
        (
            Metric("log_loss", "p", "a"),
            [1, 0],
            [0.5, 1.2],
            "p is 1.2 in some rows, which is not a probability",
        ),
        (Metric("pinball", "p", "a"), [1, 0], [0.5, 1.2], "no quantile"),
    ],
)
def test_undefined_metric_is_refused(
    metric: Metric, actual: list[float], predicted: list[float], complaint: str
) -> None:
    """The error names the column and why the metric is undefined."""
    with pytest.raises(EvaluationError, match=complaint):
        metric_value(metric, np.array(actual, float), np.array(predicted, float), np.array(actual, float))


OWN = """
def cost(actual, predicted):
    missed = actual > predicted
    predicted[:] = 0
    return (actual - predicted)[missed].sum()

def broken(actual, predicted):
    return 1 / 0

def nothing(actual, predicted):
    return float("nan")
"""


def test_project_function_is_a_metric(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The function gets copies of both columns and has baselines, and faulty functions are named."""
    (tmp_path / "acme_metrics.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    actual, predicted = np.array([1.0, 5.0, 3.0]), np.array([2.0, 1.0, 3.0])

    def value_of(path: str) -> Any:
        return metric_value(Metric("function", "p", "a", None, path, "lower"), actual, predicted, actual)

    found = value_of("acme_metrics:cost")
    assert (found.value, set(found.baselines)) == (5.0, {"train_mean", "train_median"})
    assert list(predicted) == [2.0, 1.0, 3.0]
    for name, complaint in (
        ("broken", "acme_metrics:broken failed on a and p: ZeroDivisionError"),
        ("nothing", "acme_metrics:nothing returned nan"),
        ("missing", "acme_metrics:missing cannot be imported: AttributeError"),
    ):
        with pytest.raises(EvaluationError, match=complaint):
            value_of(f"acme_metrics:{name}")


def evaluated(metric: Metric, **columns: Any) -> dict[str, Any]:
    """Return the evaluation of one partition by one metric, given `guess` and an outcome column."""
    keys = pd.DataFrame({"entity_id": ["a", "b", "c"]})
    outcome_rows = keys.assign(partition="d", **{name: columns[name] for name in columns if name != "guess"})
    outcomes = pa.Table.from_pandas(outcome_rows, preserve_index=False)
    scored = [ScoredPartition("d", keys.assign(guess=columns["guess"]))]
    return evaluate([metric], scored, outcomes, outcomes)[0]


def test_evaluation_describes_its_metric() -> None:
    """The result holds metric, baselines and rows, without rows that lack prediction or outcome."""
    found = evaluated(Metric("pinball", "guess", "spent", 0.5), guess=[1.0, None, 3.0], spent=[2, 3, None])
    assert found == {
        "kind": "pinball",
        "predicted": "guess",
        "actual": "spent",
        "quantile": 0.5,
        "name": "pinball_0.5",
        "value": 0.5,
        "baselines": {"train_quantile": 0.25, "train_median": 0.25},
        "beats_baselines": False,
        "rows": 1,
        "rows_left_out": 0,
    }


@pytest.mark.parametrize(
    ("spent", "complaint"),
    [
        (["x", "secret", "y"], "spent holds str, but the metric mae needs numbers"),
        ([1.0, math.inf, 2.0], "spent is infinite in some rows"),
        ([None, None, None], "No evaluated prediction has both guess and spent"),
    ],
)
def test_outcome_that_is_no_number_is_named(spent: list[Any], complaint: str) -> None:
    """The error names the column, but quotes no value."""
    with pytest.raises(EvaluationError, match=complaint) as refused:
        evaluated(Metric("mae", "guess", "spent"), guess=[1.0, 2.0, 3.0], spent=spent)
    assert "secret" not in str(refused.value)


def test_unknown_outcome_column_is_named() -> None:
    """A metric may name a column that the outcomes function does not return."""
    with pytest.raises(EvaluationError, match="no column paid, which the metric mae names"):
        evaluated(Metric("mae", "guess", "paid"), guess=[1.0, 2.0, 3.0], spent=[1, 2, 3])
