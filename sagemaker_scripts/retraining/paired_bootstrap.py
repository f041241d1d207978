"""Tests whether a gain is more than noise, by a deterministic paired bootstrap over partitions.

Rows of a partition share season, holidays and outages. So whole partitions are drawn with replacement, and
each draw is used for both candidate and champion.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import numpy as np

from prediction_contract.jobs.metrics import Metric
from sagemaker_scripts.learning.metric_values import EvaluationError, loss_of, row_losses

DRAWS = 1000
# With fewer partitions there are too few different draws.
LEAST_PARTITIONS = 3
# The probability on each side: a gain is below the lower end in one of twenty cases.
_TAIL = 0.05
# Some metrics are undefined for draws in which all outcomes are equal.
_LEAST_SHARE_OF_DRAWS = 0.5
# The limit for a metric function of the project, which is called with all rows of each draw.
_MOST_ROWS_CALLED = 50_000_000
_LEAST_CALLS = 100


class PairedRows(NamedTuple):
    """Rows that both models predicted and whose outcome is known.

    Attributes:
        actual: The actual outcomes, as floats.
        candidate: The candidate's predictions.
        champion: The champion's predictions.
        partitions: The number of each row's partition, from 0.
    """

    actual: np.ndarray
    candidate: np.ndarray
    champion: np.ndarray
    partitions: np.ndarray


class Interval(NamedTuple):
    """The confidence interval of a gain."""

    low: float
    high: float


def drawn_weights(seed: str, partitions: int) -> np.ndarray:
    """Return how often each draw contains each partition, in the shape (`DRAWS`, `partitions`).

    Args:
        seed: Any text; the same text gives the same draws.
        partitions: The number of partitions.
    """
    number = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:16], "big")
    chances = np.full(partitions, 1 / partitions)
    return np.random.default_rng(number).multinomial(partitions, chances, size=DRAWS)


def gain_of(metric: Metric, candidate: np.ndarray, champion: np.ndarray) -> np.ndarray:
    """Return the candidate's gains as shares of the champion's values; absolute where these are 0."""
    better_by = champion - candidate if metric.is_lower_better else candidate - champion
    size = np.abs(champion)
    return better_by / np.where(size == 0, 1, size)


def gain_interval(metric: Metric, rows: PairedRows, weights: np.ndarray) -> Interval | None:
    """Return the confidence interval of the gain; None if there are too few partitions or valid draws.

    Args:
        metric: The metric.
        rows: At least one row.
        weights: The result of `drawn_weights`.

    Raises:
        EvaluationError: A metric function of the project fails for the rows.
    """
    if len(np.unique(rows.partitions)) < LEAST_PARTITIONS:
        return None
    with np.errstate(all="ignore"):
        candidate = _drawn_values(metric, rows.actual, rows.candidate, rows.partitions, weights)
        champion = _drawn_values(metric, rows.actual, rows.champion, rows.partitions, weights)
        gains = gain_of(metric, candidate, champion)
    finite = gains[np.isfinite(gains)]
    if len(finite) < _LEAST_SHARE_OF_DRAWS * len(gains):
        return None
    low, high = np.quantile(finite, [_TAIL, 1 - _TAIL])
    return Interval(float(low), float(high))


def _drawn_values(
    metric: Metric, actual: np.ndarray, predicted: np.ndarray, partitions: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Return the metric of each draw, computed from sums by partition where possible."""

    def sums(values: np.ndarray) -> np.ndarray:
        return weights @ np.bincount(partitions, weights=values, minlength=weights.shape[1])

    if metric.function is not None:
        return _called_values(metric, actual, predicted, partitions, weights)
    rows = sums(np.ones(len(actual)))
    if metric.kind == "roc_auc":
        return _roc_aucs(actual, predicted, partitions, weights)
    if metric.kind == "r2":
        # Subtract the mean first, so that squares of large numbers lose no digits.
        distance = actual - actual.mean()
        spread = sums(np.square(distance)) - np.square(sums(distance)) / rows
        return 1 - sums(np.square(actual - predicted)) / spread
    means = sums(row_losses(metric)(actual, predicted)) / rows
    return np.sqrt(means) if metric.kind == "rmse" else means


def _roc_aucs(
    actual: np.ndarray, predicted: np.ndarray, partitions: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Return the area under the curve of each draw, from pairwise comparisons of partitions."""
    count, is_true = weights.shape[1], actual == 1
    true_values, true_partitions = predicted[is_true], partitions[is_true]
    # For each pair of partitions: the pairs of rows whose true row has the higher prediction; ties count
    # half.
    above = np.zeros((count, count))
    for number in range(count):
        others = np.sort(predicted[~is_true & (partitions == number)])
        places = np.searchsorted(others, true_values, "left") + np.searchsorted(others, true_values, "right")
        above[:, number] = np.bincount(true_partitions, weights=places / 2, minlength=count)
    positive = weights @ np.bincount(true_partitions, minlength=count)
    negative = weights @ np.bincount(partitions[~is_true], minlength=count)
    return (weights @ above * weights).sum(axis=1) / (positive * negative)


def _called_values(
    metric: Metric, actual: np.ndarray, predicted: np.ndarray, partitions: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Return a metric function's value for each draw; for many rows, only of the first draws."""
    loss = loss_of(metric)
    # Call it once on all rows, so that its own errors are raised.
    loss(actual, predicted)
    calls = min(len(weights), max(_LEAST_CALLS, _MOST_ROWS_CALLED // len(actual)))
    places = [np.flatnonzero(partitions == number) for number in range(weights.shape[1])]
    values = np.full(calls, np.nan)
    for draw in range(calls):
        repeated = [np.tile(rows, times) for rows, times in zip(places, weights[draw], strict=True)]
        chosen = np.concatenate(repeated)
        try:
            values[draw] = loss(actual[chosen], predicted[chosen]) if len(chosen) else np.nan
        except EvaluationError:
            # The metric is undefined for this draw, for example because all outcomes are equal.
            continue
    return values
