"""Metrics that evaluate a model on partitions that it has not learned from."""

from __future__ import annotations

from typing import NamedTuple

BETTER = ("lower", "higher")
# Which values of each kind are better; a function's metric says it itself.
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
# Their actual column holds truth values, and the predicted one a score or a probability.
KINDS_OF_TWO_OUTCOMES = frozenset({"roc_auc", "log_loss"})


class Metric(NamedTuple):
    """How well a prediction column foretells an outcome column.

    Attributes:
        kind: One of `METRIC_KINDS`.
        predicted: A column of what `predict` returns.
        actual: An outcome column; truth values for `roc_auc` and `log_loss`, numbers for the others.
        quantile: For `pinball`, between 0 and 1.
        function: For `function`, `module:name`.
        better: For `function`, one of `BETTER`.
    """

    kind: str
    predicted: str
    actual: str
    quantile: float | None = None
    function: str | None = None
    better: str | None = None

    @property
    def name(self) -> str:
        """What people know it by: its kind, with the quantile if it has one, or its function's name."""
        if self.function is not None:
            return self.function.rpartition(":")[2]
        return self.kind if self.quantile is None else f"{self.kind}_{self.quantile:g}"

    @property
    def label(self) -> str:
        """Its name and column, which tell the metrics of a model apart."""
        return f"{self.name}:{self.predicted}"

    @property
    def is_lower_better(self) -> bool:
        """Whether a lower value is a better one."""
        return (self.better or METRIC_KINDS[self.kind]) == "lower"
