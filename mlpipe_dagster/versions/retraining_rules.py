"""The rules of automatic retraining: the model drifts, and was not retrained recently."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from prediction_contract.naming.batch import Partition

# A single batch may drift because of a holiday.
_DRIFTED_BATCHES, _EXAMINED_BATCHES = 2, 3


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedBatch:
    """The drift check's result for one batch.

    Attributes:
        batch_id: The batch.
        partition: Its partition.
        model_version: The version that scored it, as its manifest names it.
        has_moved: Whether it drifted from a live batch that the same version scored. It is false if another
            version scored the live batch, because drift is then expected.
    """

    batch_id: str
    partition: Partition
    model_version: str
    has_moved: bool


@dataclass(frozen=True, slots=True)
class RetrainingCause:
    """Why a model should be retrained: `drift` or `accuracy`, and a sentence for people."""

    cause: str
    text: str


def newest_of_partitions(judged: Iterable[JudgedBatch]) -> list[JudgedBatch]:
    """Return each partition's newest batch, the newest partition first."""
    newest: dict[Partition, JudgedBatch] = {}
    for each in judged:
        known = newest.get(each.partition)
        if known is None or each.batch_id > known.batch_id:
            newest[each.partition] = each
    return [newest[partition] for partition in sorted(newest, reverse=True)]


def drift_cause(judged: Sequence[JudgedBatch], champion: str) -> RetrainingCause | None:
    """Return a cause if two of the champion's last three batches have drifted, else None.

    Args:
        judged: Each partition's newest batch, the newest first.
        champion: The champion's digest; batches of earlier versions do not count.
    """
    examined = [each for each in judged if each.model_version == champion][:_EXAMINED_BATCHES]
    moved = [each for each in examined if each.has_moved]
    if len(moved) < _DRIFTED_BATCHES:
        return None
    names = ", ".join(f"{each.partition} ({each.batch_id})" for each in moved)
    return RetrainingCause(
        "drift", f"{len(moved)} of the champion's last {len(examined)} batches have drifted: {names}"
    )


def has_cooled_down(newest: Partition, retrained_at: Iterable[Partition], cool_down: int) -> bool:
    """Return whether enough partitions have passed since the last retraining.

    Args:
        newest: The partition of the champion's newest batch.
        retrained_at: The newest partition used by each known retraining.
        cool_down: The least number of partitions between two retrainings.
    """
    last = max(retrained_at, default=None)
    return last is None or newest.earlier(cool_down) > last
