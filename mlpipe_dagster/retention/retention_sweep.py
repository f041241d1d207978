"""The sweep of one model: expired batches leave Snowflake and S3, and the Delta table is vacuumed.

A sweep deletes only data of batches that the registry has retired, which are never restored. Each step can
therefore be repeated at any time, and the next sweep completes one that died.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import chain, takewhile

from mlpipe_dagster.resources.data_bucket import DataBucket
from mlpipe_dagster.resources.warehouse_session import WarehouseSession
from mlpipe_dagster.retention.delta_history import DeltaHistory
from mlpipe_dagster.retention.delta_vacuum import vacuum
from prediction_contract.errors import RuleViolationError
from prediction_contract.naming.batch import BatchId
from prediction_contract.naming.s3_layout import (
    acknowledgements_prefix,
    batch_quarantine_prefix,
    json_batch_prefix,
)
from prediction_contract.registry.load_rules import abandon_claim
from prediction_contract.registry.records import BatchRecord, LoadState, RetentionRecord
from prediction_contract.registry.retention_rules import (
    clear,
    needs_sweep,
    protected_batches,
    record_sweep,
    retire,
)
from prediction_contract.registry.table import RegistryTable
from prediction_contract.registry.transaction import Transaction
from prediction_contract.stores.delta_table import VACUUM_AFTER
from prediction_contract.text.utc_time import format_utc, parse_utc

# If the sweep fails on the day a file is due, a sweep of the next days deletes it.
_VACUUM_WITHIN = timedelta(days=2)
# How long a refused done file may be delivered again, and a batch whose load failed loaded again.
_NOT_LOADED_FOR = timedelta(days=30)
MAX_BATCHES = 500


@dataclass(slots=True, kw_only=True)
class RetiredBatch:
    """The data of a batch that one sweep deleted; deletions of an earlier sweep are not counted again.

    Attributes:
        record: The batch's record before the sweep.
        rows: The number of rows deleted from Snowflake.
        objects: The number of objects deleted from S3: JSON parts, quarantine and acknowledgements.
        bytes: The size of these objects.
    """

    record: BatchRecord
    rows: int = 0
    objects: int = 0
    bytes: int = 0


@dataclass(slots=True, kw_only=True)
class SweepResult:
    """The result of a sweep.

    Attributes:
        retired: The batches that were retired.
        kept: Why other expired batches stay, by batch.
        delta_files: The number of files that left the Delta table's newest version.
        vacuumed_files: The number of files of retired batches or of no batch that were deleted from S3.
        vacuumed_bytes: The size of these files.
        not_vacuumed: Why files that left the table long ago stay on S3; empty if none do.
    """

    retired: list[RetiredBatch] = field(default_factory=list)
    kept: dict[str, str] = field(default_factory=dict)
    delta_files: int = 0
    vacuumed_files: int = 0
    vacuumed_bytes: int = 0
    not_vacuumed: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionSweep:
    """Retires the expired batches of one model.

    Attributes:
        model: The model's name.
        run_id: The id of the Dagster run, under which the sweep claims batches.
        has_ended: Returns whether the run with this id is known to have ended.
        registry: The registry.
        home_region: The home region.
        regions: The other serving regions.
        bucket: The bucket of parts, quarantine and Delta files.
        warehouse: An open session.
        delta: The model's Delta table.
        clock: Returns the current time.
        vacuum_after: How long a file stays after it has left the Delta table's newest version.
        most_batches: The most batches to retire; the next sweep continues.
        on_retired: Called with each batch once its rows and objects are deleted, even if the sweep dies
            later.
    """

    model: str
    run_id: str
    has_ended: Callable[[str], bool]
    registry: RegistryTable
    home_region: str
    regions: tuple[str, ...]
    bucket: DataBucket
    warehouse: WarehouseSession
    delta: DeltaHistory
    clock: Callable[[], datetime]
    vacuum_after: timedelta = VACUUM_AFTER
    most_batches: int = MAX_BATCHES
    on_retired: Callable[[RetiredBatch], None] = lambda _: None

    def sweep(self) -> SweepResult:
        """Retire expired batches, delete their data, and vacuum the Delta table.

        Raises:
            RegistryUnavailableError: The registry did not take a change in time.
            DeltaRemovalError: Scoring jobs committed first for too long.
        """
        swept, tokens, seen = SweepResult(), {}, _SweptBatches()
        projected = self.warehouse.highest_projected(self.model)
        has_rows = self.warehouse.has_predictions(self.model)
        sweep_from = self.registry.retention(self.model).sweep_from
        records = sweep_candidates(self.registry, self.model, sweep_from, now=self.clock())
        needed = protected_batches(
            self.registry.pointer(self.model, self.home_region), self.registry.rollback_target(self.model)
        )
        for record in records:
            deleted = None
            if len(tokens) < self.most_batches and needs_sweep(record, needed, now=self.clock()):
                token = f"retention.{uuid.uuid4().hex}"
                reason = self._claim(record, token, projected)
                if reason is None:
                    tokens[record.batch_id] = token
                    deleted = self._delete(record, has_rows=has_rows)
                    self.on_retired(deleted)
                    swept.retired.append(deleted)
                else:
                    swept.kept[record.batch_id] = reason
            seen.add(record, is_retired=deleted is not None, is_settled=is_settled(record, now=self.clock()))
        has_delta = self.delta.exists()
        if has_delta:
            swept.delta_files = self.delta.remove(tokens)
        for batch_id, token in tokens.items():
            self._clear(batch_id, token)
        if has_delta:
            swept.vacuumed_files, swept.vacuumed_bytes, swept.not_vacuumed = vacuum(
                self.bucket,
                self.delta,
                self.model,
                longer_than=self.vacuum_after,
                now=self.clock(),
                retired=seen.retired,
                kept=chain(self._no_longer_examined(sweep_from), seen.kept),
            )
        found = RetentionRecord(
            model=self.model,
            sweep_from=seen.unsettled_from,
            retained_from=seen.retained_from,
            swept_at=format_utc(self.clock()),
            not_vacuumed=swept.not_vacuumed or None,
        )
        self.registry.carry_out(lambda: record_sweep(found))
        return swept

    def _claim(self, record: BatchRecord, token: str, projected: int) -> str | None:
        """Retire a batch under a claim of this sweep; return the reason if it must stay."""
        try:
            if record.load_state == LoadState.RETIRED and record.claim_token is not None:
                holder = str(record.claim_job_run_id)
                if holder != self.run_id and not self.has_ended(holder):
                    return f"Run {holder} is deleting it"
                self.registry.carry_out(lambda: self._abandon(record.batch_id, holder))
            self.registry.carry_out(lambda: self._retire(record.batch_id, token, projected))
        except RuleViolationError as violation:
            # The answer to our own change may have been lost; the token shows whether it is ours.
            if self._record(record.batch_id).claim_token != token:
                return violation.what
        return None

    def _abandon(self, batch_id: str, holder: str) -> Transaction:
        return abandon_claim(self._record(batch_id), now=self.clock(), ended_job_run_id=holder)

    def _retire(self, batch_id: str, token: str, projected: int) -> Transaction:
        return retire(
            self._record(batch_id),
            token=token,
            run_id=self.run_id,
            home_region=self.home_region,
            regions=self.regions,
            projected_sequence=projected,
            now=self.clock(),
        )

    def _clear(self, batch_id: str, token: str) -> None:
        try:
            self.registry.carry_out(lambda: clear(self._record(batch_id), token=token, now=self.clock()))
        except RuleViolationError:
            # Another sweep took over this claim, or the answer was lost. Either way the batch is cleared.
            return

    def _record(self, batch_id: str) -> BatchRecord:
        return self.registry.batch(self.model, batch_id) or BatchRecord(model=self.model, batch_id=batch_id)

    def _delete(self, record: BatchRecord, *, has_rows: bool) -> RetiredBatch:
        model, batch_id = record.model, record.batch_id
        deleted = RetiredBatch(record=record)
        if has_rows:
            deleted.rows = self.warehouse.delete_batch(model, batch_id)
        prefixes = [batch_quarantine_prefix(model, batch_id), acknowledgements_prefix(model, batch_id)]
        if record.partition:
            prefixes.append(json_batch_prefix(model, record.partition, batch_id))
        for prefix in prefixes:
            objects = list(self.bucket.below(prefix))
            self.bucket.delete(item.key for item in objects)
            deleted.objects += len(objects)
            deleted.bytes += sum(item.size for item in objects)
        return deleted

    def _no_longer_examined(self, sweep_from: str) -> Iterator[BatchRecord]:
        """Yield batches that sweeps no longer examine, but that may still be loaded."""
        earlier = takewhile(lambda record: record.batch_id < sweep_from, self.registry.batches(self.model))
        return (record for record in earlier if _keeps_files(record, is_settled=True))


@dataclass(slots=True)
class _SweptBatches:
    """Collects a sweep's batches in order.

    Attributes:
        unsettled_from: The oldest batch that a later sweep must examine; the newest batch if there is none.
        retained_from: The oldest batch that is not retired; the newest batch if there is none.
        retired: Retired batches that were verified once: no other batch has their files.
        kept: Batches that are not retired.
    """

    unsettled_from: str = ""
    retained_from: str = ""
    retired: list[BatchRecord] = field(default_factory=list)
    kept: list[BatchRecord] = field(default_factory=list)
    _has_unsettled: bool = False
    _has_retained: bool = False

    def add(self, record: BatchRecord, *, is_retired: bool, is_settled: bool) -> None:
        """Add the next batch."""
        is_retired = is_retired or record.load_state == LoadState.RETIRED
        if not self._has_unsettled:
            self.unsettled_from, self._has_unsettled = record.batch_id, not is_settled
        if not self._has_retained:
            self.retained_from, self._has_retained = record.batch_id, not (is_settled or is_retired)
        if is_retired:
            # An unverified manifest may name files of another batch.
            if record.accepted_rows is not None and not is_settled:
                self.retired.append(record)
        elif _keeps_files(record, is_settled=is_settled):
            self.kept.append(record)


def _keeps_files(record: BatchRecord, *, is_settled: bool) -> bool:
    """Return whether a batch's files stay, because it has been loaded or may be.

    If a done file was not a manifest, the registry has no checksum of it, and it cannot be loaded.
    """
    is_over = record.load_state == LoadState.RETIRED or (
        is_settled and record.load_state == LoadState.REFUSED
    )
    return bool(record.checksum) and not is_over


def sweep_candidates(
    registry: RegistryTable, model: str, sweep_from: str, *, now: datetime
) -> Iterator[BatchRecord]:
    """Yield the batches that a sweep must examine, oldest first, reading page by page.

    Batches before `sweep_from` are read only on the first day of a month: a done file that was refused long
    ago may have been delivered again.
    """
    return registry.batches(model, minted_from="" if now.day == 1 else sweep_from)


def model_needs_sweep(registry: RegistryTable, model: str, home_region: str, *, now: datetime) -> bool:
    """Return whether a model has a batch to retire, or Delta files of a retired batch to vacuum."""
    sweep_from = registry.retention(model).sweep_from
    records = sweep_candidates(registry, model, sweep_from, now=now)
    needed = protected_batches(registry.pointer(model, home_region), registry.rollback_target(model))
    return any(needs_sweep(record, needed, now=now) or _needs_vacuum(record, now) for record in records)


def is_settled(record: BatchRecord, *, now: datetime) -> bool:
    """Return whether no later sweep needs to examine the batch.

    A retired batch is settled once its files are vacuumed. A batch that was never loaded is settled 30 days
    after its minting.
    """
    if record.cleared_at is not None:
        return _time_since_cleared(record, now) > VACUUM_AFTER + _VACUUM_WITHIN
    was_never_loaded = record.retain_until is None and record.claim_token is None
    return was_never_loaded and now - BatchId(record.batch_id).minted_at > _NOT_LOADED_FOR


def _needs_vacuum(record: BatchRecord, now: datetime) -> bool:
    return record.cleared_at is not None and VACUUM_AFTER <= _time_since_cleared(record, now) <= (
        VACUUM_AFTER + _VACUUM_WITHIN
    )


def _time_since_cleared(record: BatchRecord, now: datetime) -> timedelta:
    return now - parse_utc(str(record.cleared_at))
