"""Whether what readers see lasts, and whether each due partition has its batch: questions to the registry."""

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
    """Yes or no, with the reason as a sentence."""

    passed: bool
    text: str


def reload_margin(items_life: timedelta) -> timedelta:
    """Return how long before its items expire a live batch is loaded again: a quarter of their life.

    The shortest declared life of two days leaves twelve hours, which no job comes near.
    """
    return items_life / 4


def served_batches(platform: Platform, model: str) -> tuple[list[BatchRecord], list[LivePointer]]:
    """Return the batches that some region serves, and the regions' pointers."""
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
    """Return the served batches that are to be loaded again now."""
    margin = reload_margin(items_life)
    return [record for record in records if needs_reload(record, pointers, now=now, margin=margin)]


def live_batches_last(
    records: Iterable[BatchRecord], *, now: datetime, items_life: timedelta
) -> CheckVerdict:
    """Whether no served batch is so near its expiry that its re-load should have happened already."""
    half = reload_margin(items_life) / 2
    known = [record for record in records if record.items_expire_at]
    for record in known:
        left = parse_utc(str(record.items_expire_at)) - now
        if left < half:
            return CheckVerdict(
                False,
                f"The items of {record.batch_id}, which is served, expire at {record.items_expire_at}: load "
                f"it again with `mlpipe load {record.manifest_key} --again`",
            )
    if not known:
        return CheckVerdict(True, "No batch is live")
    first = min(str(record.items_expire_at) for record in known)
    return CheckVerdict(True, f"What is served lasts until {first}, and is loaded again before")


def due_partition(
    partitions: dg.PartitionsDefinition[str], due_after: timedelta, now: datetime
) -> Partition | None:
    """Return the last partition whose batch is due, or None if none is yet, or time does not part them."""
    kind = kind_of_partitions(partitions)
    if kind is None or not isinstance(partitions, dg.TimeWindowPartitionsDefinition):
        return None
    ended = now.astimezone(UTC) - due_after
    if partitions.end is not None:
        ended = min(ended, partitions.end)
    due = Partition.at(ended, kind).earlier(1)
    return due if due.start >= partitions.start else None


def partition_is_fresh(registry: RegistryTable, model: str, partition: Partition) -> CheckVerdict:
    """Whether a due partition has a batch that was verified and passed its checks, or was published."""
    states = []
    for record in registry.batches_of(model, partition):
        is_fit = record.published_sequence is not None or not record.check_faults
        is_kept = record.release_state != ReleaseState.WITHDRAWN
        if record.load_state == LoadState.VERIFIED and is_fit and is_kept:
            return CheckVerdict(True, f"{partition} has batch {record.batch_id}")
        states.append(f"{record.batch_id} is {record.load_state}, {record.release_state}")
    return CheckVerdict(
        False, f"{partition} is due and has no batch fit to be served ({'; '.join(states) or 'none at all'})"
    )
