"""A model's partitions as Dagster names them, and what is said of one that is none of them."""

from __future__ import annotations

from typing import Any

import dagster as dg

from prediction_contract.errors import InvalidNameError
from prediction_contract.naming.batch import Partition


class HourlyPartitions(dg.HourlyPartitionsDefinition):
    """Hours under Dagster's own keys, `2013-02-01-05:00`, where files and `mlpipe` say `2013-02-01T05`."""

    def validate_partition_key(self, partition_key: str, context: Any) -> None:
        """Refuse what is no key; the files' spelling of an hour is told how Dagster spells it.

        Raises:
            InvalidNameError: It is an hour as files spell it.
            DagsterUnknownPartitionError: It is no partition.
        """
        try:
            key = Partition(partition_key).dagster_key
        except InvalidNameError:
            key = partition_key
        if key != partition_key:
            raise InvalidNameError(
                f"{partition_key} is how files name an hour, and Dagster names it {key}",
                remedy=f"Pass {key}",
            )
        super().validate_partition_key(partition_key, context)


def why_no_partition(
    model: str, partition: Partition, known: dg.PartitionsDefinition[str]
) -> tuple[str, str]:
    """Return the sentence about a partition that a model has not, and what to do with a batch of it.

    Args:
        model: The model's name.
        partition: The partition.
        known: The partitions that the code location knows; days or hours.
    """
    what = f"{partition} is no partition of {model}"
    remedy = (
        "Deliver a batch of another partition, or correct the declaration, reload the code location and "
        "deliver this file again"
    )
    if not isinstance(known, dg.TimeWindowPartitionsDefinition):
        return what, remedy
    declared = f"in defs/{model}/defs.yaml"
    is_hourly = "%H" in known.fmt
    if partition.is_hourly != is_hourly:
        return f"{what}: `partitions.kind` {declared} is {'hourly' if is_hourly else 'daily'}", remedy
    form = "%Y-%m-%dT%H" if is_hourly else "%Y-%m-%d"
    if partition.start < known.start:
        return f"{what}: `partitions.start` {declared} is {known.start:{form}}", remedy
    if known.end is not None and partition.start >= known.end:
        return f"{what}: `partitions.end` {declared} is exclusive: {known.end:{form}}", remedy
    return f"{what} yet: it begins at {partition.start:%Y-%m-%d %H:%M} UTC", "Deliver this file again then"
