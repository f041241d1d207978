"""A model's partitions, its schedule, and its training."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, PlainValidator, model_validator

from model_declaration.cron import require_cron, scheduler_cron
from model_declaration.inputs.declared_metrics import DeclaredMetric, require_different
from model_declaration.validation import (
    DeclarationPart,
    PartitionText,
    fault,
    inconsistency,
    raise_together,
)
from prediction_contract.errors import ContractError
from prediction_contract.jobs.model_inputs import Judging
from prediction_contract.naming.batch import Partition
from prediction_contract.naming.partition_kind import PARTITION_KINDS

# Data is assumed to arrive within ten minutes for hourly partitions, and within an hour for others.
DEFAULT_CRONS = {"hourly": "10 * * * *", "daily": "0 1 * * *", "weekly": "0 1 * * 1", "monthly": "0 1 1 * *"}


class Partitions(DeclarationPart):
    """The model's partitions, in UTC.

    Attributes:
        kind: Hourly, daily, weekly (ISO weeks, from Monday) or monthly.
        start: The first partition.
        end: The first partition that no longer belongs to the model; by default there is no end.
    """

    kind: Literal["hourly", "daily", "weekly", "monthly"] = "daily"
    start: PartitionText
    end: PartitionText | None = None

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        """Refuse partitions of another kind than declared, and an empty range."""
        raise_together(
            lambda: require_kind(self.kind, self.start, "start"),
            lambda: require_kind(self.kind, self.end, "end"),
            self._require_order,
        )
        return self

    def _require_order(self) -> None:
        if self.end is None or Partition(self.end).kind is not Partition(self.start).kind:
            # Partitions of different kinds have no order, and one of them was already refused.
            return
        if self.end <= self.start:
            raise inconsistency(f"end {self.end} is not later than start {self.start}", "end")


def require_kind(kind: str, partition: str | None, *field: str) -> None:
    """Refuse a partition of another kind; None passes.

    Raises:
        ValidationError: The partition is of another kind.
    """
    if partition is not None and Partition(partition).kind.name != kind:
        raise inconsistency(f"{partition} is not {kind}: write it as {PARTITION_KINDS[kind].example}", *field)


class DeclaredSchedule(DeclarationPart):
    """When the model is scored automatically, by Dagster or SageMaker.

    Attributes:
        cron: A cron schedule of five fields in UTC; by default at minute 10 for hourly partitions, and at
            01:00 for others (weekly on Mondays, monthly on the first).
        upstream: Instead of `cron`: score a partition once all assets that the sources name have it.
        partition: `ended` is the last partition that ended before the tick; `current` contains the tick.
        running: Whether the schedule is on from the start; otherwise a person turns it on.
    """

    cron: Annotated[str, AfterValidator(require_cron)] | None = None
    upstream: bool = False
    partition: Literal["ended", "current"] = "ended"
    running: bool = False

    @model_validator(mode="after")
    def _is_one_schedule(self) -> Self:
        """Refuse `cron` together with `upstream`."""
        if self.upstream and self.cron is not None:
            raise inconsistency(
                "a schedule has either a clock or upstream assets: remove `cron` or `upstream`", "upstream"
            )
        return self

    def cron_of(self, partitions: Partitions) -> str:
        """Return the cron schedule."""
        return self.cron or DEFAULT_CRONS[partitions.kind]


TRAINING_PARTITIONS = ("first_partition", "last_partition", "first_evaluated", "last_evaluated")


class TrainingRange(DeclarationPart):
    """The form of `training` up to version 0.1: fixed ranges of partitions to learn from and to judge on.

    The retraining pipeline uses the ranges' lengths only, and ends with the newest partition.
    """

    first_partition: PartitionText
    last_partition: PartitionText
    first_evaluated: PartitionText | None = None
    last_evaluated: PartitionText | None = None
    metrics: list[DeclaredMetric] = Field(default_factory=list)

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        """Refuse an incomplete evaluation, and one on partitions that the model learns from."""
        raise_together(
            self._require_whole_evaluation,
            self._require_later_evaluation,
            lambda: self._require_order("first_partition", "last_partition"),
            lambda: self._require_order("first_evaluated", "last_evaluated"),
            lambda: require_different(self.metrics),
        )
        return self

    @cached_property
    def counted(self) -> Training:
        """The current form of `training`, with the lengths of these ranges."""
        window = _count(self.first_partition, self.last_partition)
        if not self.first_evaluated or not self.last_evaluated:
            return Training(window=window)
        return Training(
            window=window,
            held_out=_count(self.first_evaluated, self.last_evaluated),
            gap=_count(self.last_partition, self.first_evaluated) - 2,
            metrics=self.metrics,
        )

    def _require_whole_evaluation(self) -> None:
        given = (self.first_evaluated, self.last_evaluated, self.metrics or None)
        if any(given) and not all(given):
            raise inconsistency("an evaluation needs first_evaluated, last_evaluated and metrics")

    def _require_later_evaluation(self) -> None:
        if self.first_evaluated and self.first_evaluated <= self.last_partition:
            raise inconsistency(
                f"first_evaluated must be later than last_partition {self.last_partition}", "first_evaluated"
            )

    def _require_order(self, first: str, last: str) -> None:
        since, until = getattr(self, first), getattr(self, last)
        if until and since and until < since:
            raise inconsistency(f"{last} {until} is earlier than {first} {since}", last)


def _count(first: str, last: str) -> int:
    """Return the number of partitions from first to last, both included."""
    count, each = 1, Partition(first)
    while each < last:
        count, each = count + 1, each.later(1)
    return count


def _scheduler_cron(value: str) -> str:
    """Refuse a cron schedule that EventBridge Scheduler, which starts retraining, cannot run."""
    try:
        scheduler_cron(value)
    except ContractError as error:
        raise fault(error.what) from error
    return value


class Training(DeclarationPart):
    """What the retraining pipeline learns from and how it judges candidates; all counts are partitions.

    Attributes:
        window: The most partitions to learn from; fewer near `partitions.start`.
        held_out: How many later partitions judge the candidate and the champion.
        gap: How many partitions are left out between the training and the held-out partitions.
        metrics: The metrics that judge models; the first one decides. Without metrics a person decides.
        slices: Prediction columns; a candidate must not be worse for any of their values.
        margin: How much better a candidate must be, as a share of the champion's value.
        approval: Whether a better candidate is approved automatically (`auto`) or by a person (`manual`); by
            default automatically if there are metrics.
        schedule: When retraining starts, as a cron schedule in UTC; by default never.
        on_drift: Whether drift and decayed accuracy start retraining.
        cool_down: For how many partitions after a retraining drift and decayed accuracy start no other one.
    """

    window: int = Field(default=60, ge=1)
    held_out: int = Field(default=14, ge=1)
    gap: int = Field(default=1, ge=0)
    metrics: list[DeclaredMetric] = Field(default_factory=list)
    slices: list[str] = Field(default_factory=list)
    margin: float = Field(default=0.01, ge=0, lt=1)
    approval: Literal["auto", "manual"] | None = None
    schedule: Annotated[str, AfterValidator(_scheduler_cron)] | None = None
    on_drift: bool = True
    cool_down: int = Field(default=7, ge=0)

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        """Refuse options that need metrics if there are none, and repeated metrics or slices."""
        raise_together(
            lambda: require_different(self.metrics),
            self._require_different_slices,
            self._require_metrics,
        )
        return self

    def _require_different_slices(self) -> None:
        for number, column in enumerate(self.slices):
            if column in self.slices[:number]:
                raise inconsistency(f"{column} is declared twice", "slices", number)

    def _require_metrics(self) -> None:
        if self.metrics:
            return
        if self.approval == "auto":
            raise inconsistency(
                "candidates cannot be compared without metrics: declare `metrics`, or `approval: manual`",
                "approval",
            )
        if self.slices:
            raise inconsistency("slices are judged by the first of `metrics`, but none is declared", "slices")

    @property
    def is_approved_by_rule(self) -> bool:
        """Whether a better candidate is approved automatically."""
        return bool(self.metrics) if self.approval is None else self.approval == "auto"

    @property
    def judging(self) -> Judging:
        """How candidates are judged, in the form that jobs read."""
        return Judging(
            slices=tuple(self.slices), margin=self.margin, is_approved_by_rule=self.is_approved_by_rule
        )


def _training(value: object) -> Training | TrainingRange:
    if isinstance(value, Training | TrainingRange):
        return value
    is_range = isinstance(value, Mapping) and not value.keys().isdisjoint(TRAINING_PARTITIONS)
    return (TrainingRange if is_range else Training).model_validate(value)


DeclaredTraining = Annotated[
    Training | TrainingRange, PlainValidator(_training, json_schema_input_type=Training | TrainingRange)
]
