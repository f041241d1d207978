"""Which partition a schedule's tick scores; whoever keeps the schedule, Dagster or SageMaker, asks here."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from prediction_contract.errors import InvalidNameError
from prediction_contract.naming.batch import PARTITION_PATTERN, Partition

# The partition that ended last before the tick, or the current one, which the tick lies in.
DUE_PARTITIONS = ("ended", "current")

_TEXT = re.compile(
    f"(?P<due>{'|'.join(DUE_PARTITIONS)}):(?P<start>{PARTITION_PATTERN})(?::(?P<end>{PARTITION_PATTERN}))?"
)


@dataclass(frozen=True, slots=True)
class PartitionSchedule:
    """A model's partitions, and which of them a tick is to score.

    Attributes:
        due: One of `DUE_PARTITIONS`.
        start: The first partition; all are of its kind.
        end: The first that is no longer one, or None where there is no last one.

    Raises:
        InvalidNameError: A part has another form, or the end is not a later partition of the same kind.
    """

    due: str
    start: Partition
    end: Partition | None = None

    def __post_init__(self) -> None:
        if self.due not in DUE_PARTITIONS:
            raise InvalidNameError(
                f"{self.due[:80]!r} does not say which partition is due",
                remedy=f"Say {' or '.join(DUE_PARTITIONS)}",
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
        """Return the schedule of a job argument: `ended:2013-01-01` or `ended:2013-01-01:2014-01-01`.

        Raises:
            InvalidNameError: The text has another form.
        """
        found = _TEXT.fullmatch(text)
        if found is None:
            raise InvalidNameError(
                f"{text[:80]!r} tells of no partitions", remedy="Write them as ended:2013-01-01:2014-01-01"
            )
        end = found["end"]
        return cls(found["due"], Partition(found["start"]), None if end is None else Partition(end))

    def __str__(self) -> str:
        return ":".join((self.due, self.start, *([] if self.end is None else [self.end])))

    def due_partition(self, moment: datetime) -> Partition:
        """Return the partition that a tick at a moment is to score, whether the model has it or not.

        Raises:
            InvalidNameError: The moment has no time zone.
        """
        current = Partition.at(moment, self.start.kind)
        return current if self.due == "current" else current.earlier(1)

    def has(self, partition: Partition) -> bool:
        """Tell whether a partition is one of the model's."""
        is_alike = partition.kind is self.start.kind
        return is_alike and self.start <= partition and (self.end is None or partition < self.end)
