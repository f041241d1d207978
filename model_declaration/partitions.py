"""Which partitions a model has, when they are scored, and which of them it learns from."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from model_declaration.cron import require_cron
from model_declaration.inputs.declared_metrics import DeclaredMetric, require_different
from model_declaration.validation import DeclarationPart, PartitionText, inconsistency, raise_together
from prediction_contract.naming.batch import Partition
from prediction_contract.naming.partition_kind import PARTITION_KINDS

# Raw data of an hour is thought to be there ten minutes after its end, and that of others after an hour.
USUAL_CRONS = {"hourly": "10 * * * *", "daily": "0 1 * * *", "weekly": "0 1 * * 1", "monthly": "0 1 1 * *"}


class Partitions(DeclarationPart):
    """Which partitions the model has, in UTC.

    Attributes:
        kind: Hours, days, ISO weeks, which begin on Mondays, or months.
        start: The first.
        end: The first that is no longer one; without it, the present one is the last.
    """

    kind: Literal["hourly", "daily", "weekly", "monthly"] = "daily"
    start: PartitionText
    end: PartitionText | None = None

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        """Refuse partitions of another kind than declared, and a range without one."""
        raise_together(
            lambda: require_kind(self.kind, self.start, "start"),
            lambda: require_kind(self.kind, self.end, "end"),
            self._require_order,
        )
        return self

    def _require_order(self) -> None:
        if self.end is None or Partition(self.end).kind is not Partition(self.start).kind:
            # Two of different kinds have no order, and one of them is refused already.
            return
        if self.end <= self.start:
            raise inconsistency(f"end {self.end} is not later than start {self.start}", "end")


def require_kind(kind: str, partition: str | None, *field: str) -> None:
    """Refuse a partition of another kind; None is none at all.

    Raises:
        ValidationError: It is one.
    """
    if partition is not None and Partition(partition).kind.name != kind:
        raise inconsistency(f"{partition} is not {kind}: write it as {PARTITION_KINDS[kind].example}", *field)


class DeclaredSchedule(DeclarationPart):
    """When the model is scored without anybody's asking: by Dagster, or by SageMaker where that produces it.

    Attributes:
        cron: Five fields, in UTC; unless given ten minutes past for hours, and 01:00 for days, on Mondays for
            weeks, on the first for months.
        upstream: In place of a cron schedule, score a partition as soon as all assets that the sources name
            have it.
        partition: The one that ended last before the tick, or the current one, which the tick lies in.
        running: Whether the schedule runs from the start; otherwise a person turns it on.
    """

    cron: Annotated[str, AfterValidator(require_cron)] | None = None
    upstream: bool = False
    partition: Literal["ended", "current"] = "ended"
    running: bool = False

    @model_validator(mode="after")
    def _is_one_schedule(self) -> Self:
        """Refuse a clock beside the assets that are waited for."""
        if self.upstream and self.cron is not None:
            raise inconsistency("the upstream assets say when: leave out `cron` or `upstream`", "upstream")
        return self

    def cron_of(self, partitions: Partitions) -> str:
        """Return the cron schedule."""
        return self.cron or USUAL_CRONS[partitions.kind]


class TrainingRange(DeclarationPart):
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
            lambda: require_different(self.metrics),
        )
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
