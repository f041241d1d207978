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
def test_types_are_written_as_they_are_parsed(text: str) -> None:
    """Every type's text leads to the type and back."""
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
def test_other_texts_are_no_types(text: str) -> None:
    """Types that a store could not hold, or that are spelled otherwise, are refused."""
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
def test_each_store_has_its_own_name_for_a_type(
    text: str, dynamodb: str | None, delta: str, arrow: str, snowflake: str
) -> None:
    """The mapping of types to stores is the one the module documents."""
    kind = ColumnType.parse(text)
    assert (kind.dynamodb, kind.delta, kind.arrow, kind.snowflake) == (dynamodb, delta, arrow, snowflake)


def test_schema_survives_its_document_with_unknown_members() -> None:
    """A schema's document leads back to it, and keeps what this version does not know."""
    document: dict[str, Any] = FULL_SCHEMA.to_document()
    document["comment"] = "new"
    document["columns"][0]["unit"] = "flights"
    schema = PredictionSchema.from_document(document)
    assert schema == FULL_SCHEMA
    assert hash(schema) == hash(FULL_SCHEMA)
    assert schema.to_document() == document


@pytest.mark.parametrize("name", sorted(RESERVED_NAMES))
def test_reserved_names_are_refused_but_for_the_key(name: str) -> None:
    """No column may hide one of the platform's own; the key may be called `entity_id`."""
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
def test_names_that_snowflake_refuses_are_refused(name: str) -> None:
    """In a declaration and in a manifest, as a key too; the names beside them are columns like others."""
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
def test_contradictions_are_refused(columns: tuple[Column, ...], key: str, fault: str) -> None:
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
def test_documents_of_another_form_are_refused_by_path(document: object, path: str) -> None:
    """A document that is no schema is refused with the path of the fault."""
    with pytest.raises(SchemaError, match=path):
        PredictionSchema.from_document(document)
