"""A model's table in Snowflake, the view of its live batch, and the projection of the publications.

Every name is validated and quoted; every value is either validated to be safe in a literal or a `%s`
placeholder for the connector. Statements run in the connection's database and schema.
"""

# ruff: noqa: S608  # what goes into the text is validated to be safe in it; values are placeholders
from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from prediction_contract.limits import MAX_LIST_VALUES
from prediction_contract.naming.batch import BatchId, ModelName
from prediction_contract.rows.schema import Kind
from prediction_contract.text.utc_time import format_utc, parse_utc

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from prediction_contract.rows.row_contract import Row
    from prediction_contract.rows.schema import PredictionSchema

BATCH_COLUMN = "BATCH_ID"
CHECKSUM_COLUMN = "ROW_CHECKSUM"
PUBLICATIONS = '"PUBLICATIONS"'

# Of every session of ours. Timestamps are kept without a zone and are UTC; files hold moments, which
# Snowflake converts by the session's zone. A dead session's transaction is aborted after five idle minutes;
# by default others wait for its locks twelve hours, and a statement may run for two days.
SESSION_PARAMETERS: Mapping[str, str | int] = {
    "TIMEZONE": "UTC",
    "LOCK_TIMEOUT": 900,
    "STATEMENT_TIMEOUT_IN_SECONDS": 1800,
}


class WarehouseColumn(NamedTuple):
    """A column of the table: its quoted name, its Snowflake type, and whether it is never null."""

    name: str
    type: str
    is_required: bool

    @property
    def declaration(self) -> str:
        """The column as it stands in DDL."""
        return f"{self.name} {self.type}{' NOT NULL' if self.is_required else ''}"


class ProjectedPublication(NamedTuple):
    """One entry of the registry as Snowflake keeps it, in the order of the `PUBLICATIONS` columns.

    Attributes:
        model: The model's name.
        sequence: The publication's number, from 1.
        batch_id: The batch that is live from here on; None if none is.
        partition: The partition of that batch.
        action: What was asked for, say `publish`.
        request_id: The request that asked for it.
        published_at: When it happened, as `format_utc` writes it.
    """

    model: str
    sequence: int
    batch_id: str | None
    partition: str | None
    action: str
    request_id: str
    published_at: str


class ProjectedSequences(NamedTuple):
    """Which of a model's publications Snowflake holds.

    Attributes:
        highest: The highest sequence; 0 if there is none.
        gaps: The sequences below it that are not there, each gap as its two neighbours, the lowest gap first.
            Numbers are left out for good after a restore of the registry, so a gap need not be a fault.
    """

    highest: int = 0
    gaps: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of_rows(cls, rows: Iterable[Sequence[Any]]) -> ProjectedSequences:
        """Return them from the rows of `projected_gaps`: the lower neighbour and the sequence above it."""
        pairs = [(int(lower), int(sequence)) for lower, sequence in rows]
        gaps = tuple((lower, sequence) for lower, sequence in pairs if sequence > lower + 1)
        return cls(highest=pairs[-1][1] if pairs else 0, gaps=gaps)


_PUBLICATION_COLUMNS = (
    WarehouseColumn('"MODEL"', "VARCHAR", is_required=True),
    WarehouseColumn('"SEQUENCE"', "NUMBER(19,0)", is_required=True),
    WarehouseColumn('"BATCH_ID"', "VARCHAR", is_required=True),
    WarehouseColumn('"PARTITION_KEY"', "VARCHAR", is_required=True),
    WarehouseColumn('"ACTION"', "VARCHAR", is_required=True),
    WarehouseColumn('"REQUEST_ID"', "VARCHAR", is_required=True),
    WarehouseColumn('"PUBLISHED_AT"', "TIMESTAMP_NTZ(6)", is_required=True),
)


class WarehouseTable:
    """The table of all batches of one model, and the view of its live batch.

    Only the key, the batch and the checksum are declared `NOT NULL`: a batch under an older schema of the
    model has no value in columns that came later.
    """

    def __init__(self, model: str, schema: PredictionSchema) -> None:
        self.model = ModelName(model)
        self.schema = schema
        # The suffixes keep the names of one model's table and view apart from those of every other model.
        self.name = f'"{table_name(model)}"'
        self.view = f'"{self.model.upper()}_LIVE"'
        self.key = quoted(schema.key)
        self._kinds = {column.name: column.type.kind for column in schema.columns}

    @property
    def columns(self) -> tuple[WarehouseColumn, ...]:
        """The schema's columns in order, then the batch and the checksum."""
        own = tuple(
            WarehouseColumn(quoted(column.name), column.type.snowflake, column.name == self.schema.key)
            for column in self.schema.columns
        )
        return (
            *own,
            WarehouseColumn(quoted(BATCH_COLUMN), "VARCHAR", is_required=True),
            WarehouseColumn(quoted(CHECKSUM_COLUMN), "NUMBER(19,0)", is_required=True),
        )

    @property
    def column_list(self) -> str:
        """The names of all columns, for INSERT and SELECT."""
        return ", ".join(column.name for column in self.columns)

    def create(self) -> str:
        """Return the statement that creates the table where it is not there yet."""
        declarations = ", ".join(column.declaration for column in self.columns)
        return f"CREATE TABLE IF NOT EXISTS {self.name} ({declarations})"

    def create_view(self) -> str:
        """Return the statement that creates or replaces the live view and keeps its grants.

        The live batch is that of the highest sequence, by an aggregate and not by a join, so a publication
        projected twice shows no row twice. Without a publication the view is empty.
        """
        kinds = {quoted(name): kind for name, kind in self._kinds.items()}
        selected = ", ".join(
            f"PARSE_JSON({column.name}) AS {column.name}"
            if kinds.get(column.name) is Kind.JSON
            else column.name
            for column in self.columns
        )
        return (
            f"CREATE OR REPLACE VIEW {self.view} COPY GRANTS AS SELECT {selected} FROM {self.name} "
            f"WHERE {quoted(BATCH_COLUMN)} = (SELECT MAX_BY({quoted(BATCH_COLUMN)}, {quoted('SEQUENCE')}) "
            f"FROM {PUBLICATIONS} WHERE {quoted('MODEL')} = '{self.model}')"
        )

    def batch_totals(self, batch_id: str) -> str:
        """Return the query of a batch's rows, distinct keys and summed row checksums, three integers.

        The sum is signed; modulo 2^64 it is the batch's checksum.
        """
        return f"SELECT {self.totals} FROM {self.name} WHERE {self.is_of_batch(batch_id)}"

    @property
    def totals(self) -> str:
        """The three aggregates that verify a batch."""
        # Widened first, so that no engine sums 64-bit integers as binary floats.
        checksum = f"COALESCE(SUM({quoted(CHECKSUM_COLUMN)}::NUMBER(38,0)), 0)"
        return f"COUNT(*), COUNT(DISTINCT {self.key}), {checksum}"

    def read_back(self, batch_id: str, keys: int) -> str:
        """Return the query of a batch's rows of some keys, in the order of `columns`.

        Args:
            batch_id: The batch.
            keys: How many `%s` placeholders it needs, 1 to `MAX_LIST_VALUES`.

        Raises:
            ValueError: So many keys go into no statement.
        """
        if not 1 <= keys <= MAX_LIST_VALUES:
            raise ValueError(
                f"{keys} keys cannot be read back at once. Ask for 1 to {MAX_LIST_VALUES} of them."
            )
        placeholders = ", ".join(["%s"] * keys)
        return (
            f"SELECT {self.column_list} FROM {self.name} "
            f"WHERE {self.is_of_batch(batch_id)} AND {self.key} IN ({placeholders})"
        )

    def stored_values(self, row: Row, batch_id: str) -> tuple[Any, ...]:
        """Return what `read_back` must find for a row, in the order of `columns`.

        Integers and decimals compare equal whatever type the connector gives them; timestamps are naive UTC
        datetimes, `json` values canonical text.
        """
        values = dict(row.values)
        for column, text in zip(values, row.texts, strict=True):
            kind = self._kinds[column]
            if kind is Kind.JSON:
                values[column] = text
            elif kind is Kind.TIMESTAMP and text is not None:
                values[column] = values[column].replace(tzinfo=None)
        return (*(values[name] for name in self.schema.names), batch_id, row.checksum)

    def delete_batch(self, batch_id: str) -> str:
        """Return the statement that deletes a batch, before it is inserted again."""
        return delete_batch(self.model, batch_id)

    @staticmethod
    def is_of_batch(batch_id: str) -> str:
        """Return the condition that a row is of a batch."""
        return f"{quoted(BATCH_COLUMN)} = '{BatchId(batch_id)}'"


def table_name(model: str) -> str:
    """Return the name, without quotes, of the table of all batches of a model."""
    return f"{ModelName(model).upper()}_PREDICTIONS"


def count_tables() -> str:
    """Return the query whether the schema has a table of the name that is its `%s`: 1 or 0."""
    return (
        "SELECT COUNT(*) FROM INFORMATION_SCHEMA.TABLES "
        "WHERE TABLE_SCHEMA = CURRENT_SCHEMA() AND TABLE_NAME = %s"
    )


def delete_batch(model: str, batch_id: str) -> str:
    """Return the statement that deletes a batch and says how many rows it had, whatever its columns."""
    return f'DELETE FROM "{table_name(model)}" WHERE {WarehouseTable.is_of_batch(batch_id)}'


def quoted(name: str) -> str:
    """Return a column's name as a Snowflake identifier; the contract's names hold nothing to escape."""
    return f'"{name.upper()}"'


def create_publications() -> str:
    """Return the statement that creates the projection of the publications where it is not there yet."""
    declarations = ", ".join(column.declaration for column in _PUBLICATION_COLUMNS)
    return f"CREATE TABLE IF NOT EXISTS {PUBLICATIONS} ({declarations})"


def insert_publication() -> str:
    """Return the statement that projects one publication unless it is there, for `publication_parameters`."""
    names = ", ".join(column.name for column in _PUBLICATION_COLUMNS)
    # Cast, because a bare literal in a SELECT has no type of its own.
    values = ", ".join(f"%s::{column.type}" for column in _PUBLICATION_COLUMNS)
    return (
        f"INSERT INTO {PUBLICATIONS} ({names}) SELECT {values} WHERE NOT EXISTS "
        f"(SELECT 1 FROM {PUBLICATIONS} WHERE {quoted('MODEL')} = %s AND {quoted('SEQUENCE')} = %s)"
    )


def publication_parameters(publication: ProjectedPublication) -> tuple[str | int, ...]:
    """Return the values of `insert_publication`'s placeholders.

    Raises:
        InvalidNameError: The model or the batch id has another form.
        ValueError: The moment of publication has another form.
    """
    model, sequence = str(ModelName(publication.model)), publication.sequence
    return (
        model,
        sequence,
        # Text and not null for "none": aggregates skip nulls, and would leave the batch before it live.
        "" if publication.batch_id is None else str(BatchId(publication.batch_id)),
        publication.partition or "",
        publication.action,
        publication.request_id,
        # A literal for TIMESTAMP_NTZ has no zone.
        format_utc(parse_utc(publication.published_at)).removesuffix("Z"),
        model,
        sequence,
    )


def projected_gaps() -> str:
    """Return the query of `ProjectedSequences.of_rows`; the model is its `%s`."""
    sequence, lower, higher = quoted("SEQUENCE"), quoted("LOWER_SEQUENCE"), quoted("HIGHER_SEQUENCE")
    ordered = f"OVER (ORDER BY {sequence})"
    return (
        f"SELECT {lower}, {sequence} FROM (SELECT {sequence}, LAG({sequence}, 1, 0) {ordered} AS {lower}, "
        f"LEAD({sequence}) {ordered} AS {higher} FROM {PUBLICATIONS} WHERE {quoted('MODEL')} = %s) "
        f"WHERE {higher} IS NULL OR {sequence} > {lower} + 1 ORDER BY {sequence}"
    )


def count_projected() -> str:
    """Return the query of every model's projected sequences: the model, how many there are, the highest."""
    model, sequence = quoted("MODEL"), quoted("SEQUENCE")
    return f"SELECT {model}, COUNT(DISTINCT {sequence}), MAX({sequence}) FROM {PUBLICATIONS} GROUP BY {model}"
