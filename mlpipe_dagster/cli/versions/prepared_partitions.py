"""Finds a model's newest partition with known outcomes: it and the next one have prepared features."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from prediction_contract.errors import ContractError, InvalidNameError
from prediction_contract.jobs.partition_schedule import PartitionSchedule
from prediction_contract.naming.batch import Partition
from prediction_contract.naming.partition_kind import HOURLY
from prediction_contract.naming.s3_layout import model_features_prefix, partition_features_prefix

_INDEX = "/features.json"


class NothingPreparedError(ContractError):
    """No two consecutive partitions of a model have features."""


def newest_known_partition(s3: Any, bucket: str, model: str, schedule: PartitionSchedule) -> Partition:
    """Return the newest partition with features whose next partition also has features, for its outcomes.

    Args:
        s3: A boto3 client.
        bucket: The data bucket.
        model: The model's name.
        schedule: The model's partitions.

    Raises:
        NothingPreparedError: No such partition exists.
    """
    later: Partition | None = None
    for found in _prepared(s3, bucket, model, schedule):
        if later == found.later(1) and schedule.has(found):
            return found
        later = found
    raise NothingPreparedError(
        "No two consecutive partitions have features, so no outcomes are known",
        remedy=f"Prepare features, or name the last partition to use: `mlpipe retrain {model} --last "
        f"{schedule.start.kind.example}`",
        model=model,
    )


def _prepared(s3: Any, bucket: str, model: str, schedule: PartitionSchedule) -> Iterator[Partition]:
    """Yield the partitions that have features, newest first."""
    prefix = model_features_prefix(model)
    kind = schedule.start.kind
    for folder in reversed(_folders(s3, bucket, prefix)):
        folders = [folder]
        if kind is HOURLY:
            hours = _folders(s3, bucket, f"{prefix}{folder}/")
            folders = [f"{folder}/{hour}" for hour in reversed(hours)]
        for path in folders:
            try:
                partition = Partition.from_path(path)
            except InvalidNameError:
                continue
            if partition.kind is kind and _has_index(s3, bucket, model, partition):
                yield partition


def _has_index(s3: Any, bucket: str, model: str, partition: Partition) -> bool:
    pages = s3.get_paginator("list_objects_v2").paginate(
        Bucket=bucket, Prefix=partition_features_prefix(model, partition)
    )
    return any(item["Key"].endswith(_INDEX) for page in pages for item in page.get("Contents", ()))


def _folders(s3: Any, bucket: str, prefix: str) -> list[str]:
    """Return the names of the folders below a prefix, in order."""
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix, Delimiter="/")
    found = [item["Prefix"] for page in pages for item in page.get("CommonPrefixes", ())]
    return sorted(each.removeprefix(prefix).rstrip("/") for each in found)
