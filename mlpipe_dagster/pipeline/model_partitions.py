"""A model's partitions in Dagster, and messages about partitions that a model does not have."""

from __future__ import annotations

from typing import Any

import dagster as dg

from prediction_contract.errors import InvalidNameError
from prediction_contract.naming.batch import Partition
from prediction_contract.naming.partition_kind import (
    DAILY,
    HOURLY,
    MONTHLY,
    PARTITION_KINDS,
    WEEKLY,
    PartitionKind,
)


class _FileSpelling:
    """Refuses a partition in the spelling of files and `mlpipe`, and names Dagster's key for it."""

    def validate_partition_key(self, partition_key: str, context: Any) -> None:
        """Refuse an invalid partition key.

        Raises:
            InvalidNameError: The key is a partition in the spelling of files.
            DagsterUnknownPartitionError: The key is not a partition.
        """
        try:
            partition = Partition(partition_key)
        except InvalidNameError:
            pass
        else:
            if partition.dagster_key != partition_key:
                raise InvalidNameError(
                    f"{partition_key} is the {partition.kind.unit}'s name in files; Dagster's key is "
                    f"{partition.dagster_key}",
                    remedy=f"Pass {partition.dagster_key}",
                )
        super().validate_partition_key(partition_key, context)  # type: ignore[misc]  # a definition's


class HourlyPartitions(_FileSpelling, dg.HourlyPartitionsDefinition):
    """Hours with Dagster's own keys, `2013-02-01-05:00`; files and `mlpipe` use `2013-02-01T05`."""


class WeeklyPartitions(_FileSpelling, dg.WeeklyPartitionsDefinition):
    """Weeks with keys that Dagster can parse, `2013-W06-1`; files and `mlpipe` use `2013-W06`."""


_DEFINITIONS: dict[PartitionKind, Any] = {
    HOURLY: HourlyPartitions,
    DAILY: dg.DailyPartitionsDefinition,
    WEEKLY: WeeklyPartitions,
    MONTHLY: dg.MonthlyPartitionsDefinition,
}


def time_partitions(start: Partition, end: Partition | None) -> dg.TimeWindowPartitionsDefinition:
    """Return the partitions in UTC from `start` on, including the current one, which has not ended.

    Args:
        start: The first partition.
        end: The partition after the last one, of the same kind; None if there is no last one.
    """
    # By default Dagster's weeks begin on Sundays.
    offset = {"day_offset": 1} if start.kind is WEEKLY else {}
    made: dg.TimeWindowPartitionsDefinition = _DEFINITIONS[start.kind](
        start_date=start.start,
        end_date=end.start if end else None,
        timezone="UTC",
        fmt=start.kind.dagster_format,
        # A partition is scored when it begins, so the current one is included.
        end_offset=1,
        **offset,
    )
    return made


def kind_of_partitions(known: dg.PartitionsDefinition[str]) -> PartitionKind | None:
    """Return the kind of a model's partitions in Dagster; None if they are not time partitions."""
    if not isinstance(known, dg.TimeWindowPartitionsDefinition):
        return None
    return next((kind for kind in PARTITION_KINDS.values() if kind.dagster_format == known.fmt), None)


def why_no_partition(
    model: str, partition: Partition, known: dg.PartitionsDefinition[str]
) -> tuple[str, str]:
    """Return why a model does not have a partition, and what to do with a batch of it.

    Args:
        model: The model's name.
        partition: The partition.
        known: The model's partitions in the code location.
    """
    what = f"{partition} is not a partition of {model}"
    remedy = (
        "Deliver a batch of another partition, or correct the declaration, reload the code location and "
        "deliver this file again"
    )
    kind = kind_of_partitions(known)
    if kind is None or not isinstance(known, dg.TimeWindowPartitionsDefinition):
        return what, remedy
    declared = f"in defs/{model}/defs.yaml"
    if partition.kind is not kind:
        return f"{what}: `partitions.kind` {declared} is {kind.name}", remedy
    if partition.start < known.start:
        return f"{what}: `partitions.start` {declared} is {Partition.at(known.start, kind)}", remedy
    if known.end is not None and partition.start >= known.end:
        return f"{what}: `partitions.end` {declared} is {Partition.at(known.end, kind)}, exclusive", remedy
    return (
        f"{what} yet: it begins at {partition.start:%Y-%m-%d %H:%M} UTC",
        "Deliver this file again after that",
    )
