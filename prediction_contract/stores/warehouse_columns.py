"""Compares the columns of a model's warehouse table with those of a batch to be loaded.

A new column is added to the table; earlier batches have no value in it. If a column changed its type,
or the batch lacks a column of earlier batches, a person must decide, because the view has readers.
"""

# ruff: noqa: S608  # what goes into the text is validated to be safe in it; values are placeholders
from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prediction_contract.naming.batch import BatchId
from prediction_contract.stores.warehouse_table import BATCH_COLUMN, quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from prediction_contract.stores.warehouse_table import WarehouseTable

_NAMES = {"TEXT": "VARCHAR", "TIMESTAMP_NTZ": "TIMESTAMP_NTZ(6)"}


def table_columns() -> str:
    """Return the query of a table's columns: name, type, precision, scale. Its `%s` is the table's name."""
    return (
        "SELECT COLUMN_NAME, DATA_TYPE, NUMERIC_PRECISION, NUMERIC_SCALE FROM INFORMATION_SCHEMA.COLUMNS "
        "WHERE TABLE_SCHEMA = CURRENT_SCHEMA() AND TABLE_NAME = %s"
    )


@dataclass(frozen=True, slots=True)
class ColumnDifference:
    """The difference between a batch's columns and the table's columns.

    Attributes:
        additions: The statements that add the new columns.
        changed: One phrase for each column whose type differs.
        gone: The names, without quotes, of the table's columns that the batch does not have.
    """

    additions: tuple[str, ...]
    changed: tuple[str, ...]
    gone: tuple[str, ...]

    @classmethod
    def between(cls, table: WarehouseTable, found: Iterable[Sequence[Any]]) -> ColumnDifference:
        """Return the difference between a table for the batch's schema and the result of `table_columns`."""
        types = {str(name): _type(str(kind), precision, scale) for name, kind, precision, scale in found}
        wanted = {column.name.strip('"'): column for column in table.columns}
        return cls(
            additions=tuple(
                f"ALTER TABLE {table.name} ADD COLUMN IF NOT EXISTS {column.name} {column.type}"
                for name, column in wanted.items()
                if name not in types
            ),
            changed=tuple(
                f"{name} is {types[name]} in the table and {column.type} in the batch"
                for name, column in wanted.items()
                if types.get(name, column.type) != column.type
            ),
            gone=tuple(name for name in types if name not in wanted),
        )


def count_values(table: WarehouseTable, columns: Sequence[str], batch_id: str) -> str:
    """Return the query that counts, for each column, the values in batches before this one.

    If earlier batches have no value, the column was added after this batch. Otherwise this batch lacks it.
    """
    counts = ", ".join(f"COUNT({quoted(column)})" for column in columns)
    return f"SELECT {counts} FROM {table.name} WHERE {quoted(BATCH_COLUMN)} < '{BatchId(batch_id)}'"


def _type(kind: str, precision: Any, scale: Any) -> str:
    """Return a column's type as in DDL."""
    return f"NUMBER({precision},{scale})" if kind == "NUMBER" else _NAMES.get(kind, kind)
