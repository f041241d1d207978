"""A batch's only commit to the model's Delta table, fenced so that a late attempt changes nothing."""

from __future__ import annotations

import json
import logging
import random
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import inf
from urllib.parse import unquote

from deltalake import CommitProperties, DeltaTable, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError
from deltalake.schema import Schema
from deltalake.transaction import AddAction, RemoveAction

from prediction_batches.files.data_files import DataFile
from prediction_batches.object_store import ObjectStore
from prediction_contract.errors import ContractError
from prediction_contract.naming.s3_layout import data_file_prefix, delta_table_prefix
from prediction_contract.rows.schema import PredictionSchema
from prediction_contract.stores.delta_table import (
    BATCH_COLUMN,
    VACUUM_AFTER,
    changed_columns,
    delta_schema_json,
    deltalake_message,
)

_LOG = logging.getLogger(__name__)
_CONFIGURATION = {
    # By default, the log shows statistics only for a table's first 32 columns, even if a commit states more.
    # The batch column's statistics tell which batch a file belongs to.
    "delta.dataSkippingStatsColumns": BATCH_COLUMN,
    # Loaders read the version in the manifest, so the log must keep old versions.
    "delta.enableExpiredLogCleanup": "false",
    "delta.logRetentionDuration": "interval 3650 days",
    "delta.deletedFileRetentionDuration": "interval 3650 days",
}
# The maximum age of committed files. It is a day less than a vacuum's, so a vacuum that runs during the
# commit spares them.
_COMMITTED_WITHIN = VACUUM_AFTER - timedelta(days=1)
_PATIENCE_SECONDS = 120.0
_LONGEST_PAUSE = 4.0


class AttemptSupersededError(ContractError):
    """This or a later attempt at the batch was already committed."""


class DeltaCommitError(ContractError):
    """The commit did not succeed in time, or the table does not accept it."""


@dataclass(frozen=True)
class CommittedVersion:
    """A commit: the table version it created, and the data files it added, relative to the table."""

    version: int
    files: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class TableCommit:
    """The commit of one attempt at a batch.

    Attributes:
        store: The bucket.
        model: The model's name.
        schema: The model's schema.
        batch_id: The batch.
        attempt: The attempt; it must be higher than every recorded one.
        files: The files that `DataFiles` wrote for this batch and attempt.
        options: The result of `storage_options`.
        patience_seconds: How long the commit is retried while other commits conflict with it.
    """

    store: ObjectStore
    model: str
    schema: PredictionSchema
    batch_id: str
    attempt: int
    files: Sequence[DataFile]
    options: Mapping[str, str]
    patience_seconds: float = _PATIENCE_SECONDS

    def make(self, still_wanted: Callable[[], bool]) -> CommittedVersion:
        """Make the files' rows the batch's only rows in the table.

        The log records the attempt as the batch's transaction. So concurrent commits of two attempts
        conflict, and no attempt commits after a later one. An attempt that was killed right after its commit
        finds the commit when it runs again.

        Args:
            still_wanted: Called right before each try; returns False once a manifest exists.

        Raises:
            AttemptSupersededError: The log records a later attempt, or this attempt with other files. Or
                `still_wanted` returned False.
            DeltaCommitError: Conflicts lasted longer than `patience_seconds`, a file is missing or too old, a
                column has another type in the table, or the log cannot be read.
        """
        oldest = self._check_files()
        deadline, pause = inf, 0.1
        failure: Exception | None = None
        while True:
            try:
                table = self._opened()
            except DeltaError as error:
                raise self._rejected(error) from error
            self._refuse_other_types(table)
            # Check this after a failure too: the commit may have succeeded and its response been lost.
            made = self._recorded_commit(table)
            if made is not None:
                self._check_rows(made)
                return made
            if isinstance(failure, DeltaError) and not isinstance(failure, CommitFailedError):
                raise self._rejected(failure) from failure
            if time.monotonic() > deadline:
                raise self._error(
                    f"The Delta commit did not succeed within {self.patience_seconds:.0f} s: "
                    f"{'nothing was committed' if failure is None else deltalake_message(failure)}",
                    "Start the next attempt",
                ) from failure
            self._refuse_unwanted(wanted=still_wanted())
            self._refuse_old_files(oldest)
            failure = self._try_commit(table)
            deadline = min(deadline, time.monotonic() + self.patience_seconds)
            if failure is not None:
                _LOG.warning("retrying the Delta commit: %s", deltalake_message(failure))
                # Full jitter keeps writers from colliding again.
                time.sleep(random.uniform(0, pause))  # noqa: S311  # spreads load, guards nothing
                pause = min(pause * 2, _LONGEST_PAUSE)

    @property
    def _uri(self) -> str:
        return self.store.address(delta_table_prefix(self.model))

    @property
    def _paths(self) -> frozenset[str]:
        return frozenset(file.path for file in self.files)

    def _opened(self) -> DeltaTable:
        options = dict(self.options)
        if not DeltaTable.is_deltatable(self._uri, storage_options=options):
            try:
                return DeltaTable.create(
                    self._uri,
                    schema=_delta_schema(self.schema),
                    mode="error",
                    configuration=dict(_CONFIGURATION),
                    storage_options=options,
                )
            except DeltaError as error:
                _LOG.info("the Delta table could not be created: %s", deltalake_message(error))
        table = DeltaTable(self._uri, storage_options=options)
        missing = dict(_CONFIGURATION.items() - table.metadata().configuration.items())
        if not missing:
            return table
        try:
            # The table was created before one of the settings. Its existing files do not change.
            table.alter.set_table_properties(missing)
        # deltalake raises OSError for errors of S3 itself.
        except (DeltaError, OSError) as error:
            _LOG.warning("the Delta table's settings could not be changed: %s", deltalake_message(error))
            return DeltaTable(self._uri, storage_options=options)
        return table

    def _check_files(self) -> datetime | None:
        """Refuse files that are missing or have another size, which Delta itself would not notice.

        Return the oldest file's time of writing.
        """
        if len(self._paths) != len(self.files):
            raise self._error("The receipts name a data file twice", "Pass each receipt once")
        table = delta_table_prefix(self.model)
        prefix = f"{table}{data_file_prefix(self.batch_id, self.attempt)}"
        found = {entry.key: entry for entry in self.store.listing(prefix)}
        entries = [found.get(f"{table}{file.path}") for file in self.files]
        for file, entry in zip(self.files, entries, strict=True):
            size = entry and entry.size
            if size != file.bytes:
                said = "is missing" if size is None else f"has {size} bytes, but {file.bytes} were written"
                raise self._error(f"Data file {table}{file.path} {said}", "Start the next attempt")
        return min((entry.modified for entry in entries if entry is not None), default=None)

    def _refuse_old_files(self, oldest: datetime | None) -> None:
        """Refuse files so old that a vacuum may delete them before this commit adds them."""
        if oldest is not None and datetime.now(UTC) - oldest > _COMMITTED_WITHIN:
            raise self._error(
                f"A data file was written at {oldest:%Y-%m-%d %H:%M} UTC, too long ago: a vacuum deletes "
                f"uncommitted files after {VACUUM_AFTER.days} days",
                "Start the next attempt",
            )

    def _refuse_other_types(self, table: DeltaTable) -> None:
        """Refuse columns that have another type in the table."""
        changed = changed_columns(self.schema, table.schema().to_json())
        if changed:
            columns = ", ".join(
                f"{name} is {found}, not {wanted}" for name, (found, wanted) in changed.items()
            )
            raise self._error(
                f"The Delta table has other column types: {columns}",
                "Keep the column's type, or give the changed column a new name",
            )

    def _recorded_commit(self, table: DeltaTable) -> CommittedVersion | None:
        """Return this attempt's commit; None if neither it nor a later attempt has committed."""
        recorded = table.transaction_version(self.batch_id)
        if recorded is None or recorded < self.attempt:
            return None
        if recorded == self.attempt:
            versions = range(table.version(), -1, -1)
            made = next(filter(None, map(self._commit_at, versions)), None)
            if made is not None and frozenset(made.files) == self._paths:
                return made
        raise AttemptSupersededError(
            f"Attempt {recorded} has already committed the batch"
            + (" with other files" if recorded == self.attempt else f"; this is attempt {self.attempt}"),
            remedy="If the batch has no manifest, start the next attempt",
            model=self.model,
            batch_id=self.batch_id,
        )

    def _refuse_unwanted(self, *, wanted: bool) -> None:
        if not wanted:
            raise AttemptSupersededError(
                "Another attempt has written the batch's manifest",
                remedy="If the batch has no manifest, start the next attempt",
                model=self.model,
                batch_id=self.batch_id,
            )

    def _try_commit(self, table: DeltaTable) -> Exception | None:
        recorded = table.transaction_version(self.batch_id)
        try:
            self._add_columns(table)
            is_first = table.transaction_version(self.batch_id) == recorded
            earlier = self._separated_files(table) if is_first else []
            if table.transaction_version(self.batch_id) != recorded:
                # One of our own commits came after another attempt's, so Delta would not detect the conflict.
                return CommitFailedError("Another attempt has committed the batch")
            now = int(time.time() * 1000)
            table.create_write_transaction(
                [
                    *(RemoveAction(path, True, now) for path in earlier),
                    *(
                        AddAction(file.path, file.bytes, {}, now, True, self._statistics(file))
                        for file in self.files
                    ),
                ],
                "append",
                table.schema(),
                commit_properties=CommitProperties(
                    app_transactions=[Transaction(self.batch_id, self.attempt)]
                ),
            )
        # deltalake raises OSError for errors of S3 itself.
        except (DeltaError, OSError) as error:
            return error
        return None

    def _add_columns(self, table: DeltaTable) -> None:
        """Add the model's new columns, which are null in earlier batches.

        This takes a separate commit, because a commit that adds files silently leaves out new columns.
        """
        known = {field.name for field in table.schema().fields}
        new = [field for field in _delta_schema(self.schema).fields if field.name not in known]
        if new:
            table.alter.add_columns(new)

    def _separated_files(self, table: DeltaTable) -> list[str]:
        """Return the files of earlier attempts, after separating them from other batches.

        OPTIMIZE can merge rows of several batches into one file; the batch's rows are removed from such
        files.
        """
        if table.transaction_version(self.batch_id) is None:
            return []
        files = _BatchStatistics(table)
        if files.may_be_mixed(self.batch_id):
            table.delete(f"{BATCH_COLUMN} = '{self.batch_id}'")
            files = _BatchStatistics(table)
        return [path for path, _ in files.of(self.batch_id)]

    def _statistics(self, file: DataFile) -> str:
        ends = {BATCH_COLUMN: self.batch_id}
        return json.dumps(
            {"numRecords": file.rows, "minValues": ends, "maxValues": ends, "nullCount": {BATCH_COLUMN: 0}}
        )

    def _commit_at(self, version: int) -> CommittedVersion | None:
        """Return the commit that created a version if it is this attempt's, as recorded in the log."""
        content = self.store.get(f"{delta_table_prefix(self.model)}_delta_log/{version:020d}.json")
        actions = [json.loads(line) for line in content.splitlines() if line.strip()]
        transactions = [action["txn"] for action in actions if "txn" in action]
        if (self.batch_id, self.attempt) not in [(each["appId"], each["version"]) for each in transactions]:
            return None
        # Paths in the log are URL-encoded.
        added = tuple(unquote(action["add"]["path"]) for action in actions if "add" in action)
        return CommittedVersion(version, added)

    def _check_rows(self, made: CommittedVersion) -> None:
        """Refuse a version that has other files of the batch; a remove action may have had no effect."""
        table = DeltaTable(self._uri, version=made.version, storage_options=dict(self.options))
        # If the table's settings could not be changed, the log has no batch statistics for these files.
        found = sorted(_BatchStatistics(table).of(self.batch_id, besides=self._paths))
        if found != sorted((file.path, file.rows) for file in self.files):
            raise self._error(
                f"Version {made.version} of the Delta table holds {sum(rows for _, rows in found)} rows of "
                f"the batch in {len(found)} files, but {sum(file.rows for file in self.files)} rows in "
                f"{len(self.files)} files were committed",
                "Inspect the table and its log, then start the next attempt",
            )

    def _rejected(self, error: Exception) -> DeltaCommitError:
        return self._error(
            f"The Delta table rejected the rows: {deltalake_message(error)}",
            "Inspect the table and its log, then start the next attempt",
        )

    def _error(self, what: str, remedy: str) -> DeltaCommitError:
        return DeltaCommitError(what, remedy=remedy, model=self.model, batch_id=self.batch_id)


class _BatchStatistics:
    """The log's statistics about which batches each file of a table holds."""

    def __init__(self, table: DeltaTable) -> None:
        files = table.get_add_actions(flatten=True)
        # These columns do not exist if the table has no files or no statistics.
        columns = [
            files[name].to_pylist() if name in files.schema.names else [None] * files.num_rows
            for name in ("path", f"min.{BATCH_COLUMN}", f"max.{BATCH_COLUMN}", "num_records")
        ]
        # These paths are URL-encoded, and a commit would encode removed paths once more.
        self._files = [
            (unquote(path), low, high, rows) for path, low, high, rows in zip(*columns, strict=True)
        ]

    def of(self, batch_id: str, *, besides: Collection[str] = ()) -> list[tuple[str, int]]:
        """Return paths and row counts of the files that hold only this batch or are in `besides`."""
        return [
            (path, rows)
            for path, low, high, rows in self._files
            if low == high == batch_id or path in besides
        ]

    def may_be_mixed(self, batch_id: str) -> bool:
        """Whether a file may hold rows of this and other batches; a file without statistics may."""
        return any(
            low is None or high is None or (low <= batch_id <= high and low != high)
            for _, low, high, _ in self._files
        )


def _delta_schema(schema: PredictionSchema) -> Schema:
    return Schema.from_json(delta_schema_json(schema))
