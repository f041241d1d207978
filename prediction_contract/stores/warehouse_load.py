"""The statements that load one batch into Snowflake: staged beside the table, then moved in at once.

In order: `prepare` and `copy`; `staged_totals`, compared with the manifest; `refuse` for each quarantined
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

# Snowflake puts the vectorized scanner at a third of the time. NULL_IF, because the text \N is loaded as NULL
# without it.
_FILE_FORMAT = "TYPE = PARQUET USE_LOGICAL_TYPE = TRUE USE_VECTORIZED_SCANNER = TRUE NULL_IF = ()"
# Of the names in one COPY, which leaves room for the rest of the statement.
_MAX_NAME_CHARACTERS = MAX_STATEMENT_BYTES // 2
# The whitespace at both ends of a text.
_BLANKS = " || ".join(f"CHR({ord(blank)})" for blank in TRIMMED)
_ENDS = f"'^[' || {_BLANKS} || ']+|[' || {_BLANKS} || ']+$'"


class WarehouseLoad:
    """The load of one batch by one job run; its staging tables carry both, so no two loads share them.

    Args:
        table: The model's table.
        batch_id: The batch.
        job_run: The job run's id; it is hashed into the staging tables' names.
        delivered: The schema of the batch's files; None if it is the table's.
        cleaning: What makes the table's rows of those of the files.
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
        """Return the statements that create both staging tables, empty and without memory of loaded files.

        The staging table takes rows without key: what to leave out is decided when all of them are seen.
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
            files: Relative to the model's Delta table; each statement names as many as Snowflake takes.

        Raises:
            InvalidNameError: The stage or a file has a form that is not safe in a statement.
        """
        source = staged_delta_table(stage, self._table.model)
        # Named files only: a prefix would take in files that later versions removed. FORCE, because Snowflake
        # skips files it remembers to have loaded. The vectorized scanner takes no other ON_ERROR than
        # ABORT_STATEMENT and SKIP_FILE.
        return [
            f"COPY INTO {self.staging} FROM {source} FILES = ({', '.join(literals)}) "
            f"FILE_FORMAT = ({_FILE_FORMAT}) MATCH_BY_COLUMN_NAME = CASE_INSENSITIVE "
            "ON_ERROR = ABORT_STATEMENT FORCE = TRUE"
            for literals in _chunks([_file_literal(path) for path in files])
        ]

    def staged_totals(self) -> str:
        """Return the query of what was staged: rows, keys, summed checksums, rows of other batches."""
        batch = self._table.is_of_batch(self._batch_id)
        others = f"COUNT(*) - COUNT(CASE WHEN {batch} THEN 1 END)"
        return f"SELECT {self._staged.totals}, {others} FROM {self.staging}"

    def refuse(self) -> str:
        """Return the statement that leaves a quarantined line out of the table, its checksum being its `%s`.

        The checksum and not the key, because a line that is no JSON has none to find its Delta row by. It is
        `checksums.refused_checksum` of a line that was not accepted, and a row's own if others share its key.
        """
        return f"INSERT INTO {self.refused} ({quoted(CHECKSUM_COLUMN)}) VALUES (%s)"

    def move(self, *, are_all_accepted: bool = False) -> list[str]:
        """Return the statements that replace the batch's rows in the table by the accepted staged ones.

        They belong into one transaction, with no DDL in it: DDL would commit.

        Args:
            are_all_accepted: Whether no line was refused; looking each row up among none takes its time.
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
    """Return a file's path as an SQL literal; a valid key holds nothing to escape."""
    return f"'{validated_key(path)}'"


def _chunks(literals: Sequence[str]) -> Iterator[Sequence[str]]:
    """Return the literals in chunks, each of which one COPY may name."""
    first = characters = 0
    for number, literal in enumerate(literals):
        if number - first == MAX_COPY_FILES or characters + len(literal) > _MAX_NAME_CHARACTERS:
            yield literals[first:number]
            first, characters = number, 0
        characters += len(literal)
    if literals:
        yield literals[first:]


def selected_columns(schema: PredictionSchema, cleaning: Cleaning, alias: str) -> list[str]:
    """Return the expressions of the stored columns over the staged ones, in the stored columns' order.

    They say what `RowCleaning` does in Python. A load reads rows back and compares them with Python's, so a
    difference stops it.

    Args:
        schema: The schema of the staged rows.
        cleaning: The rules.
        alias: What the staged rows' table is called in the statement.
    """
    return [
        _expression(column, f"{alias}.{quoted(column.source.name)}") for column in cleaning.columns(schema)
    ]


def _expression(column: CleanedColumn, value: str) -> str:
    if column.trim:
        # Not TRIM with characters, which the local stand-in leaves out.
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
    # Not LEAST and GREATEST, in which a null counts differently from engine to engine.
    return f"CASE {' '.join(bounds)} ELSE {value} END" if bounds else value


def _literal(raw: Any, column: Column) -> str:
    """Return a raw JSON value that the column's decoder takes as a literal of the column's type."""
    value, text = decoder_for(column)(raw)
    kind = column.type.kind
    if kind is Kind.STRING:
        escaped = value.replace("\\", "\\\\").replace("'", "''")
        return f"'{escaped}'"
    if kind is Kind.TIMESTAMP:
        text = text.replace("Z", "")
    return f"'{text.strip(chr(34))}'::{column.type.snowflake}"
