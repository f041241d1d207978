"""The sweep of one model: batches whose time is over leave Snowflake and S3, and the Delta table is vacuumed.

Whatever is deleted belongs to a batch that is retired in the registry, and nothing brings such a batch back.
So every step may be repeated, by anybody and however late, and a sweep that died is finished by the next.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from mlpipe_dagster.data_bucket import DataBucket
from mlpipe_dagster.delta_history import DeltaHistory
from mlpipe_dagster.noticing import registered_manifest
from mlpipe_dagster.warehouse_projection import WarehouseSession
from prediction_contract.errors import ContractError, RuleViolationError
from prediction_contract.moments import parse_moment
from prediction_contract.registry.load_rules import abandon_claim
from prediction_contract.registry.records import BatchRecord, LivePointer, LoadState
from prediction_contract.registry.retention_rules import clear, due_batches, retire
from prediction_contract.registry.table import RegistryTable
from prediction_contract.registry.transaction import Transaction
from prediction_contract.s3_layout import (
    acknowledgements_prefix,
    batch_quarantine_prefix,
    delta_table_prefix,
    json_batch_prefix,
)

# Delta's own default: whoever reads an older version of the table, by hand say, has so long to end.
VACUUM_AFTER = timedelta(days=7)
# A sweep that failed on the day a file came due is followed by another.
_VACUUM_WITHIN = timedelta(days=2)
MOST_BATCHES = 500


@dataclass(slots=True, kw_only=True)
class RetiredBatch:
    """What one sweep deleted of a batch; what an earlier one had deleted is not counted again.

    Attributes:
        record: As it was before.
        rows: Deleted from Snowflake.
        objects: Deleted from S3: JSON parts and quarantine.
        bytes: Their size.
    """

    record: BatchRecord
    rows: int = 0
    objects: int = 0
    bytes: int = 0


@dataclass(slots=True, kw_only=True)
class Swept:
    """What a sweep did.

    Attributes:
        retired: The batches that left.
        kept: Why others, whose time is over, stay: reasons by batch.
        delta_files: Files that left the Delta table's newest version.
        vacuumed_files: Files of retired batches or of no batch that were deleted from S3.
        vacuumed_bytes: Their size.
        not_vacuumed: Why files that left the table long ago stay on S3, or empty.
    """

    retired: list[RetiredBatch] = field(default_factory=list)
    kept: dict[str, str] = field(default_factory=dict)
    delta_files: int = 0
    vacuumed_files: int = 0
    vacuumed_bytes: int = 0
    not_vacuumed: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionSweep:
    """Retires what is due of one model.

    Attributes:
        model: The model's name.
        run_id: The Dagster run's, under which the sweep claims batches.
        has_ended: Tells of a run that holds a claim whether it is known to have ended.
        registry: The registry.
        home_region: The region that writes.
        regions: The other serving regions.
        bucket: Of parts, quarantine and Delta files.
        warehouse: An open session.
        delta: The model's Delta table.
        clock: The present moment.
        vacuum_after: How long a file stays after it has left the Delta table's newest version.
        most_batches: How many batches are retired at most; the next sweep goes on.
        tell: Is told of each batch as soon as its rows and objects are gone, also by a sweep that dies then.
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
    most_batches: int = MOST_BATCHES
    tell: Callable[[RetiredBatch], None] = lambda _: None

    def sweep(self) -> Swept:
        """Retire what is due, delete it, and vacuum the Delta table.

        Raises:
            RegistryUnavailableError: The registry did not take a change in time.
            DeltaRemovalError: Scoring jobs committed first for too long.
        """
        swept, tokens = Swept(), {}
        home = self.registry.pointer(self.model, self.home_region)
        projected = self.warehouse.highest_projected(self.model)
        has_rows = self.warehouse.has_predictions(self.model)
        for record in due_batches(self.registry.batches(self.model), home, now=self.clock()):
            if len(tokens) >= self.most_batches:
                break
            token = f"retention.{uuid.uuid4().hex}"
            reason = self._claim(record, token, projected)
            if reason is not None:
                swept.kept[record.batch_id] = reason
                continue
            tokens[record.batch_id] = token
            gone = self._delete(record, has_rows=has_rows)
            self.tell(gone)
            swept.retired.append(gone)
        has_delta = self.delta.exists()
        if has_delta:
            swept.delta_files = self.delta.remove(tokens)
        for batch_id, token in tokens.items():
            self._clear(batch_id, token)
        if has_delta:
            self._vacuum(swept)
        return swept

    def _claim(self, record: BatchRecord, token: str, projected: int) -> str | None:
        """Retire a batch under a claim of this sweep, or say what keeps it."""
        try:
            if record.load_state == LoadState.RETIRED and record.claim_token is not None:
                holder = str(record.claim_job_run_id)
                if holder != self.run_id and not self.has_ended(holder):
                    return f"Run {holder} is deleting it"
                self.registry.carry_out(lambda: self._abandon(record.batch_id, holder))
            self.registry.carry_out(lambda: self._retire(record.batch_id, token, projected))
        except RuleViolationError as violation:
            # The answer to our own change may have been lost: the token tells.
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
            # Another sweep took this one for dead, or the answer was lost: either says the same of the batch.
            return

    def _record(self, batch_id: str) -> BatchRecord:
        return self.registry.batch(self.model, batch_id) or BatchRecord(model=self.model, batch_id=batch_id)

    def _delete(self, record: BatchRecord, *, has_rows: bool) -> RetiredBatch:
        model, batch_id = record.model, record.batch_id
        gone = RetiredBatch(record=record)
        if has_rows:
            gone.rows = self.warehouse.delete_batch(model, batch_id)
        prefixes = [batch_quarantine_prefix(model, batch_id), acknowledgements_prefix(model, batch_id)]
        if record.partition:
            prefixes.append(json_batch_prefix(model, record.partition, batch_id))
        for prefix in prefixes:
            objects = list(self.bucket.below(prefix))
            self.bucket.delete(item.key for item in objects)
            gone.objects += len(objects)
            gone.bytes += sum(item.size for item in objects)
        return gone

    def _vacuum(self, swept: Swept) -> None:
        """Delete files that left the table long ago or never came into it, but for those that a batch names.

        What the table does not know is looked at before the table is, so a file that is committed meanwhile
        counts as known.
        """
        root, old = delta_table_prefix(self.model), self.clock() - self.vacuum_after
        files = {item.key.removeprefix(root): item for item in self.bucket.below(root)}
        unknown = {name for name, item in files.items() if _is_data(name) and item.put_at < old}
        unknown -= self.delta.known_files()
        removed = self.delta.removed_files(longer_than=self.vacuum_after)
        doomed = files.keys() & (removed | unknown)
        if not doomed:
            return
        try:
            named = self._named_files()
        except ContractError as error:
            swept.not_vacuumed = str(error)
            return
        vacuumed = [files[name] for name in sorted(doomed - named)]
        self.bucket.delete(item.key for item in vacuumed)
        swept.vacuumed_files = len(vacuumed)
        swept.vacuumed_bytes = sum(item.size for item in vacuumed)

    def _named_files(self) -> set[str]:
        """Return the Delta files of every batch that is not retired.

        Raises:
            ObjectMissingError: A done file is gone: nobody knows which files it names.
            ManifestReplacedError: Another lies in its place.
        """
        named: set[str] = set()
        for record in self.registry.batches(self.model):
            # Of a done file that was no manifest, the registry knows no rows, and nothing loads it.
            if record.load_state != LoadState.RETIRED and record.checksum:
                named.update(registered_manifest(self.bucket, record).delta.files)
        return named


def _is_data(name: str) -> bool:
    """Whether a file below a Delta table's folder is of its data; what begins with `_` is of its log."""
    return name.endswith(".parquet") and not name.startswith("_")


def asks_for_a_sweep(records: Sequence[BatchRecord], home: LivePointer | None, *, now: datetime) -> bool:
    """Whether a model has a batch to retire, or retired one whose Delta files have come due since."""
    return bool(due_batches(records, home, now=now)) or any(
        _is_to_be_vacuumed(record, now) for record in records
    )


def is_done_with(record: BatchRecord, *, now: datetime) -> bool:
    """Whether no sweep will ever have to do with the batch again."""
    return record.cleared_at is not None and _since_cleared(record, now) > VACUUM_AFTER + _VACUUM_WITHIN


def _is_to_be_vacuumed(record: BatchRecord, now: datetime) -> bool:
    return record.cleared_at is not None and VACUUM_AFTER <= _since_cleared(record, now) <= (
        VACUUM_AFTER + _VACUUM_WITHIN
    )


def _since_cleared(record: BatchRecord, now: datetime) -> timedelta:
    return now - parse_moment(str(record.cleared_at))
