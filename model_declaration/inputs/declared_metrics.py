"""Metrics that a model is evaluated by, as its declaration has them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Literal, Self

from pydantic import Field, model_validator

from model_declaration.validation import DeclarationPart, ObjectName, inconsistency, raise_together
from prediction_contract.jobs.metrics import Metric
from prediction_contract.rows.schema import Kind

_NUMBERS = frozenset({Kind.LONG, Kind.DECIMAL, Kind.DOUBLE, Kind.BOOLEAN})


class DeclaredMetric(DeclarationPart):
    """How well a prediction column foretells an outcome column.

    Attributes:
        kind: What is computed; `function` is one of the project's own.
        predicted: A column of the predictions that holds numbers.
        actual: A column that the function `outcomes` returns.
        quantile: Which one a `pinball` metric is about.
        function: Of a `function` metric, called with two arrays: what happened, and what was predicted.
        better: Which values of a `function` metric are better.
    """

    kind: Literal["mae", "rmse", "mape", "r2", "roc_auc", "log_loss", "pinball", "function"]
    predicted: str
    actual: str
    quantile: float | None = Field(default=None, gt=0, lt=1)
    function: ObjectName | None = None
    better: Literal["lower", "higher"] | None = None

    @model_validator(mode="after")
    def _has_its_fields(self) -> Self:
        """Refuse a field of another kind, and a kind without its own fields."""
        raise_together(
            lambda: self._require("quantile", "pinball", "say 0.9"),
            lambda: self._require("function", "function", "say acme.metrics:cost"),
            lambda: self._require("better", "function", "lower or higher"),
        )
        return self

    def _require(self, field: str, kind: str, example: str) -> None:
        is_given = getattr(self, field) is not None
        if is_given and self.kind != kind:
            raise inconsistency(f"{self.kind} has no {field}, only {kind} has", field)
        if not is_given and self.kind == kind:
            raise inconsistency(f"it is missing: {kind} needs one, {example}", field)

    @property
    def as_metric(self) -> Metric:
        """The metric as a job is told it."""
        return Metric(self.kind, self.predicted, self.actual, self.quantile, self.function, self.better)


def require_different(metrics: Sequence[DeclaredMetric]) -> None:
    """Refuse two metrics of one name and column, of which people would see one.

    Raises:
        ValidationError: There are some.
    """
    labels = [metric.as_metric.label for metric in metrics]
    for number, label in enumerate(labels):
        if label in labels[:number]:
            raise inconsistency(f"{label} is declared twice", "metrics", number)


def metric_checks(
    metrics: Sequence[DeclaredMetric], columns: Mapping[str, Kind], *field: str
) -> list[Callable[[], None]]:
    """Return a check of each metric's predicted column, for `raise_together`.

    Args:
        metrics: The declared metrics.
        columns: The kinds of the predictions' columns.
        field: Where they are declared.
    """
    return [
        partial(_require_numbers, number, metric, columns, field) for number, metric in enumerate(metrics)
    ]


def _require_numbers(
    number: int, metric: DeclaredMetric, columns: Mapping[str, Kind], field: tuple[str, ...]
) -> None:
    place = (*field, number, "predicted")
    kind = columns.get(metric.predicted)
    if kind is None:
        raise inconsistency(f"a metric names {metric.predicted}, which is none of the columns", *place)
    if kind not in _NUMBERS:
        raise inconsistency(
            f"a metric names {metric.predicted}, which is a {kind.value} and no number", *place
        )
