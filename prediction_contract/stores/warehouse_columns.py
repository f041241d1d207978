"""A model's table beside a batch that is to be loaded: which columns came, which changed, which went.

A new column is added, and has no value in the batches before. A column that changed its type, or that earlier
batches have and this one lacks, is for whoever declares the model to decide: readers of the view rely on it.
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
    """Return the query of the columns of the table that is its `%s`: name, type, precision, scale."""
    return (
        "SELECT COLUMN_NAME, DATA_TYPE, NUMERIC_PRECISION, NUMERIC_SCALE FROM INFORMATION_SCHEMA.COLUMNS "
        "WHERE TABLE_SCHEMA = CURRENT_SCHEMA() AND TABLE_NAME = %s"
    )


@dataclass(frozen=True, slots=True)
class ColumnDifference:
    """What a batch's columns are beside those of the table.

    Attributes:
        additions: The statements that add the new columns.
        changed: In words, each column of another type.
        gone: The table's columns that the batch does not have, without quotes.
    """

    additions: tuple[str, ...]
    changed: tuple[str, ...]
    gone: tuple[str, ...]

    @classmethod
    def between(cls, table: WarehouseTable, found: Iterable[Sequence[Any]]) -> ColumnDifference:
        """Return the difference of a batch's table, as its schema has it, from what `table_columns` found."""
        types = {str(name): _type(str(kind), precision, scale) for name, kind, precision, scale in found}
        wanted = {column.name.strip('"'): column for column in table.columns}
        return cls(
            additions=tuple(
                f"ALTER TABLE {table.name} ADD COLUMN IF NOT EXISTS {column.name} {column.type}"
                for name, column in wanted.items()
                if name not in types
            ),
            changed=tuple(
                f"{name} is {types[name]} there and {column.type} in the batch"
                for name, column in wanted.items()
                if types.get(name, column.type) != column.type
            ),
            gone=tuple(name for name in types if name not in wanted),
        )


def count_values(table: WarehouseTable, columns: Sequence[str], batch_id: str) -> str:
    """Return the query of how many values each of some columns has in the batches before one.

    A batch older than a column is loaded again without it; a batch that comes after it has lost it.
    """
    counts = ", ".join(f"COUNT({quoted(column)})" for column in columns)
    return f"SELECT {counts} FROM {table.name} WHERE {quoted(BATCH_COLUMN)} < '{BatchId(batch_id)}'"


def _type(kind: str, precision: Any, scale: Any) -> str:
    """Return a column's type as DDL spells it."""
    return f"NUMBER({precision},{scale})" if kind == "NUMBER" else _NAMES.get(kind, kind)
