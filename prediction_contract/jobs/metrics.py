"""Metrics that evaluate a model on partitions that it has not learned from."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple, Self

from prediction_contract.errors import InvalidNameError

if TYPE_CHECKING:
    from collections.abc import Iterable

METRIC_KINDS = ("mae", "roc_auc")

_METRIC = re.compile(f"({'|'.join(METRIC_KINDS)}):([A-Za-z_][A-Za-z0-9_]*):([A-Za-z_][A-Za-z0-9_]*)")


class Metric(NamedTuple):
    """How well a prediction column foretells an outcome column.

    Attributes:
        kind: `mae` or `roc_auc`.
        predicted: A column of what `predict` returns.
        actual: An outcome column; numbers for `mae`, booleans for `roc_auc`.
    """

    kind: str
    predicted: str
    actual: str


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
                remedy=f"Name {' or '.join(METRIC_KINDS)}, a predicted and an actual column, as mae:a:b",
            )
        return metrics

    @classmethod
    def of(cls, metrics: Iterable[Metric]) -> Self:
        """Return metrics as text; errors as above."""
        return cls(",".join(":".join(metric) for metric in metrics))

    @property
    def each(self) -> tuple[Metric, ...]:
        """The metrics one by one."""
        return tuple(Metric(*text.split(":")) for text in self.split(","))
