"""The partitions that a retraining trains on and judges on, and the newest one that it may use."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Self

from prediction_contract.errors import ContractError, InvalidNameError
from prediction_contract.jobs.partition_schedule import PartitionSchedule
from prediction_contract.naming.batch import Partition
from prediction_contract.naming.partition_kind import HOURLY
from prediction_contract.naming.s3_layout import model_features_prefix, partition_features_prefix

_INDEX = "/features.json"


class RetrainingRangeError(ContractError):
    """There are no partitions to train on, or none to judge on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrainingRange:
    """The partitions of one retraining. All bounds are inclusive.

    Attributes:
        first: The first partition to train on.
        last: The last partition to train on.
        first_held_out: The first partition to judge on; None for a model without metrics.
        last_held_out: The last partition to judge on; None for a model without metrics.
    """

    first: str
    last: str
    first_held_out: str | None
    last_held_out: str | None

    @classmethod
    def up_to(
        cls,
        newest: Partition,
        *,
        model: str,
        start: Partition,
        window: int,
        held_out: int,
        gap: int,
        is_judged: bool,
    ) -> Self:
        """Return the range that ends with a partition.

        Args:
            newest: The last partition of the range.
            model: The model's name.
            start: The model's first partition.
            window: The maximum number of partitions to train on.
            held_out: The number of later partitions to judge on.
            gap: The number of partitions to leave out between training and judging.
            is_judged: Whether any partitions are held out.

        Raises:
            RetrainingRangeError: No partition is left to train on.
        """
        first_held_out = newest.earlier(held_out - 1) if is_judged else None
        last = newest if first_held_out is None else first_held_out.earlier(1 + gap)
        if last < start:
            raise RetrainingRangeError(
                f"No partition is left to learn from: partitions begin with {start}, and of those up to "
                f"{newest} {held_out} are held out after a gap of {gap}",
                remedy="Retrain once there are more partitions, or declare a smaller `held_out` in defs.yaml",
                model=model,
            )
        return cls(
            first=str(max(start, last.earlier(window - 1))),
            last=str(last),
            first_held_out=None if first_held_out is None else str(first_held_out),
            last_held_out=None if first_held_out is None else str(newest),
        )

    @property
    def newest(self) -> Partition:
        """The last partition of the range."""
        return Partition(self.last_held_out or self.last)

    def digest(self, code_version: str, attempt: int) -> str:
        """Return the digest of this range, a code version and an attempt."""
        named = json.dumps([asdict(self), code_version, attempt], sort_keys=True)
        return hashlib.sha256(named.encode()).hexdigest()[:32]

    def to_bytes(self) -> bytes:
        """Return the document."""
        return json.dumps(asdict(self), sort_keys=True).encode()

    @classmethod
    def parse(cls, content: bytes) -> Self:
        """Return the range in a document.

        Raises:
            RetrainingRangeError: The document is invalid.
        """
        try:
            return cls(**json.loads(content))
        except (TypeError, ValueError, RecursionError) as error:
            raise RetrainingRangeError(
                f"The range of a retraining cannot be read: {error}", remedy="Start a new retraining"
            ) from error


def newest_known_partition(s3: Any, bucket: str, model: str, schedule: PartitionSchedule) -> Partition:
    """Return the newest partition with features whose next partition also has features, for its outcomes.

    Args:
        s3: A boto3 client.
        bucket: The data bucket.
        model: The model's name.
        schedule: The model's partitions.

    Raises:
        RetrainingRangeError: No such partition exists.
    """
    later: Partition | None = None
    for found in _prepared(s3, bucket, model, schedule):
        if later == found.later(1) and schedule.has(found):
            return found
        later = found
    raise RetrainingRangeError(
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
