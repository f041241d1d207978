"""Compares two batches of a model: their schemas, and their rows in the warehouse by SQL."""

# ruff: noqa: S608  # the statements hold only names, batch ids and limits, which were validated
from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from prediction_contract.rows.schema import Column, Kind, PredictionSchema
from prediction_contract.stores.warehouse_table import WarehouseTable, quoted

# The most columns in one statement; each takes up to seven aggregates.
COLUMNS_PER_QUERY = 100
_NUMBERS = frozenset({Kind.LONG, Kind.DECIMAL, Kind.DOUBLE, Kind.BOOLEAN})
# The key's alias is `_K`, because no column's name begins with an underscore.
_BOTH = "A._K = B._K"


def schema_difference(before: PredictionSchema, after: PredictionSchema) -> dict[str, list[dict[str, Any]]]:
    """Return the columns that were added, removed, or changed in type or nullability."""
    old = {column.name: column for column in before.columns}
    new = {column.name: column for column in after.columns}
    return {
        "added": [column.to_document() for name, column in new.items() if name not in old],
        "gone": [column.to_document() for name, column in old.items() if name not in new],
        "changed": [
            {"name": name, "before": _described(old[name]), "after": _described(column)}
            for name, column in new.items()
            if name in old and _described(old[name]) != _described(column)
        ],
    }


def _described(column: Column) -> str:
    return f"{column.type}{'' if column.nullable else ' not null'}"


def comparable_columns(before: PredictionSchema, after: PredictionSchema) -> list[Column]:
    """Return the columns, except for the key, that both batches have with the same type."""
    old = {column.name: column.type for column in before.columns}
    return [
        column for column in after.columns if column.name != after.key and old.get(column.name) == column.type
    ]


@dataclass(frozen=True, slots=True)
class BatchComparison:
    """The queries that compare two batches in the model's table.

    Attributes:
        table: The model's table, with the later batch's schema.
        before: The earlier batch.
        after: The later batch.
    """

    table: WarehouseTable
    before: str
    after: str

    def entities(self) -> str:
        """Return the query for how many entities each batch has, and how many both have."""
        return f"SELECT COUNT(A._K), COUNT(B._K), COUNT(CASE WHEN {_BOTH} THEN 1 END) FROM {self._joined(())}"

    def sample(self, *, added: bool, most: int) -> str:
        """Return the query for the first keys that only one of the batches has.

        Args:
            added: Whether it is the later batch; otherwise the earlier one.
            most: The most keys to return.
        """
        one, other = (self.after, self.before) if added else (self.before, self.after)
        key, table = self.table.key, self.table.name
        return (
            f"SELECT {key} FROM {table} WHERE {self.table.is_of_batch(one)} AND {key} NOT IN "
            f"(SELECT {key} FROM {table} WHERE {self.table.is_of_batch(other)}) "
            f"ORDER BY {key} LIMIT {int(most)}"
        )

    def values(self, columns: Sequence[Column]) -> str:
        """Return the query for one row of aggregates, which `value_documents` reads."""
        selected = ", ".join(text for column in columns for text in _aggregates(column))
        return f"SELECT {selected} FROM {self._joined([quoted(column.name) for column in columns])}"

    def _joined(self, columns: Iterable[str]) -> str:
        inner = ", ".join((f"{self.table.key} AS _K", *columns))
        sides = (
            f"(SELECT {inner} FROM {self.table.name} WHERE {self.table.is_of_batch(batch)}) {alias}"
            for alias, batch in (("A", self.before), ("B", self.after))
        )
        return " FULL OUTER JOIN ".join(sides) + f" ON {_BOTH}"


def _aggregates(column: Column) -> list[str]:
    before, after = f"A.{quoted(column.name)}", f"B.{quoted(column.name)}"
    found = [
        f"COUNT(CASE WHEN {_BOTH} AND {before} IS DISTINCT FROM {after} THEN 1 END)",
        f"COUNT(CASE WHEN A._K IS NOT NULL AND {before} IS NULL THEN 1 END)",
        f"COUNT(CASE WHEN B._K IS NOT NULL AND {after} IS NULL THEN 1 END)",
    ]
    if column.type.kind in _NUMBERS:
        old, new = (_number(column, value) for value in (before, after))
        shift = f"CASE WHEN {_BOTH} THEN {new} - {old} END"
        found += [f"AVG({old})", f"AVG({new})", f"AVG({shift})", f"MAX(ABS({shift}))"]
    return found


def _number(column: Column, value: str) -> str:
    if column.type.kind is Kind.BOOLEAN:
        return f"CASE WHEN {value} THEN 1.0 WHEN NOT {value} THEN 0.0 END::FLOAT"
    return f"{value}::FLOAT"


def value_documents(
    columns: Sequence[Column], answer: Sequence[Any], *, common: int, sensitive: frozenset[str] | None
) -> list[dict[str, Any]]:
    """Return a document per column that says how its values differ between the batches.

    Args:
        columns: The columns passed to `BatchComparison.values`.
        answer: The row of the query `BatchComparison.values`.
        common: How many entities both batches have.
        sensitive: The columns whose largest shift is hidden, because it shows a single entity's value; None
            hides it for all columns.
    """
    left = list(answer)
    found = []
    for column in columns:
        changed, nulls_before, nulls_after = (int(left.pop(0)) for _ in range(3))
        shift: list[float | None] = [None] * 4
        if column.type.kind in _NUMBERS:
            shift = [None if value is None else float(value) for value in left[:4]]
            del left[:4]
        if sensitive is None or column.name in sensitive:
            shift[3] = None
        found.append(
            {
                "name": column.name,
                "type": str(column.type),
                "changed": changed,
                "changed_share": changed / common if common else None,
                "nulls_before": nulls_before,
                "nulls_after": nulls_after,
                "mean_before": shift[0],
                "mean_after": shift[1],
                "mean_shift": shift[2],
                "largest_shift": shift[3],
            }
        )
    return found
