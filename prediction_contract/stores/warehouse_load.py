"""The statements that load one batch into Snowflake, through a staging table and in one transaction.

The order is: `prepare` and `copy`; `staged_totals`, compared with the manifest; `refuse` for each quarantined
line; BEGIN; `move`; `WarehouseTable.batch_totals`, compared again; COMMIT or ROLLBACK; `clean_up`.
"""

# ruff: noqa: S608  # what goes into the text is validated to be safe in it; values are placeholders
from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from prediction_contract.cleaning.cleaning_rules import NO_CLEANING
from prediction_contract.cleaning.row_cleaning import TRIMMED
from prediction_contract.errors import InvalidNameError
from prediction_contract.limits import MAX_COPY_FILES, MAX_STATEMENT_BYTES
from prediction_contract.naming.batch import BatchId
from prediction_contract.naming.s3_layout import validated_key
from prediction_contract.rows.column_values import decoder_for
from prediction_contract.rows.schema import Kind
from prediction_contract.stores.warehouse_stage import staged_delta_table
from prediction_contract.stores.warehouse_table import BATCH_COLUMN, CHECKSUM_COLUMN, WarehouseTable, quoted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from prediction_contract.cleaning.cleaning_rules import Cleaning
    from prediction_contract.cleaning.column_cleaning import CleanedColumn
    from prediction_contract.rows.schema import Column, PredictionSchema

# By Snowflake's figures, the vectorized scanner takes a third of the time. Without NULL_IF, the text \N would
# be loaded as NULL.
_FILE_FORMAT = "TYPE = PARQUET USE_LOGICAL_TYPE = TRUE USE_VECTORIZED_SCANNER = TRUE NULL_IF = ()"
# The characters of file names in one COPY. They leave room for the rest of the statement.
_MAX_NAME_CHARACTERS = MAX_STATEMENT_BYTES // 2
# The whitespace at both ends of a text.
_BLANKS = " || ".join(f"CHR({ord(blank)})" for blank in TRIMMED)
_ENDS = f"'^[' || {_BLANKS} || ']+|[' || {_BLANKS} || ']+$'"


class WarehouseLoad:
    """The load of one batch by one job run. Its staging tables are named by both, so no two loads share them.

    Args:
        table: The model's table.
        batch_id: The batch.
        job_run: The job run's id, whose hash is part of the staging tables' names.
        delivered: The schema of the batch's files; None if it is the table's schema.
        cleaning: The rules that turn the files' rows into the table's rows.
    """

    def __init__(
        self,
        table: WarehouseTable,
        batch_id: str,
        job_run: str,
        *,
        delivered: PredictionSchema | None = None,
        cleaning: Cleaning = NO_CLEANING,
    ) -> None:
        self._table = table
        self._staged = table if delivered is None else WarehouseTable(table.model, delivered)
        self._cleaning = cleaning
        self._batch_id = BatchId(batch_id)
        if not job_run:
            raise InvalidNameError(
                "A load needs the id of its job run", remedy="Pass the job run's id", model=table.model
            )
        run = hashlib.sha256(job_run.encode()).hexdigest()[:12]
        stem = f"{table.model}_STAGING_{self._batch_id.replace('-', '_')}_{run}".upper()
        self.staging = f'"{stem}"'
        self.refused = f'"{stem}_REFUSED"'

    def prepare(self) -> list[str]:
        """Return the statements that create both staging tables, empty and without Snowflake's load history.

        The staging table accepts rows without a key. They are left out by `move`.
        """
        columns = ", ".join(f"{column.name} {column.type}" for column in self._staged.columns)
        refused = quoted(CHECKSUM_COLUMN)
        return [
            f"CREATE OR REPLACE TRANSIENT TABLE {self.staging} ({columns})",
            f"CREATE OR REPLACE TRANSIENT TABLE {self.refused} ({refused} NUMBER(19,0) NOT NULL)",
        ]

    def copy(self, stage: str, files: Sequence[str]) -> list[str]:
        """Return the statements that copy Delta files into the staging table.

        Args:
            stage: The external stage on the bucket's predictions.
            files: Paths relative to the model's Delta table. Each statement has as many as Snowflake accepts.

        Raises:
            InvalidNameError: The stage or a file has a form that is not safe in a statement.
        """
        source = staged_delta_table(stage, self._table.model)
        # Each file is named, because a prefix would include files that later versions removed. Without FORCE,
        # Snowflake skips files that it has loaded before. The vectorized scanner accepts only ABORT_STATEMENT
        # and SKIP_FILE as ON_ERROR.
        return [
            f"COPY INTO {self.staging} FROM {source} FILES = ({', '.join(literals)}) "
            f"FILE_FORMAT = ({_FILE_FORMAT}) MATCH_BY_COLUMN_NAME = CASE_INSENSITIVE "
            "ON_ERROR = ABORT_STATEMENT FORCE = TRUE"
            for literals in _chunks([_file_literal(path) for path in files])
        ]

    def staged_totals(self) -> str:
        """Return the query of the staged rows, distinct keys, summed checksums, and rows of other batches."""
        batch = self._table.is_of_batch(self._batch_id)
        others = f"COUNT(*) - COUNT(CASE WHEN {batch} THEN 1 END)"
        return f"SELECT {self._staged.totals}, {others} FROM {self.staging}"

    def refuse(self) -> str:
        """Return the statement that excludes a quarantined line from `move`. Its `%s` is a checksum.

        For a line that is a valid row as the model wrote it, for example one with a duplicate key, this is
        the row's checksum. For other lines it is `refused_checksum(line)`. Lines are not excluded by key,
        because a line that is not JSON has none.
        """
        return f"INSERT INTO {self.refused} ({quoted(CHECKSUM_COLUMN)}) VALUES (%s)"

    def move(self, *, are_all_accepted: bool = False) -> list[str]:
        """Return the statements that replace the batch's rows in the table with the accepted staged rows.

        Run them in one transaction without DDL, because DDL would commit it.

        Args:
            are_all_accepted: Whether no line was refused, which makes the statement faster.
        """
        table = self._table
        checksum = quoted(CHECKSUM_COLUMN)
        own = [f"S.{quoted(BATCH_COLUMN)}", f"S.{checksum}"]
        selected = ", ".join([*selected_columns(self._staged.schema, self._cleaning, "S"), *own])
        accepted = f"S.{self._staged.key} IS NOT NULL"
        if not are_all_accepted:
            refused = f"SELECT 1 FROM {self.refused} R WHERE R.{checksum} = S.{checksum}"
            accepted = f"{accepted} AND NOT EXISTS ({refused})"
        insert = (
            f"INSERT INTO {table.name} ({table.column_list}) SELECT {selected} FROM {self.staging} S "
            f"WHERE S.{quoted(BATCH_COLUMN)} = '{self._batch_id}' AND {accepted}"
        )
        return [table.delete_batch(self._batch_id), insert]

    def clean_up(self) -> list[str]:
        """Return the statements that drop both staging tables."""
        return [f"DROP TABLE IF EXISTS {self.staging}", f"DROP TABLE IF EXISTS {self.refused}"]


def _file_literal(path: str) -> str:
    """Return a file's path as an SQL literal. A valid key has no character to escape."""
    return f"'{validated_key(path)}'"


def _chunks(literals: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yield the literals in chunks that fit into one COPY."""
    first = characters = 0
    for number, literal in enumerate(literals):
        if number - first == MAX_COPY_FILES or characters + len(literal) > _MAX_NAME_CHARACTERS:
            yield literals[first:number]
            first, characters = number, 0
        characters += len(literal)
    if literals:
        yield literals[first:]


def selected_columns(schema: PredictionSchema, cleaning: Cleaning, alias: str) -> list[str]:
    """Return the SQL expressions that compute the stored columns from the staged columns, in stored order.

    They do the same as `RowCleaning` does in Python. A load reads rows back and fails if the results differ.

    Args:
        schema: The schema of the staged rows.
        cleaning: The rules.
        alias: The alias of the staging table in the statement.
    """
    return [
        _expression(column, f"{alias}.{quoted(column.source.name)}") for column in cleaning.columns(schema)
    ]


def _expression(column: CleanedColumn, value: str) -> str:
    if column.trim:
        # TRIM with characters would do, but the local stand-in does not support it.
        value = f"REGEXP_REPLACE({value}, {_ENDS}, '')"
    if column.cast is not None:
        value = column.cast.sql(value, column.stored.type)
    if column.default is not None:
        value = f"COALESCE({value}, {_literal(column.default, column.stored)})"
    bounds = [
        f"WHEN {value} {sign} {_literal(bound, column.stored)} THEN {_literal(bound, column.stored)}"
        for sign, bound in (("<", column.minimum), (">", column.maximum))
        if bound is not None
    ]
    # Engines differ in how LEAST and GREATEST treat a null.
    return f"CASE {' '.join(bounds)} ELSE {value} END" if bounds else value


def _literal(raw: Any, column: Column) -> str:
    """Return the SQL literal of a raw JSON value that fits the column."""
    value, text = decoder_for(column)(raw)
    kind = column.type.kind
    if kind is Kind.STRING:
        escaped = value.replace("\\", "\\\\").replace("'", "''")
        return f"'{escaped}'"
    if kind is Kind.TIMESTAMP:
        text = text.replace("Z", "")
    return f"'{text.strip(chr(34))}'::{column.type.snowflake}"
