"""Metrics that evaluate a model on partitions outside its training data."""

from __future__ import annotations

from typing import NamedTuple

BETTER = ("lower", "higher")
# Which values of each kind are better. A metric of kind `function` declares it.
METRIC_KINDS = {
    "mae": "lower",
    "rmse": "lower",
    "mape": "lower",
    "r2": "higher",
    "roc_auc": "higher",
    "log_loss": "lower",
    "pinball": "lower",
    "function": None,
}
# Their actual column is boolean, and their predicted column is a score or a probability.
KINDS_OF_TWO_OUTCOMES = frozenset({"roc_auc", "log_loss"})


class Metric(NamedTuple):
    """A comparison of a prediction column with an outcome column.

    Attributes:
        kind: One of `METRIC_KINDS`.
        predicted: A column of the result of `predict`.
        actual: An outcome column; boolean for `roc_auc` and `log_loss`, numeric for the others.
        quantile: The quantile of `pinball`, between 0 and 1; None for other kinds.
        function: The function of kind `function`, as `module:name`; None for other kinds.
        better: One of `BETTER` for kind `function`; None for other kinds.
    """

    kind: str
    predicted: str
    actual: str
    quantile: float | None = None
    function: str | None = None
    better: str | None = None

    @property
    def name(self) -> str:
        """Its display name: its kind, with the quantile if it has one, or its function's name."""
        if self.function is not None:
            return self.function.rpartition(":")[2]
        return self.kind if self.quantile is None else f"{self.kind}_{self.quantile:g}"

    @property
    def label(self) -> str:
        """Its name and predicted column, which are unique among a model's metrics."""
        return f"{self.name}:{self.predicted}"

    @property
    def is_lower_better(self) -> bool:
        """Whether lower values are better."""
        return (self.better or METRIC_KINDS[self.kind]) == "lower"
