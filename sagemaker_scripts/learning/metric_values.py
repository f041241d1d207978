"""Computes metrics of predictions, and of naive baselines that know only the training outcomes."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from prediction_contract.errors import ContractError
from prediction_contract.jobs.metrics import KINDS_OF_TWO_OUTCOMES, Metric

# A wrong probability of exactly 0 or 1 would have an infinite loss.
_LEAST_PROBABILITY = 1e-15
_DECIMALS = 4
_SMALL = 0.1

Loss = Callable[[np.ndarray, np.ndarray], float]


class EvaluationError(ContractError):
    """A model cannot be evaluated on the given partitions."""


class UndecidedMetricError(EvaluationError):
    """A metric is undefined for these outcomes, regardless of the predictions."""


class MetricValue(NamedTuple):
    """A metric of a model.

    Attributes:
        value: The model's value.
        baselines: The values of naive predictions, by name.
        beats_baselines: Whether the model is better than all baselines.
        rows: The number of evaluated rows.
        rows_left_out: The number of rows for which the metric is undefined: with `mape`, outcomes of 0.
    """

    value: float
    baselines: Mapping[str, float]
    beats_baselines: bool
    rows: int
    rows_left_out: int


def metric_value(
    metric: Metric, actual: np.ndarray, predicted: np.ndarray, trained: np.ndarray
) -> MetricValue:
    """Return a metric's value and its baselines.

    Args:
        metric: The metric.
        actual: The actual outcome of each row, at least one, as floats; booleans are 0 and 1.
        predicted: The prediction for each row.
        trained: The outcomes of the training rows.

    Raises:
        EvaluationError: The metric is undefined for these values.
    """
    rows = len(actual)
    if metric.kind == "mape":
        kept = actual != 0
        actual, predicted, trained = actual[kept], predicted[kept], trained[trained != 0]
    require_suitable(metric, actual, predicted)
    require_decidable(metric, actual)
    loss = loss_of(metric)
    constants = _constants(metric, trained) if len(trained) else {}
    with np.errstate(over="ignore", invalid="ignore"):
        baselines = {name: loss(actual, np.full(len(actual), each)) for name, each in constants.items()}
        value = loss(actual, predicted)
    if not all(map(math.isfinite, (value, *baselines.values()))):
        raise EvaluationError(
            f"{metric.name} of {metric.predicted} and {metric.actual} is larger than any number",
            remedy="Correct the model's predict and outcomes functions, or declare mae",
        )
    lower = metric.is_lower_better
    better = bool(baselines) and all(value < each if lower else value > each for each in baselines.values())
    shown = {name: rounded_value(each) for name, each in baselines.items()}
    return MetricValue(rounded_value(value), shown, better, len(actual), rows - len(actual))


def _constants(metric: Metric, trained: np.ndarray) -> dict[str, float]:
    """Return the naive predictions, each the same for every row, from the training outcomes."""
    mean = {"train_mean": float(trained.mean())}
    median = {"train_median": float(np.median(trained))}
    if metric.kind in KINDS_OF_TWO_OUTCOMES:
        return mean
    if metric.kind == "pinball":
        return {"train_quantile": float(np.quantile(trained, _quantile(metric))), **median}
    return {**mean, **median}


def require_decidable(metric: Metric, actual: np.ndarray) -> None:
    """Refuse outcomes for which a metric is undefined, regardless of the predictions.

    Raises:
        UndecidedMetricError: There are no outcomes, or they are all equal and the metric needs different
            ones.
    """
    if not len(actual):
        raise UndecidedMetricError(
            f"{metric.name} is undefined for an outcome of 0, and {metric.actual} is 0 in all evaluated rows"
            if metric.kind == "mape"
            else f"No evaluated row has both {metric.predicted} and {metric.actual}",
            remedy="Declare mae in place of mape"
            if metric.kind == "mape"
            else "Correct the model's predict function, or the metrics in its defs.yaml",
        )
    # Both metrics divide by a measure of the outcomes' differences.
    if metric.kind in {"roc_auc", "r2"} and np.all(actual == actual[0]):
        raise UndecidedMetricError(
            f"All evaluated rows have the same {metric.actual}, but {metric.name} compares different ones",
            remedy="Evaluate more partitions",
        )


def require_suitable(metric: Metric, actual: np.ndarray, predicted: np.ndarray) -> None:
    """Refuse values that are invalid for a metric.

    Raises:
        EvaluationError: An outcome is not a boolean, or a prediction is not a probability.
    """
    other = sorted(set(np.unique(actual)) - {0.0, 1.0})
    if metric.kind in KINDS_OF_TWO_OUTCOMES and other:
        raise EvaluationError(
            f"{metric.actual} is {other[0]:g} in some rows, but {metric.name} needs truth values",
            remedy="Return it as true and false, or as 1 and 0, from the model's outcomes function",
        )
    if metric.kind == "log_loss":
        outside = np.flatnonzero((predicted < 0) | (predicted > 1))
        if len(outside):
            raise EvaluationError(
                f"{metric.predicted} is {predicted[outside[0]]:g} in some rows, which is not a probability",
                remedy="Declare a column of probabilities for log_loss, or roc_auc for a column of scores",
            )


def loss_of(metric: Metric) -> Loss:
    """Return the function that computes a metric from actual and predicted values."""
    if metric.function is not None:
        return _function(metric, metric.function)
    if metric.kind == "r2":
        return _r2
    if metric.kind == "roc_auc":
        return _roc_auc
    of_rows = row_losses(metric)
    if metric.kind == "rmse":
        return lambda actual, predicted: math.sqrt(float(of_rows(actual, predicted).mean()))
    return lambda actual, predicted: float(of_rows(actual, predicted).mean())


def row_losses(metric: Metric) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Return the function for each row's loss; the metric is their mean, or its root for `rmse`."""
    return {
        "mae": lambda actual, predicted: np.abs(actual - predicted),
        "rmse": lambda actual, predicted: np.square(actual - predicted),
        "mape": lambda actual, predicted: np.abs((actual - predicted) / actual),
        "log_loss": _log_losses,
        "pinball": lambda actual, predicted: _pinball_losses(actual - predicted, _quantile(metric)),
    }[metric.kind]


def _quantile(metric: Metric) -> float:
    if metric.quantile is None:
        raise EvaluationError("A pinball metric has no quantile", remedy="Declare its quantile in defs.yaml")
    return metric.quantile


def _r2(actual: np.ndarray, predicted: np.ndarray) -> float:
    return 1 - float(np.square(actual - predicted).sum() / np.square(actual - actual.mean()).sum())


def _roc_auc(actual: np.ndarray, predicted: np.ndarray) -> float:
    """Return the share of pairs in which a true row has the higher prediction; ties count half."""
    _, place, count = np.unique(predicted, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(count) - (count - 1) / 2)[place]
    true = actual == 1
    positive = int(true.sum())
    least = positive * (positive + 1) / 2
    return float((ranks[true].sum() - least) / (positive * (len(actual) - positive)))


def _log_losses(actual: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    probability = np.clip(predicted, _LEAST_PROBABILITY, 1 - _LEAST_PROBABILITY)
    return -(actual * np.log(probability) + (1 - actual) * np.log1p(-probability))


def _pinball_losses(error: np.ndarray, quantile: float) -> np.ndarray:
    return np.maximum(quantile * error, (quantile - 1) * error)


def _function(metric: Metric, path: str) -> Loss:
    """Return a metric function of the project; its errors name the function."""
    module, _, name = path.partition(":")
    try:
        function = getattr(importlib.import_module(module), name)
    except Exception as error:
        raise EvaluationError(
            f"The metric {path} cannot be imported: {type(error).__name__}: {str(error)[:300]}",
            remedy="Correct `function` of the metric in defs.yaml: module:name of the project",
        ) from error

    def loss(actual: np.ndarray, predicted: np.ndarray) -> float:
        try:
            # Pass copies, because a function that changes its arguments would change the next metric's
            # values.
            value: Any = function(actual.copy(), predicted.copy())
            number = float(value)
        except Exception as error:
            raise EvaluationError(
                f"The metric {path} failed on {metric.actual} and {metric.predicted}: "
                f"{type(error).__name__}: {str(error)[:300]}",
                remedy="Correct the function: it takes the arrays actual and predicted, and returns a number",
            ) from error
        if not math.isfinite(number):
            raise EvaluationError(
                f"The metric {path} returned {number} for {metric.actual} and {metric.predicted}",
                remedy="Correct the function: it returns a finite number",
            )
        return number

    return loss


def rounded_value(value: float) -> float:
    """Round to four decimals, and small values to four significant digits."""
    return round(value, _DECIMALS) if abs(value) >= _SMALL else float(f"{value:.{_DECIMALS}g}")
