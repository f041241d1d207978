"""Rules on live batches: they must not expire, and each due partition needs a batch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import dagster as dg

from mlpipe_dagster.pipeline.model_partitions import kind_of_partitions
from mlpipe_dagster.resources.platform import Platform
from prediction_contract.naming.batch import Partition
from prediction_contract.registry.records import BatchRecord, LivePointer, LoadState, ReleaseState
from prediction_contract.registry.retention_rules import needs_reload
from prediction_contract.registry.table import RegistryTable
from prediction_contract.text.utc_time import parse_utc


@dataclass(frozen=True, slots=True)
class CheckVerdict:
    """A check's result: whether it passed, and the reason as a sentence."""

    passed: bool
    text: str


def reload_margin(items_life: timedelta) -> timedelta:
    """Return how long before expiry a live batch is loaded again: a quarter of its items' life.

    The shortest life that can be declared is two days, which leaves twelve hours: more than any load takes.
    """
    return items_life / 4


def served_batches(platform: Platform, model: str) -> tuple[list[BatchRecord], list[LivePointer]]:
    """Return the batches that at least one region serves, and the pointers of all regions."""
    settings, registry = platform.settings, platform.registry
    live_pointers = registry.live_pointers(
        model, home_region=settings.deployment.home, regions=settings.serving_regions
    )
    pointers = [pointer for pointer in (live_pointers.home, *live_pointers.regions.values()) if pointer]
    ids = sorted({pointer.batch_id for pointer in pointers if pointer.batch_id})
    records = (registry.batch(model, batch_id) for batch_id in ids)
    return [record for record in records if record], pointers


def expiring_batches(
    records: Iterable[BatchRecord], pointers: list[LivePointer], *, now: datetime, items_life: timedelta
) -> list[BatchRecord]:
    """Return the served batches that must be loaded again now."""
    margin = reload_margin(items_life)
    return [record for record in records if needs_reload(record, pointers, now=now, margin=margin)]


def expiry_verdict(records: Iterable[BatchRecord], *, now: datetime, items_life: timedelta) -> CheckVerdict:
    """Check that no served batch is so close to expiry that it should already have been loaded again."""
    half = reload_margin(items_life) / 2
    known = [record for record in records if record.items_expire_at]
    for record in known:
        left = parse_utc(str(record.items_expire_at)) - now
        if left < half:
            return CheckVerdict(
                False,
                f"{record.batch_id} is served, but its items expire at {record.items_expire_at}. "
                f"Load it again: `mlpipe load {record.manifest_key} --again`",
            )
    if not known:
        return CheckVerdict(True, "No batch is live")
    first = min(str(record.items_expire_at) for record in known)
    return CheckVerdict(
        True, f"The served items expire at {first} or later, and are loaded again before that"
    )


def due_partition(
    partitions: dg.PartitionsDefinition[str], due_after: timedelta, now: datetime
) -> Partition | None:
    """Return the last partition that is due; None if none is, or if partitions are not time windows."""
    kind = kind_of_partitions(partitions)
    if kind is None or not isinstance(partitions, dg.TimeWindowPartitionsDefinition):
        return None
    ended = now.astimezone(UTC) - due_after
    if partitions.end is not None:
        ended = min(ended, partitions.end)
    due = Partition.at(ended, kind).earlier(1)
    return due if due.start >= partitions.start else None


def freshness_verdict(registry: RegistryTable, model: str, partition: Partition) -> CheckVerdict:
    """Check that a due partition has a verified batch that was published or passed its checks.

    Withdrawn batches do not count.
    """
    states = []
    for record in registry.batches_of(model, partition):
        is_fit = record.published_sequence is not None or not record.check_faults
        is_kept = record.release_state != ReleaseState.WITHDRAWN
        if record.load_state == LoadState.VERIFIED and is_fit and is_kept:
            return CheckVerdict(True, f"{partition} has batch {record.batch_id}")
        states.append(f"{record.batch_id} is {record.load_state}, {record.release_state}")
    return CheckVerdict(
        False, f"{partition} is due but has no batch that may be served: {'; '.join(states) or 'it has none'}"
    )
