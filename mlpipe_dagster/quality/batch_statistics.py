"""The queries behind quality rules and drift: aggregates of whole batches, computed by the warehouse."""

# ruff: noqa: S608  # all values in the statements are validated, so they are safe
from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from prediction_contract.rows.schema import Column, Kind
from prediction_contract.stores.warehouse_table import BATCH_COLUMN, quoted

if TYPE_CHECKING:
    from model_declaration.quality import ColumnRule
    from prediction_contract.stores.warehouse_table import WarehouseTable

MEASURED = frozenset({Kind.LONG, Kind.DECIMAL, Kind.DOUBLE, Kind.BOOLEAN})
"""Kinds whose values have an order and a distance, as bins need. Dates move with the partition anyway."""

# The most aggregates per statement; a wide table takes several statements.
MAX_AGGREGATES = 600


def measured_columns(columns: Iterable[Column], key: str) -> list[Column]:
    """Return the columns whose distributions are compared."""
    return [column for column in columns if column.type.kind in MEASURED and column.name != key]


def rule_counts(table: WarehouseTable, batch_id: str, rules: Sequence[ColumnRule]) -> str:
    """Return the query that counts rows and, per rule, nulls, values out of bounds and distinct values."""
    counted = ["COUNT(*)"]
    for rule in rules:
        name = quoted(rule.column)
        bounds = [
            f"{name} {sign} {bound}"
            for sign, bound in (("<", rule.minimum), (">", rule.maximum))
            if bound is not None
        ]
        counted += [
            f"COUNT(*) - COUNT({name})",
            f"COUNT(CASE WHEN {' OR '.join(bounds)} THEN 1 END)" if bounds else "0",
            f"COUNT(DISTINCT {name})" if rule.unique else "NULL",
        ]
    return f"SELECT {', '.join(counted)} FROM {table.name} WHERE {table.is_of_batch(batch_id)}"


def shared_entities(table: WarehouseTable, batch_id: str, live_batch_id: str) -> str:
    """Return the query that counts the live batch's rows, and those whose entity the other batch has."""
    others = f"SELECT {table.key} FROM {table.name} WHERE {table.is_of_batch(batch_id)}"
    return (
        f"SELECT COUNT(*), COUNT(CASE WHEN {table.key} IN ({others}) THEN 1 END) "
        f"FROM {table.name} WHERE {table.is_of_batch(live_batch_id)}"
    )


def quantiles(
    table: WarehouseTable, batch_id: str, columns: Sequence[Column], fractions: Sequence[float]
) -> str:
    """Return the query for one row of approximate quantiles: all of the first column, then of the next."""
    asked = ", ".join(
        f"APPROX_PERCENTILE({_measure(column)}, {fraction})" for column in columns for fraction in fractions
    )
    return f"SELECT {asked} FROM {table.name} WHERE {table.is_of_batch(batch_id)}"


def binned(
    table: WarehouseTable,
    batch_ids: Sequence[str],
    columns: Sequence[Column],
    edges: Mapping[str, Sequence[float]],
) -> str:
    """Return the query that counts, per batch, rows and each column's values in total and up to each edge."""
    counted = ["COUNT(*)"]
    for column in columns:
        counted.append(f"COUNT({quoted(column.name)})")
        counted += [
            f"COUNT(CASE WHEN {_measure(column)} <= {edge!r}::DOUBLE THEN 1 END)"
            for edge in edges[column.name]
        ]
    batches = " OR ".join(table.is_of_batch(batch_id) for batch_id in batch_ids)
    batch = quoted(BATCH_COLUMN)
    return f"SELECT {batch}, {', '.join(counted)} FROM {table.name} WHERE {batches} GROUP BY {batch}"


def sample_rows(table: WarehouseTable, batch_id: str, columns: Sequence[str], rows: int) -> str:
    """Return the query for a batch's first rows in order of the key."""
    names = ", ".join(quoted(column) for column in columns)
    return (
        f"SELECT {names} FROM {table.name} WHERE {table.is_of_batch(batch_id)} "
        f"ORDER BY {table.key} LIMIT {int(rows)}"
    )


def _measure(column: Column) -> str:
    name = quoted(column.name)
    if column.type.kind is Kind.BOOLEAN:
        return f"(CASE WHEN {name} THEN 1.0 WHEN NOT {name} THEN 0.0 END)::DOUBLE"
    return f"{name}::DOUBLE"
