"""Which partitions a model has, when they are scored, and which of them it learns from."""

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


TRAINING_PARTITIONS = ("first_partition", "last_partition", "first_evaluated", "last_evaluated")


class TrainingRange(DeclarationPart):
    """The form of `training` up to version 0.1: the partitions to learn from and the later ones to judge on.

    All are included. The retraining pipeline takes their counts, and ends with the newest partition.
    """

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

    @cached_property
    def counted(self) -> Training:
        """As many partitions, in the form that is written today."""
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
                f"first_evaluated is not later than last_partition {self.last_partition}", "first_evaluated"
            )

    def _require_order(self, first: str, last: str) -> None:
        since, until = getattr(self, first), getattr(self, last)
        if until and since and until < since:
            raise inconsistency(f"{last} {until} is earlier than {first} {since}", last)


def _count(first: str, last: str) -> int:
    """Return how many partitions there are from one to another, both included."""
    count, each = 1, Partition(first)
    while each < last:
        count, each = count + 1, each.later(1)
    return count


def _scheduler_cron(value: str) -> str:
    """Refuse a cron schedule that EventBridge Scheduler, which starts retraining, could not keep."""
    try:
        scheduler_cron(value)
    except ContractError as error:
        raise fault(error.what) from error
    return value


class Training(DeclarationPart):
    """What the retraining pipeline learns from and how it judges; counts are partitions of the model's kind.

    Attributes:
        window: How many partitions to learn from at most; before `partitions.start` there are none.
        held_out: How many later partitions candidate and champion are judged on.
        gap: How many partitions between the two are left out.
        metrics: By which models are judged. The first decides; without any, a person does.
        slices: Columns of the predictions; in no value of them may a candidate be worse.
        margin: How much better a candidate must be, as a share of the champion's value.
        approval: Whether a better candidate is approved by itself or by a person; left out, by itself if
            there are metrics.
        schedule: When retraining starts, as a cron schedule in UTC; left out, no clock starts it.
        on_drift: Whether drift and decayed accuracy start it.
        cool_down: How many partitions after a retraining neither of them starts the next one.
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
        """Refuse what asks for metrics that are not declared, and metrics or slices that stand twice."""
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
                "without metrics no candidate can be compared: declare `metrics`, or `approval: manual`",
                "approval",
            )
        if self.slices:
            raise inconsistency("slices are judged by the first of `metrics`, and there is none", "slices")

    @property
    def is_approved_by_rule(self) -> bool:
        """Whether a better candidate is approved without a person."""
        return bool(self.metrics) if self.approval is None else self.approval == "auto"

    @property
    def judging(self) -> Judging:
        """How candidates are judged, as a job is told it."""
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
