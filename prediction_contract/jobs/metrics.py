"""Metrics that evaluate a model on partitions that it has not learned from."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple, Self

from prediction_contract.errors import InvalidNameError

if TYPE_CHECKING:
    from collections.abc import Iterable

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

_PLAIN_KINDS = "|".join(sorted(set(METRIC_KINDS) - {"pinball", "function"}))
_METRIC = re.compile(f"({_PLAIN_KINDS}):([A-Za-z_][A-Za-z0-9_]*):([A-Za-z_][A-Za-z0-9_]*)")


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


class Metrics(str):
    """Metrics as one job argument: `mae:expected_minutes:minutes,roc_auc:probability:late`.

    Raises:
        InvalidNameError: The text has another form.
    """

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        """Return the validated text."""
        metrics = super().__new__(cls, text)
        if not all(map(_METRIC.fullmatch, text.split(","))):
            raise InvalidNameError(
                f"{text[:80]!r} names no metrics",
                remedy="Name kind, predicted and actual column of each, as mae:a:b",
            )
        return metrics

    @classmethod
    def of(cls, metrics: Iterable[Metric]) -> Self:
        """Return metrics as text; errors as above."""
        return cls(",".join(":".join(metric[:3]) for metric in metrics))

    @property
    def each(self) -> tuple[Metric, ...]:
        """The metrics one by one."""
        columns = (text.split(":") for text in self.split(","))
        return tuple(Metric(kind, predicted, actual) for kind, predicted, actual in columns)
