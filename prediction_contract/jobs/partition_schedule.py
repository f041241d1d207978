"""The partition that is due at a schedule's tick, for schedules in Dagster and in SageMaker."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from prediction_contract.errors import InvalidNameError
from prediction_contract.naming.batch import PARTITION_PATTERN, Partition

# The last partition that ended before the tick, or the partition that contains the tick.
DUE_PARTITIONS = ("ended", "current")

_TEXT = re.compile(
    f"(?P<due>{'|'.join(DUE_PARTITIONS)}):(?P<start>{PARTITION_PATTERN})(?::(?P<end>{PARTITION_PATTERN}))?"
)


@dataclass(frozen=True, slots=True)
class PartitionSchedule:
    """A model's partitions, and the rule for which of them is due at a tick.

    Attributes:
        due: One of `DUE_PARTITIONS`.
        start: The first partition. All partitions have its kind.
        end: The partition after the last one, or None if there is no last one.

    Raises:
        InvalidNameError: A part is invalid, or the end is not a later partition of the same kind.
    """

    due: str
    start: Partition
    end: Partition | None = None

    def __post_init__(self) -> None:
        if self.due not in DUE_PARTITIONS:
            raise InvalidNameError(
                f"{self.due[:80]!r} does not tell which partition is due",
                remedy=f"Use {' or '.join(DUE_PARTITIONS)}",
            )
        object.__setattr__(self, "start", Partition(self.start))
        if self.end is None:
            return
        object.__setattr__(self, "end", Partition(self.end))
        if self.end.kind is not self.start.kind or self.end <= self.start:
            raise InvalidNameError(
                f"Partitions from {self.start} do not end before {self.end}",
                remedy="Name a later partition of the same kind",
            )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the schedule in a job argument, `ended:2013-01-01` or `ended:2013-01-01:2014-01-01`.

        Raises:
            InvalidNameError: The text does not have this form.
        """
        found = _TEXT.fullmatch(text)
        if found is None:
            raise InvalidNameError(
                f"{text[:80]!r} is not a partition schedule", remedy="Write it as ended:2013-01-01:2014-01-01"
            )
        end = found["end"]
        return cls(found["due"], Partition(found["start"]), None if end is None else Partition(end))

    def __str__(self) -> str:
        return ":".join((self.due, self.start, *([] if self.end is None else [self.end])))

    def due_partition(self, moment: datetime) -> Partition:
        """Return the partition that is due at a time. It may be outside the model's partitions (see `has`).

        Raises:
            InvalidNameError: The time has no time zone.
        """
        current = Partition.at(moment, self.start.kind)
        return current if self.due == "current" else current.earlier(1)

    def has(self, partition: Partition) -> bool:
        """Return whether a partition is one of the model's."""
        is_alike = partition.kind is self.start.kind
        return is_alike and self.start <= partition and (self.end is None or partition < self.end)
