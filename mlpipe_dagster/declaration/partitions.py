"""Which partitions a model has, and when they are scored."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from mlpipe_dagster.declaration.values import DeclaredModel, PartitionText, inconsistency, raise_together
from prediction_contract.jobs.partition_schedule import USUAL_CRONS
from prediction_contract.naming.batch import Partition

_FORMS = {"daily": "2013-02-01", "hourly": "2013-02-01T05"}


def _cron(value: str) -> str:
    # Not while definitions load, unless a file gives one.
    from dagster._utils.schedules import is_valid_cron_string  # noqa: PLC0415

    if not is_valid_cron_string(value):
        raise ValueError("it is no cron schedule of five fields, say 0 6 * * *")
    return value


class Partitions(DeclaredModel):
    """Which partitions the model has, in UTC.

    Attributes:
        kind: Days or hours.
        start: The first.
        end: The first that is no longer one; without it, the present one is the last.
    """

    kind: Literal["daily", "hourly"] = "daily"
    start: PartitionText
    end: PartitionText | None = None

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        """Refuse days of an hourly model, hours of a daily one, and a range without a partition."""
        raise_together(
            lambda: require_kind(self.kind, self.start, "start"),
            lambda: require_kind(self.kind, self.end, "end"),
            self._require_order,
        )
        return self

    def _require_order(self) -> None:
        # A day and an hour have no order, and one of them is refused already.
        if self.end is not None and len(self.end) == len(self.start) and self.end <= self.start:
            raise inconsistency(f"end {self.end} is not later than start {self.start}", "end")


def require_kind(kind: str, partition: str | None, *field: str) -> None:
    """Refuse a partition of the other kind; None is none at all.

    Raises:
        ValidationError: It is one.
    """
    if partition is not None and Partition(partition).is_hourly != (kind == "hourly"):
        raise inconsistency(f"{partition} is not {kind}: write it as {_FORMS[kind]}", *field)


class DeclaredSchedule(DeclaredModel):
    """When the model is scored without anybody's asking: by Dagster, or by SageMaker where that produces it.

    Attributes:
        cron: Five fields, in UTC; 01:00 for days and ten minutes past for hours unless given.
        partition: The one that ended last before the tick, or the current one, which the tick lies in.
        running: Whether the schedule runs from the start; otherwise a person turns it on.
    """

    cron: Annotated[str, AfterValidator(_cron)] | None = None
    partition: Literal["ended", "current"] = "ended"
    running: bool = Field(default=False)

    def cron_of(self, partitions: Partitions) -> str:
        """Return the cron schedule."""
        return self.cron or USUAL_CRONS[partitions.kind]
