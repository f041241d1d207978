"""Loads a batch's Delta files into Snowflake: stages and counts them, then moves the rows atomically."""

from __future__ import annotations

import json
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NoReturn

from snowflake.connector.errors import Error as SnowflakeError

from glue_scripts.errors import BatchFaultError, ClaimNotHeldError, LoadFailedError
from glue_scripts.snowflake.load_records import LoadRecord
from prediction_contract.limits import MAX_STATEMENT_BYTES
from prediction_contract.manifests.load_report import StoreReport
from prediction_contract.rows.checksums import RowTally, batch_checksum
from prediction_contract.stores.warehouse_columns import ColumnDifference, count_values, table_columns
from prediction_contract.stores.warehouse_load import WarehouseLoad
from prediction_contract.stores.warehouse_stage import create_stage
from prediction_contract.stores.warehouse_table import WarehouseTable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from glue_scripts.files.delivered_batch import DeliveredBatch
    from glue_scripts.files.survey import Survey
    from prediction_contract.jobs.job_arguments import LoadArguments
    from prediction_contract.rows.row_contract import Row

_REFUSED_ROWS = 1000
_READ_KEYS = 1000
# A character takes up to four bytes, twice if escaped; the rest is for column names.
_READ_KEY_CHARACTERS = MAX_STATEMENT_BYTES // 10


def query_tag(arguments: LoadArguments, job_run_id: str) -> str:
    """Return the tag that Snowflake's query history shows for the load's statements, as JSON text."""
    tag = {
        "application": "mlpipe",
        "model": arguments.model,
        "batch_id": arguments.batch_id,
        "attempt": arguments.load_attempt,
        "job_run_id": job_run_id,
        "dagster_run_id": arguments.dagster_run_id,
    }
    # Not escaped, because an escape counts as up to twelve characters against Snowflake's limit for tags.
    return json.dumps(tag, ensure_ascii=False)


class WarehouseLoader:
    """Loads one batch for one job run.

    Args:
        connection: A session in UTC, in the model's database and schema.
        batch: The batch.
        arguments: The load's arguments.
        job_run_id: The job run's id, which names the staging tables.
    """

    def __init__(
        self, connection: Any, batch: DeliveredBatch, arguments: LoadArguments, job_run_id: str
    ) -> None:
        self._connection = connection
        self._manifest = manifest = batch.manifest
        self._stage = arguments.snowflake_stage
        self._integration = arguments.snowflake_integration
        self._table = WarehouseTable(manifest.model, batch.stored_schema)
        self._load = WarehouseLoad(
            self._table, manifest.batch_id, job_run_id, delivered=manifest.schema, cleaning=batch.cleaning
        )
        self._record = LoadRecord(
            self._table, self._load, manifest.batch_id, arguments.load_attempt, datetime.now(UTC)
        )
        self._query_ids: dict[str, list[str]] = {}

    def stage(self) -> None:
        """Copy the batch's Delta files into a staging table, and compare the rows with the manifest.

        Staging tables and records of killed loads are dropped first, so those loads can no longer move rows.

        Raises:
            BatchFaultError: The files have other rows than the manifest declares or rows of another batch, or
                a column that readers rely on changed or is missing.
            LoadFailedError: Snowflake refused a statement.
        """
        manifest = self._manifest
        # Created every time, because the local emulator forgets stages when it restarts.
        stage = create_stage(self._stage, manifest.bucket, self._integration)
        for statement in (self._table.create(), stage):
            self._run("define", statement)
        self._agree_on_columns()
        for statement in (self._record.create(), self._record.write()):
            self._run("record", statement)
        for (stem,) in self._run("overtaken", self._record.overtaken()):
            for statement in self._record.take_over(stem):
                self._run("take_over", statement)
        for statement in self._load.prepare():
            self._run("prepare", statement)
        for statement in self._load.copy(self._stage, manifest.delta.files):
            self._run("copy", statement)
        ((rows, _, checksum, others),) = self._run("count_staged", self._load.staged_totals())
        found = batch_checksum([int(checksum)])
        if others:
            self._fault(f"hold {others} rows of other batches")
        if rows != manifest.row_count:
            self._fault(f"hold {rows} rows, but the manifest declares {manifest.row_count}")
        if found != manifest.checksum:
            self._fault(f"hold rows with checksum {found}, but the manifest declares {manifest.checksum}")

    def move(self, survey: Survey, rows_to_verify: Iterable[Row]) -> StoreReport:
        """Replace the batch's rows in the table with the accepted staged rows, and verify them.

        Everything is rolled back on an error.

        Args:
            survey: The batch's survey: the accepted and the refused rows.
            rows_to_verify: The rows to read back.

        Raises:
            BatchFaultError: The rows in the table would differ from those accepted from the JSON parts.
            ClaimNotHeldError: A later attempt has taken over.
            LoadFailedError: Snowflake refused a statement.
        """
        self._refuse(survey.refused_checksums)
        self._run("begin", "BEGIN")
        try:
            for statement in self._load.move(are_all_accepted=not survey.refused.rows):
                self._run("move", statement)
            stored = self._verify_totals(survey.accepted)
            verified = self._verify_rows(rows_to_verify)
            self._renew_record()
            self._run("commit", "COMMIT")
        except BaseException:
            self._roll_back()
            raise
        details = {"query_ids": self._query_ids}
        return StoreReport(
            table=self._table.name.strip('"'), rows=stored, verified_rows=verified, details=details
        )

    def clean_up(self) -> None:
        """Drop the load's staging tables and record. A failure is only logged."""
        try:
            for statement in (*self._load.clean_up(), self._record.delete()):
                self._run("clean_up", statement)
        except LoadFailedError as error:
            # A later load drops them, and this load's own error must not be hidden.
            print(f"A staging table was left behind: {error}", flush=True)  # noqa: T201  # Glue's log

    def _agree_on_columns(self) -> None:
        """Add columns that the table lacks; refuse the batch if a column changed or is missing from it."""
        table = self._table
        found = self._run("columns", table_columns(), (table.name.strip('"'),))
        difference = ColumnDifference.between(table, found)
        gone: list[str] = []
        if difference.gone:
            statement = count_values(table, difference.gone, self._manifest.batch_id)
            (counts,) = self._run("columns", statement)
            gone = [name for name, count in zip(difference.gone, counts, strict=True) if count]
        if difference.changed or gone:
            lost = [f"{name} is missing, and earlier batches have it" for name in gone]
            what = "; ".join([*difference.changed, *lost])
            raise BatchFaultError(
                f"The columns are not those of {table.name}: {what}"[:1500],
                remedy="Keep missing columns (all null is fine) and rename changed ones. Or declare "
                f"the new schema as a new model, say {table.model[:30]}_v2, which has a new table",
                model=self._manifest.model,
                batch_id=self._manifest.batch_id,
            )
        for statement in difference.additions:
            self._run("define", statement)

    def _renew_record(self) -> None:
        """Delete and rewrite the load's record; fails if a later load has deleted it."""
        ((deleted,),) = self._run("renew", self._record.delete())
        if not deleted:
            raise ClaimNotHeldError(
                f"A later load has taken the batch over in {self._table.name}",
                remedy="Do nothing: that load continues without this job run",
                model=self._manifest.model,
                batch_id=self._manifest.batch_id,
            )
        self._run("renew", self._record.write())

    def _refuse(self, checksums: Sequence[int]) -> None:
        for first in range(0, len(checksums), _REFUSED_ROWS):
            chunk = [(checksum,) for checksum in checksums[first : first + _REFUSED_ROWS]]
            with closing(self._connection.cursor()) as cursor:
                try:
                    cursor.executemany(self._load.refuse(), chunk)
                except SnowflakeError as error:
                    self._fail("refused to take the refused rows' checksums", error)

    def _verify_totals(self, accepted: RowTally) -> RowTally:
        ((rows, keys, checksum),) = self._run("verify", self._table.batch_totals(self._manifest.batch_id))
        wanted, found = batch_checksum([accepted.checksum]), batch_checksum([int(checksum)])
        if (rows, keys, found) != (accepted.rows, accepted.rows, wanted):
            self._fault(
                f"would leave {rows} rows of {keys} keys with checksum {found}, but {accepted.rows} rows "
                f"with checksum {wanted} were accepted from JSON"
            )
        return RowTally(rows=int(rows), checksum=int(checksum))

    def _verify_rows(self, rows: Iterable[Row]) -> int:
        verified = 0
        batch_id = self._manifest.batch_id
        key_at = self._table.schema.names.index(self._table.schema.key)
        for chunk in _chunks(rows):
            statement = self._table.read_back(batch_id, len(chunk))
            found = {values[key_at]: values for values in self._run("read_back", statement, list(chunk))}
            for key, row in chunk.items():
                wanted = self._table.stored_values(row, batch_id)
                if not _is_same(found.get(key), wanted):
                    what = "lack the row" if key not in found else "differ from JSON in the row"
                    self._fault(f"{what} {key[:100]!r}")
            verified += len(chunk)
        return verified

    def _roll_back(self) -> None:
        try:
            self._run("rollback", "ROLLBACK")
        except LoadFailedError as error:
            # Snowflake rolls back by itself when a session ends.
            print(f"The rollback failed: {error}", flush=True)  # noqa: T201  # Glue's log

    def _run(self, step: str, statement: str, parameters: Sequence[Any] | None = None) -> list[Any]:
        with closing(self._connection.cursor()) as cursor:
            try:
                found = cursor.execute(statement, parameters).fetchall()
            except SnowflakeError as error:
                self._fail(f"refused the step {step}: {error}"[:1000], error)
            if step != "read_back":
                self._query_ids.setdefault(step, []).append(str(cursor.sfqid))
            return found

    def _fail(self, what: str, cause: Exception | None = None) -> NoReturn:
        raise LoadFailedError(
            f"Snowflake table {self._table.name} {what}",
            remedy="Find the query by its tag in Snowflake's query history, then load the batch again",
            model=self._manifest.model,
            batch_id=self._manifest.batch_id,
        ) from cause

    def _fault(self, what: str) -> NoReturn:
        raise BatchFaultError(
            f"The Delta files of version {self._manifest.delta.version} {what}",
            remedy="Score the batch again: the Delta commit and the JSON parts must hold the same rows",
            model=self._manifest.model,
            batch_id=self._manifest.batch_id,
        )


def _is_same(found: Sequence[Any] | None, wanted: Sequence[Any]) -> bool:
    """Return whether values are equal and none is an integer for a float: 1 == 1.0 in Python."""
    return (
        found is not None
        and tuple(found) == tuple(wanted)
        and all(
            isinstance(one, float) == isinstance(two, float) for one, two in zip(found, wanted, strict=True)
        )
    )


def _chunks(rows: Iterable[Row]) -> Iterator[dict[str, Row]]:
    chunk: dict[str, Row] = {}
    characters = 0
    for row in rows:
        if chunk and (len(chunk) == _READ_KEYS or characters + len(row.key) > _READ_KEY_CHARACTERS):
            yield chunk
            chunk, characters = {}, 0
        chunk[row.key] = row
        characters += len(row.key)
    if chunk:
        yield chunk
