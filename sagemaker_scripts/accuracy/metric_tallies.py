"""Computes metrics of rows that arrive in pieces; `r2`, `roc_auc` and functions hold all rows in memory."""

# pandas' annotations type every column as "Series | DataFrame".
# pyright: reportArgumentType=false, reportAttributeAccessIssue=false

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from prediction_contract.jobs.metrics import Metric
from prediction_contract.manifests.measured_accuracy import MeasuredSlice
from prediction_contract.printable_text import escape_unprintable
from sagemaker_scripts.learning.evaluation import numbers_of
from sagemaker_scripts.learning.metric_values import (
    UndecidedMetricError,
    loss_of,
    require_decidable,
    require_suitable,
    rounded_value,
    row_losses,
)

# These metrics need all rows at once: sixteen bytes per row, and as many for each slicing column.
_OF_ALL_ROWS = frozenset({"r2", "roc_auc", "function"})
# The metric of a slice with fewer rows is mostly chance.
LEAST_SLICE_ROWS = 200
MOST_SLICES = 100
# A column with more values identifies entities rather than groups of them.
_MOST_VALUES = 1000
_LONGEST_VALUE = 80


class MetricTally:
    """Computes one metric of rows that are added in pieces.

    Args:
        metric: The metric.
    """

    def __init__(self, metric: Metric) -> None:
        self.metric = metric
        self.rows = 0
        self._sum = 0.0
        self._held: list[tuple[np.ndarray, np.ndarray]] = []

    def add(self, actual: np.ndarray, predicted: np.ndarray) -> None:
        """Add rows.

        Raises:
            EvaluationError: The values are invalid for the metric.
        """
        require_suitable(self.metric, actual, predicted)
        self.rows += len(actual)
        if self.metric.kind in _OF_ALL_ROWS:
            self._held.append((actual, predicted))
        elif len(actual):
            with np.errstate(over="ignore", invalid="ignore"):
                self._sum += float(row_losses(self.metric)(actual, predicted).sum())

    def value(self) -> float | None:
        """Return the metric of all rows; None if it is undefined for them.

        Raises:
            EvaluationError: A metric function of the project fails for the rows.
        """
        if not self.rows:
            return None
        if self.metric.kind in _OF_ALL_ROWS:
            actual, predicted = (np.concatenate(each) for each in zip(*self._held, strict=True))
            try:
                require_decidable(self.metric, actual)
            except UndecidedMetricError:
                return None
            found = loss_of(self.metric)(actual, predicted)
        else:
            found = self._sum / self.rows
            found = math.sqrt(found) if self.metric.kind == "rmse" else found
        return rounded_value(found) if math.isfinite(found) else None


def measured_columns(metric: Metric, known: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the mask of the rows that a metric uses, and their actual and predicted values.

    Args:
        metric: The metric.
        known: Predictions joined with their outcomes.

    Raises:
        EvaluationError: A column holds other values than numbers.
    """
    kept = known[metric.actual].notna() & known[metric.predicted].notna()
    if metric.kind == "mape":
        # The metric is undefined for an outcome of 0.
        kept &= known[metric.actual] != 0
    mask = kept.to_numpy(dtype=bool)
    return (
        mask,
        numbers_of(known[metric.actual][mask], metric),
        numbers_of(known[metric.predicted][mask], metric),
    )


class SliceTallies:
    """Computes one metric for each value of several columns.

    Args:
        metric: The metric.
        columns: The columns.
    """

    def __init__(self, metric: Metric, columns: Sequence[str]) -> None:
        self._metric = metric
        self._tallies: dict[str, dict[str, MetricTally]] = {column: {} for column in columns}
        self.left_out: list[str] = []

    def add(self, known: pd.DataFrame) -> None:
        """Add predictions joined with their outcomes; errors as in `MetricTally.add`."""
        mask, actual, predicted = measured_columns(self._metric, known)
        for column in list(self._tallies):
            codes, values = pd.factorize(known[column][mask], use_na_sentinel=False)
            order = np.argsort(codes, kind="stable")
            ends = np.cumsum(np.bincount(codes, minlength=len(values)))[:-1]
            for value, places in zip(values, np.split(order, ends), strict=True):
                tally = self._tallies[column].setdefault(_text(value), MetricTally(self._metric))
                tally.add(actual[places], predicted[places])
            if len(self._tallies[column]) > _MOST_VALUES:
                del self._tallies[column]
                self.left_out.append(column)

    def slices(self) -> list[MeasuredSlice]:
        """Return the largest slices of each column, at most `MOST_SLICES`, if they have enough rows."""
        found = []
        for column, tallies in self._tallies.items():
            large = [(text, tally) for text, tally in tallies.items() if tally.rows >= LEAST_SLICE_ROWS]
            large.sort(key=lambda each: (-each[1].rows, each[0]))
            found += [
                MeasuredSlice(column=column, value=text, rows=tally.rows, metric=tally.value())
                for text, tally in large[:MOST_SLICES]
            ]
        return found


def _text(value: object) -> str:
    return "null" if bool(pd.isna(value)) else escape_unprintable(str(value))[:_LONGEST_VALUE]
