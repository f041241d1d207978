"""Tests of the Delta table's columns and of the tables that are refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from deltalake import Schema

from prediction_contract.errors import SchemaError
from prediction_contract.stores.delta_table import (
    arrow_columns,
    check_delta_table,
    delta_columns,
    delta_schema_json,
)
from tests.contract.prediction_rows import FULL_SCHEMA

PLAIN: dict[str, Any] = {
    "table_schema": delta_schema_json(FULL_SCHEMA),
    "reader_version": 1,
    "writer_version": 2,
    "partition_columns": [],
    "settings": {"delta.enableDeletionVectors": "false", "delta.checkpointInterval": "10"},
}


def test_delta_library_reads_the_schema() -> None:
    """The Delta library reads the schema's JSON and finds the columns that the contract names."""
    fields = Schema.from_json(delta_schema_json(FULL_SCHEMA)).fields
    found = {field.name: json.loads(field.type.to_json()) for field in fields}
    assert found == delta_columns(FULL_SCHEMA)
    assert list(found)[-2:] == ["batch_id", "row_checksum"]
    assert all(field.nullable for field in fields)
    assert arrow_columns(FULL_SCHEMA)["departs"] == "timestamp[us, tz=UTC]"


def test_table_with_additional_columns_is_accepted() -> None:
    """Additional columns and harmless settings do not make a table unreadable."""
    wider = json.loads(PLAIN["table_schema"])
    wider["fields"].append({"name": "more", "type": "string", "nullable": True, "metadata": {}})
    check_delta_table(FULL_SCHEMA, **{**PLAIN, "table_schema": json.dumps(wider)})


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"reader_version": 3}, "reader 3"),
        ({"writer_version": 7}, "writer 7"),
        ({"partition_columns": ["day"]}, "partitioned by day"),
        ({"settings": {"delta.enableDeletionVectors": "true"}}, "enableDeletionVectors"),
        ({"settings": {"delta.columnMapping.mode": "name"}}, "columnMapping"),
        ({"table_schema": PLAIN["table_schema"].replace('"timestamp"', '"timestamp_ntz"')}, "departs"),
        ({"table_schema": PLAIN["table_schema"].replace('"row_checksum"', '"sum"')}, "row_checksum"),
        ({"table_schema": PLAIN["table_schema"].replace('"carrier"', '"Flight"')}, "only in case"),
        ({"table_schema": "{}"}, "cannot be read"),
    ],
)
def test_incompatible_table_is_refused(change: dict[str, Any], fault: str) -> None:
    """A table that a load could not read as plain Parquet of this schema is refused with the reason."""
    with pytest.raises(SchemaError, match=fault):
        check_delta_table(FULL_SCHEMA, **{**PLAIN, **change})
