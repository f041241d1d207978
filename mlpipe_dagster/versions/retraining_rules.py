"""When a model is retrained without anybody's asking: it drifts, and was not just retrained."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from prediction_contract.naming.batch import Partition

# One batch that drifts may be a holiday.
_WARNED, _LOOKED_AT = 2, 3


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedBatch:
    """What the drift check found of one batch.

    Attributes:
        batch_id: The batch.
        partition: Its partition.
        model_version: The version that scored it, as its manifest names it.
        has_moved: Whether its values moved from those of the live batch, which the same version had scored.
            Beside a batch of another version a shift is by design, and says nothing.
    """

    batch_id: str
    partition: Partition
    model_version: str
    has_moved: bool


@dataclass(frozen=True, slots=True)
class RetrainingCause:
    """Why a model is to be retrained: `drift` or `accuracy`, and in a sentence."""

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
    """Return why drift speaks for a retraining: two of the champion's last three batches have moved.

    Args:
        judged: Each partition's newest batch, the newest first.
        champion: The champion's digest; batches of earlier versions do not count.
    """
    looked_at = [each for each in judged if each.model_version == champion][:_LOOKED_AT]
    moved = [each for each in looked_at if each.has_moved]
    if len(moved) < _WARNED:
        return None
    names = ", ".join(f"{each.partition} ({each.batch_id})" for each in moved)
    return RetrainingCause(
        "drift", f"{len(moved)} of the champion's last {len(looked_at)} batches have drifted: {names}"
    )


def has_cooled_down(newest: Partition, retrained_at: Iterable[Partition], cool_down: int) -> bool:
    """Return whether the last retraining lies as many partitions back as are declared.

    Args:
        newest: The partition of the champion's newest batch.
        retrained_at: The newest partition that each known retraining looked at.
        cool_down: How many partitions must lie between them.
    """
    last = max(retrained_at, default=None)
    return last is None or newest.earlier(cool_down) > last
