"""The metrics that a declaration evaluates a model by."""

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
    """A measure of how well a prediction column matches an outcome column.

    Attributes:
        kind: The kind of metric; `function` calls one of the project's own.
        predicted: A numeric column of the predictions.
        actual: A column that the function `outcomes` returns.
        quantile: The quantile of a `pinball` metric.
        function: The function of a `function` metric; it takes two arrays, actual and predicted values.
        better: Whether lower or higher values of a `function` metric are better.
    """

    kind: Literal["mae", "rmse", "mape", "r2", "roc_auc", "log_loss", "pinball", "function"]
    predicted: str
    actual: str
    quantile: float | None = Field(default=None, gt=0, lt=1)
    function: ObjectName | None = None
    better: Literal["lower", "higher"] | None = None

    @model_validator(mode="after")
    def _has_its_fields(self) -> Self:
        """Refuse fields that the kind does not have, and missing ones that it needs."""
        raise_together(
            lambda: self._require("quantile", "pinball", "say 0.9"),
            lambda: self._require("function", "function", "say acme.metrics:cost"),
            lambda: self._require("better", "function", "lower or higher"),
        )
        return self

    def _require(self, field: str, kind: str, example: str) -> None:
        is_given = getattr(self, field) is not None
        if is_given and self.kind != kind:
            raise inconsistency(f"{self.kind} has no {field}, only {kind} does", field)
        if not is_given and self.kind == kind:
            raise inconsistency(f"it is missing: {kind} needs it, {example}", field)

    @property
    def as_metric(self) -> Metric:
        """The metric in the form that jobs read."""
        return Metric(self.kind, self.predicted, self.actual, self.quantile, self.function, self.better)


def require_different(metrics: Sequence[DeclaredMetric]) -> None:
    """Refuse two metrics with the same name and column, which could not be told apart.

    Raises:
        ValidationError: Two metrics are the same.
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
        field: The path of the field that declares them.
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
        raise inconsistency(f"a metric names {metric.predicted}, which is not a column", *place)
    if kind not in _NUMBERS:
        raise inconsistency(
            f"a metric names {metric.predicted}, which is a {kind.value}, not a number", *place
        )
