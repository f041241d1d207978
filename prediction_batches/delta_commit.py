"""The batch's one commit to the model's Delta table, fenced so that a late attempt changes nothing."""

from __future__ import annotations

import json
import logging
import random
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import unquote

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError
from deltalake.schema import Schema

from prediction_batches.object_store import ObjectStore
from prediction_contract.errors import ContractError
from prediction_contract.naming.s3_layout import delta_table_prefix
from prediction_contract.rows.schema import PredictionSchema
from prediction_contract.stores.delta_table import (
    BATCH_COLUMN,
    changed_columns,
    delta_schema_json,
    deltalake_message,
)

_LOG = logging.getLogger(__name__)
_CONFIGURATION = {
    # By default, the log has statistics of a table's first 32 columns only. Without those of the batch, a
    # commit reads every file of the table, and conflicts with the commits of all other batches.
    "delta.dataSkippingStatsColumns": BATCH_COLUMN,
    # Loaders read the version that a manifest states: the log must not forget it by itself.
    "delta.enableExpiredLogCleanup": "false",
    "delta.logRetentionDuration": "interval 3650 days",
    "delta.deletedFileRetentionDuration": "interval 3650 days",
}
_WRITER_MEMBER = "mlpipe_writer"
_PATIENCE_SECONDS = 120.0
_LONGEST_PAUSE = 4.0


class AttemptSupersededError(ContractError):
    """Another attempt at the same batch has come as far or farther."""


class DeltaCommitError(ContractError):
    """The commit could not be made: within its patience, or into this table at all."""


@dataclass(frozen=True)
class CommittedVersion:
    """A commit: the version that it made, and the data files that it added, relative to the table."""

    version: int
    files: tuple[str, ...]


@dataclass(frozen=True)
class ModelTable:
    """A model's Delta table.

    Attributes:
        store: The bucket.
        model: The model's name.
        schema: The model's schema.
        options: As `storage_options` returns them.
        patience_seconds: How long a commit is tried again while others commit before it.
    """

    store: ObjectStore
    model: str
    schema: PredictionSchema
    options: Mapping[str, str]
    patience_seconds: float = _PATIENCE_SECONDS

    def commit(
        self, rows: pa.Table, *, batch_id: str, attempt: int, still_wanted: Callable[[], bool]
    ) -> CommittedVersion:
        """Make the batch's rows the only ones of the batch in the table, in one commit.

        The log records the attempt as the batch's transaction, so that of two attempts at the same time at
        most one commits, and none after a later one.

        Args:
            rows: As `batch_rows.delta_rows` returns them.
            batch_id: The batch.
            attempt: Must be above every recorded one.
            still_wanted: Asked right before each try; False where a manifest has appeared.

        Raises:
            AttemptSupersededError: An attempt of this number or a higher one is recorded, or the commit is no
                longer wanted.
            DeltaCommitError: Other commits came first until the patience ended, or the table does not take
                the rows: a column has another type there, or the log cannot be read.
        """
        writer = uuid.uuid4().hex
        deadline = time.monotonic() + self.patience_seconds
        pause = 0.1
        while True:
            try:
                table = self._opened()
            except DeltaError as error:
                raise self._rejected(batch_id, error) from error
            known = table.version()
            self._refuse_other_types(table, batch_id)
            self._refuse_superseded(table, batch_id, attempt, wanted=still_wanted())
            failure = self._try_commit(table, rows, batch_id, attempt, writer)
            # Also after a failure: the answer to a commit that was made may have been lost.
            made = self._own_commit(writer, known)
            if made is not None:
                return made
            if isinstance(failure, DeltaError) and not isinstance(failure, CommitFailedError):
                raise self._rejected(batch_id, failure) from failure
            if time.monotonic() + pause > deadline:
                raise DeltaCommitError(
                    f"The Delta commit failed for {self.patience_seconds:.0f} s: "
                    f"{'nothing was committed' if failure is None else deltalake_message(failure)}",
                    remedy="Start the next attempt",
                    model=self.model,
                    batch_id=batch_id,
                ) from failure
            _LOG.warning("the Delta commit is tried again: %s", failure and deltalake_message(failure))
            # Full jitter: writers that collided once do not meet again.
            time.sleep(random.uniform(0, pause))  # noqa: S311  # spreads load, guards nothing
            pause = min(pause * 2, _LONGEST_PAUSE)

    @property
    def _uri(self) -> str:
        return f"s3://{self.store.bucket}/{delta_table_prefix(self.model)}"

    def _opened(self) -> DeltaTable:
        options = dict(self.options)
        if not DeltaTable.is_deltatable(self._uri, storage_options=options):
            try:
                return DeltaTable.create(
                    self._uri,
                    schema=Schema.from_json(delta_schema_json(self.schema)),
                    mode="error",
                    configuration=dict(_CONFIGURATION),
                    storage_options=options,
                )
            except DeltaError as error:
                _LOG.info("the table could not be created now: %s", deltalake_message(error))
        table = DeltaTable(self._uri, storage_options=options)
        missing = dict(_CONFIGURATION.items() - table.metadata().configuration.items())
        if not missing:
            return table
        try:
            # The table is older than one of the settings. Files that it has already stay as they are.
            table.alter.set_table_properties(missing)
        # Of S3 itself, deltalake raises OSError.
        except (DeltaError, OSError) as error:
            _LOG.warning("the table's settings could not be changed now: %s", deltalake_message(error))
            return DeltaTable(self._uri, storage_options=options)
        return table

    def _refuse_superseded(self, table: DeltaTable, batch_id: str, attempt: int, *, wanted: bool) -> None:
        recorded = table.transaction_version(batch_id)
        if recorded is None or recorded < attempt:
            if wanted:
                return
            what = "The batch got its manifest from another attempt"
        else:
            what = f"Attempt {recorded} has committed the batch, and this is attempt {attempt}"
        raise AttemptSupersededError(
            what,
            remedy="Start the next attempt, if the batch has no manifest",
            model=self.model,
            batch_id=batch_id,
        )

    def _rejected(self, batch_id: str, error: Exception) -> DeltaCommitError:
        return DeltaCommitError(
            f"The Delta table does not take the rows: {deltalake_message(error)}",
            remedy="Look at the table and its log, and start the next attempt",
            model=self.model,
            batch_id=batch_id,
        )

    def _refuse_other_types(self, table: DeltaTable, batch_id: str) -> None:
        """Refuse rows of other types than the table's, which would round them or name no column."""
        changed = changed_columns(self.schema, table.schema().to_json())
        if changed:
            columns = ", ".join(
                f"{name} as {found}, not {wanted}" for name, (found, wanted) in changed.items()
            )
            raise DeltaCommitError(
                f"The Delta table has the column {columns}",
                remedy="Give a column of another type another name: a column keeps its type",
                model=self.model,
                batch_id=batch_id,
            )

    def _try_commit(
        self, table: DeltaTable, rows: pa.Table, batch_id: str, attempt: int, writer: str
    ) -> Exception | None:
        try:
            self._separate(table, batch_id)
            write_deltalake(
                table,
                rows,
                mode="overwrite",
                predicate=f"{BATCH_COLUMN} = '{batch_id}'",
                # A model may gain columns; earlier batches have no values there.
                schema_mode="merge",
                commit_properties=CommitProperties(
                    custom_metadata={_WRITER_MEMBER: writer},
                    app_transactions=[Transaction(batch_id, attempt)],
                ),
            )
        # Of S3 itself, deltalake raises OSError.
        except (DeltaError, OSError) as error:
            return error
        return None

    @staticmethod
    def _separate(table: DeltaTable, batch_id: str) -> None:
        """Delete the rows of an earlier attempt from files that hold rows of other batches as well.

        OPTIMIZE makes such files. The commit would rewrite one, and the new file, which the manifest names,
        would hold the rows of other batches beside this one's.
        """
        if table.transaction_version(batch_id) is None:
            return
        files = table.get_add_actions(flatten=True)
        ends = [f"{end}.{BATCH_COLUMN}" for end in ("min", "max")]
        # Without statistics, a file may hold rows of any batch.
        known = set(ends) <= set(files.schema.names)
        lowest, highest = (files[name].to_pylist() if known else [None] * files.num_rows for name in ends)
        if any(
            low is None or high is None or (low <= batch_id <= high and low != high)
            for low, high in zip(lowest, highest, strict=True)
        ):
            table.delete(f"{BATCH_COLUMN} = '{batch_id}'")

    def _own_commit(self, writer: str, known: int) -> CommittedVersion | None:
        """Return the commit of this writer after a known version, as the log itself tells it."""
        version = known + 1
        log = f"{delta_table_prefix(self.model)}_delta_log/"
        while (content := self.store.find(f"{log}{version:020d}.json")) is not None:
            actions = [json.loads(line) for line in content.splitlines() if line.strip()]
            if any(action.get("commitInfo", {}).get(_WRITER_MEMBER) == writer for action in actions):
                # Paths in the log are URL-encoded.
                files = tuple(unquote(action["add"]["path"]) for action in actions if "add" in action)
                return CommittedVersion(version, files)
            version += 1
        return None
