"""What a model learns from, and how it is judged."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from mlpipe_dagster.declaration.values import DeclaredModel, PartitionText, inconsistency, raise_together
from prediction_contract.jobs.metrics import Metric, Metrics


class DeclaredMetric(DeclaredModel):
    """How well a prediction column foretells an outcome column that `features` returns."""

    kind: Literal["mae", "roc_auc"]
    predicted: str
    actual: str


class TrainingRange(DeclaredModel):
    """The partitions that the model learns from, and the later ones it is evaluated on, all included."""

    first_partition: PartitionText
    last_partition: PartitionText
    first_evaluated: PartitionText | None = None
    last_evaluated: PartitionText | None = None
    metrics: list[DeclaredMetric] = Field(default_factory=list)

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        """Refuse half an evaluation, and one on partitions that the model has learned from."""
        raise_together(
            self._require_whole_evaluation,
            self._require_later_evaluation,
            lambda: self._require_order("first_partition", "last_partition"),
            lambda: self._require_order("first_evaluated", "last_evaluated"),
        )
        _ = self.metrics_text
        return self

    def _require_whole_evaluation(self) -> None:
        given = (self.first_evaluated, self.last_evaluated, self.metrics or None)
        if any(given) and not all(given):
            raise inconsistency("an evaluation needs first_evaluated, last_evaluated and metrics")

    def _require_later_evaluation(self) -> None:
        if self.first_evaluated and self.first_evaluated <= self.last_partition:
            raise inconsistency(
                f"first_evaluated is not later than last_partition {self.last_partition}", "first_evaluated"
            )

    def _require_order(self, first: str, last: str) -> None:
        since, until = getattr(self, first), getattr(self, last)
        if until and since and until < since:
            raise inconsistency(f"{last} {until} is earlier than {first} {since}", last)

    @property
    def metrics_text(self) -> str | None:
        """The metrics as the training job is told them."""
        if not self.metrics:
            return None
        return Metrics.of(Metric(each.kind, each.predicted, each.actual) for each in self.metrics)
