"""Finds faults of one model from its registry records, without I/O."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from mlpipe_dagster.cli.health.health_findings import HealthFinding, Severity
from prediction_contract.naming.batch import BatchId
from prediction_contract.naming.s3_layout import done_key
from prediction_contract.registry.records import (
    BatchRecord,
    LivePointer,
    LivePointers,
    LoadState,
    ReleaseState,
    RetentionRecord,
)
from prediction_contract.registry.retention_rules import needs_reload, needs_sweep, protected_batches
from prediction_contract.text.utc_time import format_utc, parse_utc

# A load takes minutes, so a batch that waits longer is stuck.
WAITS_TOO_LONG = timedelta(hours=1)
# How long before a live batch's items expire there is a warning.
EXPIRY_MARGIN = timedelta(days=7)
# The sweep runs daily and may fail once or twice.
_SWEEPS_LATE = timedelta(days=3)
_STAGED_BATCH = re.compile("([0-9]{8}T[0-9]{6}Z)_([0-9A-F]{8})_")
# A refusal older than this, or of a batch older than the live one, is history.
_RECENT = timedelta(days=7)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRecords:
    """A model's registry records.

    Attributes:
        model: The model's name.
        batches: The batches to check, oldest first.
        live_pointers: The live pointers of all regions.
        rollback_target: The batch that a rollback would make live; None if there is none.
        retention: The record of the last sweep.
        minimum_life: The least remaining lifetime of a batch's items when it becomes live.
        now: The current time.
    """

    model: str
    batches: Sequence[BatchRecord]
    live_pointers: LivePointers
    rollback_target: BatchRecord | None
    retention: RetentionRecord
    minimum_life: timedelta
    now: datetime

    @property
    def pointers(self) -> list[LivePointer]:
        """The live pointers of all regions."""
        return [
            pointer for pointer in (self.live_pointers.home, *self.live_pointers.regions.values()) if pointer
        ]

    def finding(
        self, severity: Severity, topic: str, what: str, remedy: str, batch_id: str | None = None
    ) -> HealthFinding:
        """Return a finding about the model or one of its batches."""
        return HealthFinding(
            severity=severity, topic=topic, what=what, remedy=remedy, model=self.model, batch_id=batch_id
        )


def model_findings(records: ModelRecords) -> Iterator[HealthFinding]:
    """Yield findings about a model's pointers, rows, expiry, retention, refusals and loads."""
    yield from _pointer_findings(records)
    yield from _row_findings(records)
    yield from _expiry_findings(records)
    yield from _retention_findings(records)
    for batch in records.batches:
        yield from _batch_findings(records, batch)


def _pointer_findings(records: ModelRecords) -> Iterator[HealthFinding]:
    home = records.live_pointers.home
    if home is None or home.batch_id is None:
        yield records.finding(
            Severity.NOTE,
            "pointers",
            "Nothing is live",
            f"Publish a batch; see `mlpipe batches {records.model}`",
        )
        return
    if home.hold:
        yield records.finding(
            Severity.NOTE,
            "hold",
            "Automatic publication is on hold",
            f"Run `mlpipe hold {records.model} --release` once its reason is gone",
            home.batch_id,
        )
    for region, pointer in records.live_pointers.regions.items():
        if pointer is None or pointer.batch_id != home.batch_id:
            serves = f"serves {pointer.batch_id}" if pointer and pointer.batch_id else "serves nothing"
            yield records.finding(
                Severity.WARNING,
                "pointers",
                f"{region} {serves}, but home has {home.batch_id} since {home.published_at}",
                f"Check the online table's replica in {region}: the pointer follows once it is complete",
                home.batch_id,
            )


def _row_findings(records: ModelRecords) -> Iterator[HealthFinding]:
    served = {pointer.batch_id for pointer in records.pointers}
    for batch in records.batches:
        if batch.batch_id not in served:
            continue
        if batch.accepted_rows == 0:
            yield records.finding(
                Severity.ERROR,
                "rows",
                f"It is served although none of its {batch.row_count} rows was accepted",
                f"Roll back, or publish another batch: see `mlpipe batches {records.model}`",
                batch.batch_id,
            )
        elif batch.accepted_rows is None:
            yield records.finding(
                Severity.WARNING,
                "rows",
                "It was verified by an earlier release, which did not record its accepted rows",
                f"Run `mlpipe load {batch.manifest_key} --again`; until then it cannot be rolled back to",
                batch.batch_id,
            )


def _expiry_findings(records: ModelRecords) -> Iterator[HealthFinding]:
    pointers = records.pointers
    for batch in records.batches:
        if needs_reload(batch, pointers, now=records.now, margin=EXPIRY_MARGIN):
            soon = needs_reload(batch, pointers, now=records.now, margin=records.minimum_life)
            yield records.finding(
                Severity.ERROR if soon else Severity.WARNING,
                "expiry",
                f"It is served, and its items expire at {batch.items_expire_at}",
                f"Run `mlpipe load {batch.manifest_key} --again`, or publish a newer batch",
                batch.batch_id,
            )


def _retention_findings(records: ModelRecords) -> Iterator[HealthFinding]:
    late = records.now - _SWEEPS_LATE
    needed = protected_batches(records.live_pointers.home, records.rollback_target)
    overdue = [
        batch
        for batch in records.batches
        if batch.retain_until is not None
        and parse_utc(batch.retain_until) < late
        and needs_sweep(batch, needed, now=records.now)
    ]
    if overdue:
        yield records.finding(
            Severity.WARNING,
            "retention",
            f"At least {len(overdue)} batches are past their retention but not deleted yet, the oldest "
            f"since {overdue[0].retain_until}",
            "Check that the sensor `retention` is running, and why the job's last run kept them",
            overdue[0].batch_id,
        )
    if records.retention.not_vacuumed:
        yield records.finding(
            Severity.WARNING,
            "retention",
            f"The sweep of {records.retention.swept_at} left files in the Delta table's folder: "
            f"{records.retention.not_vacuumed.rstrip('.')}",
            "Restore the registered done file; the next sweep then deletes the files",
        )


def _batch_findings(records: ModelRecords, batch: BatchRecord) -> Iterator[HealthFinding]:
    if batch.claim_token is not None and batch.claim_job_run_id is None:
        confirm_by = batch.claim_confirm_by
        if confirm_by is None or confirm_by < format_utc(records.now):
            yield records.finding(
                Severity.WARNING,
                "claims",
                f"Its load was claimed, but no job run confirmed the claim by {confirm_by}",
                f"Run `mlpipe load {batch.manifest_key}`: it replaces the claim",
                batch.batch_id,
            )
    elif batch.load_state == LoadState.REFUSED:
        yield _refusal(records, batch)
    elif _is_blocked(records, batch):
        yield records.finding(
            Severity.WARNING,
            "blocked",
            f"Its checks keep it from being published: {batch.check_faults}",
            f"Compare it with the live batch by `mlpipe diff`; publish it by `mlpipe publish {records.model} "
            f"{batch.batch_id}` if it is right, or score the partition again",
            batch.batch_id,
        )
    elif batch.claim_token is None and batch.load_state in {LoadState.DONE, LoadState.LOADED}:
        # For a repeated load the time counts from when it began to write.
        since = batch.writing_begun_at and parse_utc(batch.writing_begun_at)
        if (since or BatchId(batch.batch_id).minted_at) < records.now - WAITS_TOO_LONG:
            yield _waiting(records, batch)


def _is_blocked(records: ModelRecords, batch: BatchRecord) -> bool:
    home = records.live_pointers.home or LivePointer(model=records.model)
    live = (home.partition or "", home.batch_id or "")
    return (
        batch.load_state == LoadState.VERIFIED
        and batch.release_state == ReleaseState.UNPUBLISHED
        and bool(batch.check_faults)
        and (batch.partition, batch.batch_id) > live
    )


def _refusal(records: ModelRecords, batch: BatchRecord) -> HealthFinding:
    live = records.live_pointers.home.batch_id if records.live_pointers.home else None
    is_history = live is not None and batch.batch_id < live
    is_old = BatchId(batch.batch_id).minted_at < records.now - _RECENT
    return records.finding(
        Severity.NOTE if is_history or is_old else Severity.WARNING,
        "refused",
        f"It is refused: {batch.refusal_reason or 'no reason is recorded'}",
        f"See `mlpipe quarantine {records.model} {batch.batch_id}`, correct the cause, and score a new batch",
        batch.batch_id,
    )


def _waiting(records: ModelRecords, batch: BatchRecord) -> HealthFinding:
    is_loaded = batch.load_state == LoadState.LOADED
    return records.finding(
        Severity.WARNING,
        "waiting",
        "It is loaded, but no check has verified it"
        if is_loaded
        else "Its done file is registered, but nothing loads it",
        f"Look at its runs in Dagster, then run `mlpipe load {batch.manifest_key}`",
        batch.batch_id,
    )


def projection_findings(
    records: ModelRecords, highest: int, gaps: Sequence[tuple[int, int]]
) -> Iterator[HealthFinding]:
    """Yield findings about a model's projection in Snowflake.

    Args:
        records: The model's records.
        highest: The highest sequence in Snowflake; 0 if there is none.
        gaps: The gaps below it, each as the two sequences around the missing publications.
    """
    newest = records.live_pointers.home.sequence if records.live_pointers.home else 0
    missing = [f"publications between {before} and {after}" for before, after in gaps]
    if newest > highest:
        missing.append(f"the publications after {highest} up to {newest}")
    if missing:
        yield records.finding(
            Severity.ERROR if newest > highest else Severity.WARNING,
            "projection",
            f"Snowflake lacks {', '.join(missing)}"
            + (": its live view shows an older batch" if newest > highest else ""),
            "Wait: the sensor projects them within hours. The next publish, rollback or hold does so at once",
        )
    if highest > newest:
        yield records.finding(
            Severity.ERROR,
            "projection",
            f"Snowflake holds publication {highest}, which the registry does not know",
            "If the registry was restored, publish the right batch; if that is already live, hold and "
            "release. Both continue with numbers above Snowflake's",
        )


def staging_findings(
    records: ModelRecords, tables: Sequence[str], is_claimed: Callable[[str], bool]
) -> Iterator[HealthFinding]:
    """Yield a finding for each staging table that a load has left behind.

    Args:
        records: The model's records.
        tables: The names of all tables in Snowflake's schema.
        is_claimed: Returns whether a load of a batch is claimed.
    """
    prefix = f"{records.model.upper()}_STAGING_"
    for name in tables:
        found = _STAGED_BATCH.match(name.removeprefix(prefix)) if name.startswith(prefix) else None
        if found and not is_claimed(f"{found[1]}-{found[2].lower()}"):
            yield records.finding(
                Severity.WARNING,
                "staging",
                f"Snowflake keeps the staging table {name}, but no load of its batch is claimed",
                "Wait: the next load of the batch drops it, or after a day any load of the model",
            )


def unregistered_findings(
    model: str, done_files: Mapping[str, datetime], known: set[str], now: datetime
) -> Iterator[HealthFinding]:
    """Yield a finding for each done file that the sensor has not registered in time.

    Args:
        model: The model's name.
        done_files: When each batch's done file was put, by batch id.
        known: The batches in the registry.
        now: The current time.
    """
    for batch_id, put_at in done_files.items():
        if batch_id not in known and put_at < now - WAITS_TOO_LONG:
            yield HealthFinding(
                severity=Severity.WARNING,
                topic="done_files",
                what=f"Its done file was put at {format_utc(put_at)}, but the registry lacks the batch",
                remedy=f"Check that the sensor is running, or run `mlpipe load {done_key(model, batch_id)}`",
                model=model,
                batch_id=batch_id,
            )
