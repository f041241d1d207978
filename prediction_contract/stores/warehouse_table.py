"""A model's table in Snowflake, the view of its live batch, and the projection of the publications.

Every name is validated and quoted. Every value is either validated as safe in a literal or passed as a `%s`
placeholder. Statements run in the connection's database and schema.
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

# Parameters of all our sessions. Stored timestamps are UTC without a zone, and Snowflake converts those in
# files by the session's time zone. By default, a session waits twelve hours for the locks of another one, and
# a statement may run for two days. A dead session's transaction is aborted after five idle minutes.
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
        """The column's declaration in DDL."""
        return f"{self.name} {self.type}{' NOT NULL' if self.is_required else ''}"


class ProjectedPublication(NamedTuple):
    """A publication entry as Snowflake stores it, in the order of the `PUBLICATIONS` columns.

    Attributes:
        model: The model's name.
        sequence: The publication's number, counting from 1.
        batch_id: The batch that is live after this entry; None if there is none.
        partition: The partition of that batch.
        action: The requested action, for example `publish`.
        request_id: The request that caused the entry.
        published_at: When the change was made, in the form of `format_utc`.
    """

    model: str
    sequence: int
    batch_id: str | None
    partition: str | None
    action: str
    request_id: str
    published_at: str


class ProjectedSequences(NamedTuple):
    """The publications of a model in Snowflake.

    Attributes:
        highest: The highest sequence; 0 if there is none.
        gaps: The gaps in the sequences, each as the two sequences around it, in ascending order. A restore of
            the registry leaves a permanent gap, so a gap need not be a fault.
    """

    highest: int = 0
    gaps: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of_rows(cls, rows: Iterable[Sequence[Any]]) -> ProjectedSequences:
        """Return the sequences for the rows of `projected_gaps`, which are pairs of adjacent sequences."""
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

    Only the key, the batch and the checksum are declared `NOT NULL`, because a batch with an older schema has
    no values in columns that were added later.
    """

    def __init__(self, model: str, schema: PredictionSchema) -> None:
        self.model = ModelName(model)
        self.schema = schema
        # With these suffixes, no table or view can have the name of another model's.
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
        """Return the statement that creates the table unless it exists."""
        declarations = ", ".join(column.declaration for column in self.columns)
        return f"CREATE TABLE IF NOT EXISTS {self.name} ({declarations})"

    def create_view(self) -> str:
        """Return the statement that creates or replaces the live view and keeps its grants.

        The view shows the batch with the highest sequence. It uses an aggregate and not a join, so a
        publication that was projected twice does not duplicate rows. Without a publication the view is empty.
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
        """Return the query of a batch's number of rows, number of distinct keys, and sum of row checksums.

        The sum is signed. Modulo 2^64 it is the batch's checksum.
        """
        return f"SELECT {self.totals} FROM {self.name} WHERE {self.is_of_batch(batch_id)}"

    @property
    def totals(self) -> str:
        """The three aggregates that verify a batch."""
        # Cast to a wider type, so that no engine sums 64-bit integers as binary floats.
        checksum = f"COALESCE(SUM({quoted(CHECKSUM_COLUMN)}::NUMBER(38,0)), 0)"
        return f"COUNT(*), COUNT(DISTINCT {self.key}), {checksum}"

    def read_back(self, batch_id: str, keys: int) -> str:
        """Return the query of a batch's rows of some keys, in the order of `columns`.

        Args:
            batch_id: The batch.
            keys: The number of keys and thus of `%s` placeholders, 1 to `MAX_LIST_VALUES`.

        Raises:
            ValueError: `keys` is out of range.
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

        Integers and decimals compare equal to any numeric type of the connector. Timestamps are naive UTC
        datetimes, and `json` values are canonical text.
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
        """Return the statement that deletes a batch."""
        return delete_batch(self.model, batch_id)

    @staticmethod
    def is_of_batch(batch_id: str) -> str:
        """Return the condition that a row belongs to a batch."""
        return f"{quoted(BATCH_COLUMN)} = '{BatchId(batch_id)}'"


def table_name(model: str) -> str:
    """Return the name, without quotes, of the table of all batches of a model."""
    return f"{ModelName(model).upper()}_PREDICTIONS"


def count_tables() -> str:
    """Return the query whether a table exists: 1 or 0. Its `%s` is the table's name."""
    return (
        "SELECT COUNT(*) FROM INFORMATION_SCHEMA.TABLES "
        "WHERE TABLE_SCHEMA = CURRENT_SCHEMA() AND TABLE_NAME = %s"
    )


def delete_batch(model: str, batch_id: str) -> str:
    """Return the statement that deletes a batch. Snowflake returns the number of deleted rows."""
    return f'DELETE FROM "{table_name(model)}" WHERE {WarehouseTable.is_of_batch(batch_id)}'


def quoted(name: str) -> str:
    """Return a column's name as a quoted Snowflake identifier. Valid names have no character to escape."""
    return f'"{name.upper()}"'


def create_publications() -> str:
    """Return the statement that creates the projection of the publications unless it exists."""
    declarations = ", ".join(column.declaration for column in _PUBLICATION_COLUMNS)
    return f"CREATE TABLE IF NOT EXISTS {PUBLICATIONS} ({declarations})"


def insert_publication() -> str:
    """Return the statement that projects a publication once. Its values are `publication_parameters`."""
    names = ", ".join(column.name for column in _PUBLICATION_COLUMNS)
    # Cast, because a literal in a SELECT has no type.
    values = ", ".join(f"%s::{column.type}" for column in _PUBLICATION_COLUMNS)
    return (
        f"INSERT INTO {PUBLICATIONS} ({names}) SELECT {values} WHERE NOT EXISTS "
        f"(SELECT 1 FROM {PUBLICATIONS} WHERE {quoted('MODEL')} = %s AND {quoted('SEQUENCE')} = %s)"
    )


def publication_parameters(publication: ProjectedPublication) -> tuple[str | int, ...]:
    """Return the values of `insert_publication`'s placeholders.

    Raises:
        InvalidNameError: The model's name or the batch id is invalid.
        ValueError: The time of publication is invalid.
    """
    model, sequence = str(ModelName(publication.model)), publication.sequence
    return (
        model,
        sequence,
        # No batch is stored as empty text, because MAX_BY skips nulls and the previous batch would stay live.
        "" if publication.batch_id is None else str(BatchId(publication.batch_id)),
        publication.partition or "",
        publication.action,
        publication.request_id,
        # A TIMESTAMP_NTZ literal has no zone.
        format_utc(parse_utc(publication.published_at)).removesuffix("Z"),
        model,
        sequence,
    )


def projected_gaps() -> str:
    """Return the query of a model's gaps and highest sequence. Its `%s` is the model's name."""
    sequence, lower, higher = quoted("SEQUENCE"), quoted("LOWER_SEQUENCE"), quoted("HIGHER_SEQUENCE")
    ordered = f"OVER (ORDER BY {sequence})"
    return (
        f"SELECT {lower}, {sequence} FROM (SELECT {sequence}, LAG({sequence}, 1, 0) {ordered} AS {lower}, "
        f"LEAD({sequence}) {ordered} AS {higher} FROM {PUBLICATIONS} WHERE {quoted('MODEL')} = %s) "
        f"WHERE {higher} IS NULL OR {sequence} > {lower} + 1 ORDER BY {sequence}"
    )


def count_projected() -> str:
    """Return the query of each model's name, number of projected sequences, and highest sequence."""
    model, sequence = quoted("MODEL"), quoted("SEQUENCE")
    return f"SELECT {model}, COUNT(DISTINCT {sequence}), MAX({sequence}) FROM {PUBLICATIONS} GROUP BY {model}"
