"""Whether a gain is more than noise: a paired bootstrap over partitions, the same for the same inputs.

Rows of a partition share its season, its holidays, its outages; so whole partitions are drawn, with
replacement, and the same draw judges candidate and champion.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import numpy as np

from prediction_contract.jobs.metrics import Metric
from sagemaker_scripts.learning.metric_values import EvaluationError, loss_of, row_losses

DRAWS = 1000
# Fewer partitions give hardly any different draws.
LEAST_PARTITIONS = 3
# One side each: a gain lies below the lower end in one of twenty cases.
_TAIL = 0.05
# A draw may hold one outcome only, of which some metrics say nothing.
_LEAST_SHARE_OF_DRAWS = 0.5
# Of a function of the project's, which is called for each draw on all its rows.
_MOST_ROWS_CALLED = 50_000_000
_LEAST_CALLS = 100


class PairedRows(NamedTuple):
    """Rows that both models answered and whose outcome is known.

    Attributes:
        actual: What became of them, as floats.
        candidate: What the candidate predicted.
        champion: What the champion predicted.
        partitions: The number of each row's partition, from 0.
    """

    actual: np.ndarray
    candidate: np.ndarray
    champion: np.ndarray
    partitions: np.ndarray


class Interval(NamedTuple):
    """Where a gain lies, noise considered."""

    low: float
    high: float


def drawn_weights(seed: str, partitions: int) -> np.ndarray:
    """Return how often each partition is in each draw, one row for each draw.

    Args:
        seed: Any text; the same gives the same draws.
        partitions: How many there are.
    """
    number = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:16], "big")
    chances = np.full(partitions, 1 / partitions)
    return np.random.default_rng(number).multinomial(partitions, chances, size=DRAWS)


def gain_of(metric: Metric, candidate: np.ndarray, champion: np.ndarray) -> np.ndarray:
    """Return by how much a candidate's values are better, as shares of the champion's; of 0, as they are."""
    better_by = champion - candidate if metric.is_lower_better else candidate - champion
    size = np.abs(champion)
    return better_by / np.where(size == 0, 1, size)


def gain_interval(metric: Metric, rows: PairedRows, weights: np.ndarray) -> Interval | None:
    """Return where the gain lies, or None if the rows are of too few partitions to tell.

    Args:
        metric: The metric.
        rows: At least one.
        weights: Of `drawn_weights`.

    Raises:
        EvaluationError: A function of the project's cannot judge the rows.
    """
    if len(np.unique(rows.partitions)) < LEAST_PARTITIONS:
        return None
    with np.errstate(all="ignore"):
        candidate = _drawn_values(metric, rows.actual, rows.candidate, rows.partitions, weights)
        champion = _drawn_values(metric, rows.actual, rows.champion, rows.partitions, weights)
        gains = gain_of(metric, candidate, champion)
    told = gains[np.isfinite(gains)]
    if len(told) < _LEAST_SHARE_OF_DRAWS * len(gains):
        return None
    low, high = np.quantile(told, [_TAIL, 1 - _TAIL])
    return Interval(float(low), float(high))


def _drawn_values(
    metric: Metric, actual: np.ndarray, predicted: np.ndarray, partitions: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Return the metric of each draw, made of sums by partition wherever there are such."""

    def sums(values: np.ndarray) -> np.ndarray:
        return weights @ np.bincount(partitions, weights=values, minlength=weights.shape[1])

    if metric.function is not None:
        return _called_values(metric, actual, predicted, partitions, weights)
    rows = sums(np.ones(len(actual)))
    if metric.kind == "roc_auc":
        return _roc_aucs(actual, predicted, partitions, weights)
    if metric.kind == "r2":
        # About the mean of all, so that squares of large numbers lose no digits.
        distance = actual - actual.mean()
        spread = sums(np.square(distance)) - np.square(sums(distance)) / rows
        return 1 - sums(np.square(actual - predicted)) / spread
    means = sums(row_losses(metric)(actual, predicted)) / rows
    return np.sqrt(means) if metric.kind == "rmse" else means


def _roc_aucs(
    actual: np.ndarray, predicted: np.ndarray, partitions: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Return the area under the curve of each draw, made of how partitions compare two by two."""
    count, is_true = weights.shape[1], actual == 1
    true_values, true_partitions = predicted[is_true], partitions[is_true]
    # How many rows that did not come true were given less than each that did; a tie counts half.
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
    """Return what a function of the project's says of each draw; of fewer draws where there are many rows."""
    loss = loss_of(metric)
    # The function's own faults are told by its name, once.
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
            # It says nothing of this draw, say because all outcomes are alike.
            continue
    return values
