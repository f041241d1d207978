"""Tests of column types and prediction schemas."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prediction_contract.errors import SchemaError
from prediction_contract.limits import FORBIDDEN_COLUMNS
from prediction_contract.rows.schema import RESERVED_NAMES, Column, ColumnType, PredictionSchema
from tests.contract.prediction_rows import FULL_SCHEMA, column

TYPES = st.one_of(
    st.sampled_from(["string", "long", "double", "boolean", "date", "timestamp", "json"]),
    st.integers(1, 38).flatmap(lambda p: st.integers(0, p).map(lambda s: f"decimal({p},{s})")),
)


@given(TYPES)
def test_column_type_round_trip(text: str) -> None:
    """Every column type is written as the text that it was parsed from."""
    assert str(ColumnType.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "decimal",
        "decimal(39,0)",
        "decimal(3,4)",
        "decimal(0,0)",
        "decimal(5, 2)",
        "int",
        "LONG",
        "long\n",
    ],
)
def test_invalid_column_type_is_refused(text: str) -> None:
    """Types that a store could not hold, or that are misspelled, are refused."""
    with pytest.raises(SchemaError, match="column type"):
        ColumnType.parse(text)


@pytest.mark.parametrize(
    ("text", "dynamodb", "delta", "arrow", "snowflake"),
    [
        ("string", "S", "string", "string", "VARCHAR"),
        ("long", "N", "long", "int64", "NUMBER(19,0)"),
        ("decimal(38,6)", "N", "decimal(38,6)", "decimal128(38,6)", "NUMBER(38,6)"),
        ("double", "N", "double", "double", "FLOAT"),
        ("boolean", "BOOL", "boolean", "bool", "BOOLEAN"),
        ("date", "S", "date", "date32", "DATE"),
        ("timestamp", "S", "timestamp", "timestamp[us, tz=UTC]", "TIMESTAMP_NTZ(6)"),
        ("json", None, "string", "string", "VARCHAR"),
    ],
)
def test_column_type_has_a_name_in_each_store(
    text: str, dynamodb: str | None, delta: str, arrow: str, snowflake: str
) -> None:
    """Each column type maps to its documented type in each store."""
    kind = ColumnType.parse(text)
    assert (kind.dynamodb, kind.delta, kind.arrow, kind.snowflake) == (dynamodb, delta, arrow, snowflake)


def test_schema_round_trip_keeps_unknown_members() -> None:
    """A schema survives its document, which keeps members that this version does not know."""
    document: dict[str, Any] = FULL_SCHEMA.to_document()
    document["comment"] = "new"
    document["columns"][0]["unit"] = "flights"
    schema = PredictionSchema.from_document(document)
    assert schema == FULL_SCHEMA
    assert hash(schema) == hash(FULL_SCHEMA)
    assert schema.to_document() == document


@pytest.mark.parametrize("name", sorted(RESERVED_NAMES))
def test_reserved_column_name_is_refused(name: str) -> None:
    """No column may have a reserved name, except a key named `entity_id`."""
    key = column("id", "string", nullable=False)
    with pytest.raises(SchemaError, match="reserved"):
        PredictionSchema((key, column(name, "string")), "id")
    own = (column(name, "string", nullable=False),)
    if name == "entity_id":
        assert PredictionSchema(own, name).names == ("entity_id",)
    else:
        with pytest.raises(SchemaError, match="reserved"):
            PredictionSchema(own, name)


@pytest.mark.parametrize("name", sorted(FORBIDDEN_COLUMNS))
def test_column_name_reserved_by_snowflake_is_refused(name: str) -> None:
    """Names that Snowflake reserves are refused for columns and key, but similar names are accepted."""
    key = column("id", "string", nullable=False)
    for columns, key_name in (
        ((key, column(name, "date")), "id"),
        ((column(name, "string", nullable=False),), name),
    ):
        with pytest.raises(SchemaError, match=f"Snowflake reserves the column name {name}"):
            PredictionSchema(columns, key_name)
    document = PredictionSchema((key, column("day", "date")), "id").to_document()
    document["columns"][1]["name"] = name
    with pytest.raises(SchemaError, match=f"Snowflake reserves the column name {name}"):
        PredictionSchema.from_document(document)
    assert PredictionSchema((key, column(f"{name}_", "date")), "id").names == ("id", f"{name}_")


@pytest.mark.parametrize(
    ("columns", "key", "fault"),
    [
        ((), "id", "0 columns"),
        ((column("id", "string"),), "id", "nullable"),
        ((column("id", "long", nullable=False),), "id", "string"),
        ((column("id", "string", nullable=False),), "other", "not declared"),
        ((column("id", "string", nullable=False),) * 2, "id", "twice"),
        ((column("Id", "string", nullable=False),), "Id", "column name"),
        ((column('x"; DROP', "string", nullable=False),), "x", "column name"),
    ],
)
def test_contradictory_schema_is_refused(columns: tuple[Column, ...], key: str, fault: str) -> None:
    """A schema that contradicts itself is refused, and the error says how."""
    with pytest.raises(SchemaError, match=fault):
        PredictionSchema(columns, key)


@pytest.mark.parametrize(
    ("document", "path"),
    [
        ([], "schema is"),
        ({"key": 1, "columns": []}, "schema.key"),
        ({"key": "id", "columns": {}}, "schema.columns"),
        ({"key": "id", "columns": ["id"]}, r"schema.columns\[0\]"),
        (
            {"key": "id", "columns": [{"name": "id", "type": "string", "nullable": 0}]},
            r"columns\[0\].nullable",
        ),
    ],
)
def test_malformed_schema_is_refused_by_path(document: object, path: str) -> None:
    """A malformed schema document is refused, and the error names the path of the fault."""
    with pytest.raises(SchemaError, match=path):
        PredictionSchema.from_document(document)
