"""The SQL of `mlpipe diff`, executed: column names do not change its results."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from mlpipe_dagster.cli.inspection.batch_comparison import (
    BatchComparison,
    comparable_columns,
    value_documents,
)
from prediction_contract.rows.schema import PredictionSchema
from prediction_contract.stores.warehouse_table import WarehouseTable

BEFORE, AFTER = "20130201T060000Z-0123abcd", "20130202T060000Z-0123abcd"


@pytest.mark.parametrize("key", ["flight", "k", "a"])
@pytest.mark.parametrize("column", ["k", "k_", "a", "b", "key"])
def test_column_of_any_name_is_compared(key: str, column: str) -> None:
    """One of the two common rows differs, whatever the column and the key are called."""
    if key == column:
        column = f"{column}_2"
    schema = PredictionSchema.from_document(
        {
            "key": key,
            "columns": [
                {"name": key, "type": "string", "nullable": False},
                {"name": column, "type": "string", "nullable": True},
            ],
        }
    )
    table = WarehouseTable("things", schema)
    comparison = BatchComparison(table, BEFORE, AFTER)
    columns = comparable_columns(schema, schema)
    with closing(sqlite3.connect(":memory:")) as database:
        database.execute(table.create())
        rows = [
            (BEFORE, "1", "x"),
            (BEFORE, "2", "y"),
            (AFTER, "1", "x"),
            (AFTER, "2", "z"),
            (AFTER, "3", "z"),
        ]
        for batch_id, entity, value in rows:
            database.execute(
                f"INSERT INTO {table.name} ({table.column_list}) VALUES (?, ?, ?, 0)",
                (entity, value, batch_id),
            )
        assert database.execute(comparison.entities()).fetchall() == [(2, 3, 2)]
        assert database.execute(comparison.sample(added=True, most=9)).fetchall() == [("3",)]
        (answer,) = database.execute(comparison.values(columns)).fetchall()
    (document,) = value_documents(columns, answer, common=2, sensitive=frozenset())
    assert (document["name"], document["changed"], document["changed_share"]) == (column, 1, 0.5)
