"""Tests of the paired bootstrap: known results and repeatable draws."""

from __future__ import annotations

import numpy as np
import pytest

from prediction_contract.jobs.metrics import METRIC_KINDS, Metric
from sagemaker_scripts.learning.metric_values import EvaluationError, loss_of
from sagemaker_scripts.retraining.paired_bootstrap import (
    DRAWS,
    PairedRows,
    _drawn_values,
    drawn_weights,
    gain_interval,
    gain_of,
)

MAE = Metric("mae", "guess", "actual")
AUC = Metric("roc_auc", "guess", "actual")


def metric_of(kind: str) -> Metric:
    """Return a metric of the given kind with the fields that this kind requires."""
    if kind == "function":
        return Metric(kind, "guess", "actual", None, f"{__name__}:largest_error", "lower")
    return Metric(kind, "guess", "actual", 0.9 if kind == "pinball" else None)


def largest_error(actual: np.ndarray, predicted: np.ndarray) -> float:
    """Compute the largest error, as a project's own metric function."""
    return float(np.abs(actual - predicted).max())


def of_three_outcomes(actual: np.ndarray, predicted: np.ndarray) -> float:
    """Compute the mean error, but fail if there are fewer than three different outcomes."""
    if len(set(actual)) < 3:
        raise ValueError("the outcomes are too few")
    return float(np.abs(actual - predicted).mean())


def rows_of(kind: str, partitions: int, *, seed: int = 7) -> PairedRows:
    """Return random paired rows that suit a kind of metric, 5 to 39 per partition."""
    chance = np.random.default_rng(seed)
    numbers = np.repeat(np.arange(partitions), chance.integers(5, 40, partitions))
    actual = chance.normal(10, 3, len(numbers))
    if kind in {"roc_auc", "log_loss"}:
        actual = (actual > 10).astype(float)
        guesses = chance.integers(1, 9, (2, len(numbers))) / 10
    else:
        guesses = actual + chance.normal(0, 1, (2, len(numbers)))
    return PairedRows(actual, guesses[0], guesses[1], numbers)


@pytest.mark.parametrize("kind", METRIC_KINDS)
def test_draw_equals_metric_of_resampled_rows(kind: str) -> None:
    """Each draw's value equals the metric over the rows it repeats, for every kind of metric."""
    metric, rows = metric_of(kind), rows_of(kind, 6)
    weights = drawn_weights("seed", 6)
    found = _drawn_values(metric, rows.actual, rows.candidate, rows.partitions, weights)
    assert len(found) == DRAWS
    for draw in (0, 1, 2):
        places = np.concatenate(
            [np.flatnonzero(rows.partitions == number).repeat(weights[draw, number]) for number in range(6)]
        )
        expected = loss_of(metric)(rows.actual[places], rows.candidate[places])
        assert found[draw] == pytest.approx(expected, rel=1e-9)


def test_draws_are_whole_partitions_and_repeatable() -> None:
    """Draws repeat whole partitions, and the same seed gives the same draws and so the same verdict."""
    weights = drawn_weights("a", 5)
    assert weights.shape == (DRAWS, 5)
    assert set(weights.sum(axis=1)) == {5}
    assert np.array_equal(weights, drawn_weights("a", 5))
    assert not np.array_equal(weights, drawn_weights("b", 5))


def test_uniform_gain_has_no_uncertainty() -> None:
    """If errors halve in every partition, both ends of the interval are a gain of 50 %."""
    actual = np.zeros(40)
    rows = PairedRows(actual, actual + 1, actual + 2, np.repeat(np.arange(4), 10))
    assert gain_interval(MAE, rows, drawn_weights("s", 4)) == (0.5, 0.5)


def test_gain_from_one_partition_is_noise() -> None:
    """A candidate that is better on one day of ten and slightly worse on the others may be worse."""
    numbers = np.repeat(np.arange(10), 20)
    champion = np.where(numbers == 0, 20.0, 1.0)
    candidate = np.where(numbers == 0, 15.0, 1.1)
    rows = PairedRows(np.zeros(200), candidate, champion, numbers)
    overall = gain_of(MAE, np.array(candidate.mean()), np.array(champion.mean()))
    assert overall == pytest.approx(0.141, abs=0.001)
    interval = gain_interval(MAE, rows, drawn_weights("s", 10))
    assert interval is not None
    # A third of all draws lack that day, and in those the candidate is worse by a tenth.
    assert interval.low == pytest.approx(-0.1)
    assert interval.high > overall


def test_gain_is_relative_to_the_champion() -> None:
    """A gain is a fraction of the champion's value, or the plain difference if the champion's error is 0."""
    assert gain_of(MAE, np.array(1.5), np.array(2.0)) == 0.25
    assert gain_of(AUC, np.array(0.9), np.array(0.75)) == pytest.approx(0.2)
    assert gain_of(Metric("r2", "g", "a"), np.array(-0.5), np.array(-1.0)) == 0.5
    assert gain_of(MAE, np.array(0.5), np.array(0.0)) == -0.5
    assert gain_of(MAE, np.array(0.0), np.array(0.0)) == 0


def test_two_partitions_give_no_interval() -> None:
    """Noise cannot be estimated from rows of two partitions, even if more are held out."""
    assert gain_interval(MAE, rows_of("mae", 2), drawn_weights("s", 2)) is None
    assert gain_interval(MAE, rows_of("mae", 3), drawn_weights("s", 3)) is not None
    assert gain_interval(MAE, rows_of("mae", 2), drawn_weights("s", 9)) is None


def test_undefined_draws_are_left_out() -> None:
    """Draws without any positive outcome are skipped, as long as most draws have one."""
    numbers = np.repeat(np.arange(4), 10)
    actual = (numbers == 0) & (np.arange(40) % 2 == 0)
    rows = PairedRows(actual.astype(float), np.arange(40.0), np.arange(40.0)[::-1], numbers)
    assert gain_interval(AUC, rows, drawn_weights("s", 4)) is not None


def test_mostly_undefined_draws_give_no_interval() -> None:
    """No interval is returned if the metric function fails on most draws; failing on all rows is an error."""
    metric = Metric("function", "guess", "actual", None, f"{__name__}:of_three_outcomes", "lower")
    numbers = np.repeat(np.arange(3), 10)
    rows = PairedRows(numbers.astype(float), np.zeros(30), np.ones(30), numbers)
    assert gain_interval(metric, rows, drawn_weights("s", 3)) is None
    with pytest.raises(EvaluationError, match="of_three_outcomes failed"):
        gain_interval(metric, rows._replace(actual=np.zeros(30)), drawn_weights("s", 3))
