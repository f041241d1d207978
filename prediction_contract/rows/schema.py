"""Column types, their representation in each store, and the schema of a model's predictions.

| type         | in JSON                         | DynamoDB | Delta, Arrow              | Snowflake        |
|--------------|---------------------------------|----------|---------------------------|------------------|
| string       | string                          | S        | string                    | VARCHAR          |
| long         | number, all digits kept         | N        | long, int64               | NUMBER(19,0)     |
| decimal(p,s) | number, all digits kept         | N        | decimal(p,s), decimal128  | NUMBER(p,s)      |
| double       | number, shortest exact spelling | N        | double                    | FLOAT            |
| boolean      | true, false                     | BOOL     | boolean, bool             | BOOLEAN          |
| date         | string 2013-02-01               | S        | date, date32              | DATE             |
| timestamp    | string, RFC 3339 with an offset | S        | timestamp, in microseconds| TIMESTAMP_NTZ(6) |
| json         | any value                       | M, L, ...| string, canonical JSON    | VARCHAR          |

A `long` is a signed 64-bit integer; `decimal(38,0)` is an integer of up to 38 digits. Numbers are JSON
numbers, not strings; readers that need every digit parse them as decimals, as this contract does. Timestamps
are UTC in every store. `json` is text in Delta and Snowflake, because a `VARIANT` turns large numbers into
binary floats; the live view shows it as `VARIANT`.
Text must not contain U+0000, which Snowflake's `PARSE_JSON` refuses.
A JSON null, a missing member and a null in a nullable column all mean no value.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

from prediction_contract.errors import SchemaError
from prediction_contract.limits import FORBIDDEN_COLUMNS, MAX_DECIMAL_DIGITS, MAX_ITEM_BYTES
from prediction_contract.text.json_members import DocumentShapeError, member

if TYPE_CHECKING:
    from collections.abc import Mapping

COLUMN_PATTERN = "[a-z][a-z0-9_]{0,62}"
MAX_COLUMNS = 1000
# The size of a manifest's schema, unknown members included. It takes up to half an item.
LARGEST_SCHEMA_BYTES = MAX_ITEM_BYTES // 2
# The platform's own attributes and columns. Of these names, only `entity_id` may be a column: the key column.
RESERVED_NAMES = frozenset({"entity_id", "batch_id", "expires_at", "row_checksum", "stored_checksum"})

_COLUMN = re.compile(COLUMN_PATTERN)
_DECIMAL = re.compile("decimal[(]([1-9][0-9]?),([0-9]{1,2})[)]")


class Kind(StrEnum):
    """The families of column types."""

    STRING = "string"
    LONG = "long"
    DECIMAL = "decimal"
    DOUBLE = "double"
    BOOLEAN = "boolean"
    DATE = "date"
    TIMESTAMP = "timestamp"
    JSON = "json"


_PLAIN_TYPES = frozenset(kind.value for kind in Kind if kind is not Kind.DECIMAL)
_DYNAMODB = {
    Kind.STRING: "S",
    Kind.LONG: "N",
    Kind.DECIMAL: "N",
    Kind.DOUBLE: "N",
    Kind.BOOLEAN: "BOOL",
    Kind.DATE: "S",
    Kind.TIMESTAMP: "S",
}
_ARROW = {
    Kind.STRING: "string",
    Kind.LONG: "int64",
    Kind.DECIMAL: "decimal128",
    Kind.DOUBLE: "double",
    Kind.BOOLEAN: "bool",
    Kind.DATE: "date32",
    Kind.TIMESTAMP: "timestamp[us, tz=UTC]",
    Kind.JSON: "string",
}
_SNOWFLAKE = {
    Kind.STRING: "VARCHAR",
    Kind.LONG: "NUMBER(19,0)",
    Kind.DECIMAL: "NUMBER",
    Kind.DOUBLE: "FLOAT",
    Kind.BOOLEAN: "BOOLEAN",
    Kind.DATE: "DATE",
    Kind.TIMESTAMP: "TIMESTAMP_NTZ(6)",
    Kind.JSON: "VARCHAR",
}


@dataclass(frozen=True, slots=True)
class ColumnType:
    """A column's type. `precision` and `scale` belong to decimals and are 0 for other types."""

    kind: Kind
    precision: int = 0
    scale: int = 0

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the type for a text, for example `long` or `decimal(38,6)`.

        Raises:
            SchemaError: There is no such type.
        """
        found = _DECIMAL.fullmatch(text)
        if found:
            precision, scale = int(found[1]), int(found[2])
            if scale <= precision <= MAX_DECIMAL_DIGITS:
                return cls(Kind.DECIMAL, precision, scale)
        elif text in _PLAIN_TYPES:
            return cls(Kind(text))
        raise SchemaError(
            f"{text[:80]!r} is not a column type",
            remedy="Use string, long, double, boolean, date, timestamp, json or decimal(p,s), s <= p <= 38",
        )

    def __str__(self) -> str:
        return f"decimal{self._digits}" if self.kind is Kind.DECIMAL else self.kind.value

    @property
    def _digits(self) -> str:
        return f"({self.precision},{self.scale})" if self.kind is Kind.DECIMAL else ""

    @property
    def dynamodb(self) -> str | None:
        """The DynamoDB attribute type; None for `json`, whose values differ in type."""
        return _DYNAMODB.get(self.kind)

    @property
    def delta(self) -> str:
        """The type's name in a Delta table's schema."""
        return "string" if self.kind is Kind.JSON else str(self)

    @property
    def arrow(self) -> str:
        """The type's name in Arrow."""
        return f"{_ARROW[self.kind]}{self._digits}"

    @property
    def snowflake(self) -> str:
        """The type's name in Snowflake DDL."""
        return f"{_SNOWFLAKE[self.kind]}{self._digits}"


@dataclass(frozen=True)
class Column:
    """One column of a model's predictions.

    Attributes:
        name: `[a-z][a-z0-9_]{0,62}`. Names are lower case, because some stores ignore case.
        type: The type of its values.
        nullable: Whether a row may have no value.
        extra: Members of its JSON form that are unknown to this version of the contract.
    """

    name: str
    type: ColumnType
    nullable: bool = True
    extra: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def to_document(self) -> dict[str, Any]:
        """Return the column's JSON form in a manifest."""
        return {**self.extra, "name": self.name, "type": str(self.type), "nullable": self.nullable}

    @classmethod
    def from_document(cls, document: object, path: str = "column") -> Self:
        """Return the column of a manifest's JSON.

        Raises:
            SchemaError: The document is not a column; the error names `path`.
        """
        members = _members(document, path, {"name": str, "type": str, "nullable": bool})
        extra = {name: value for name, value in members.items() if name not in {"name", "type", "nullable"}}
        return cls(members["name"], ColumnType.parse(members["type"]), members["nullable"], extra)


@dataclass(frozen=True)
class PredictionSchema:
    """The columns of a model's predictions. The key column names the entity; it is a string, never null.

    Attributes:
        columns: The columns, in the order of the warehouse table.
        key: The name of the key column.
        extra: Members of its JSON form that are unknown to this version of the contract.

    Raises:
        SchemaError: There are no or too many columns; a name is invalid, duplicate, or reserved by the
            platform or Snowflake; or the key is missing, nullable or not a string.
    """

    columns: tuple[Column, ...]
    key: str
    extra: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        _check_count(len(self.columns))
        seen: set[str] = set()
        for column in self.columns:
            self._check_name(column.name)
            if column.name in seen:
                raise SchemaError(
                    f"Column {column.name} is declared twice", remedy="Declare each column once"
                )
            seen.add(column.name)
        if self.key not in seen:
            raise SchemaError(
                f"The key column {self.key[:80]!r} is not declared", remedy="Declare it as a column"
            )
        key = next(column for column in self.columns if column.name == self.key)
        if key.type.kind is not Kind.STRING or key.nullable:
            raise SchemaError(
                f"The key column {self.key} is {key.type}, {'nullable' if key.nullable else 'not null'}",
                remedy="Declare the key column as a string that is not nullable",
            )

    def _check_name(self, name: str) -> None:
        if not _COLUMN.fullmatch(name):
            raise SchemaError(
                f"{name[:80]!r} is not a column name",
                remedy="Use a lower-case letter, then at most 62 lower-case letters, digits or underscores",
            )
        if name in RESERVED_NAMES and not name == self.key == "entity_id":
            raise SchemaError(
                f"The column name {name} is reserved for the platform",
                remedy="Give the column another name",
            )
        if name in FORBIDDEN_COLUMNS:
            raise SchemaError(
                f"Snowflake reserves the column name {name} and refuses it even when it is quoted",
                remedy="Give the column another name",
            )

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names of all columns, in order."""
        return tuple(column.name for column in self.columns)

    def to_document(self) -> dict[str, Any]:
        """Return the schema's JSON form in a manifest."""
        columns = [column.to_document() for column in self.columns]
        return {**self.extra, "key": self.key, "columns": columns}

    @classmethod
    def from_document(cls, document: object, path: str = "schema") -> Self:
        """Return the schema of a manifest's JSON.

        Raises:
            SchemaError: The document is not a schema, or the schema contradicts itself.
        """
        members = _members(document, path, {"key": str, "columns": list})
        # Checked before the columns are read, because a document may have any number of them.
        _check_count(len(members["columns"]))
        columns = tuple(
            Column.from_document(column, f"{path}.columns[{number}]")
            for number, column in enumerate(members["columns"])
        )
        extra = {name: value for name, value in members.items() if name not in {"key", "columns"}}
        return cls(columns, members["key"], extra)


def _check_count(columns: int) -> None:
    if not 1 <= columns <= MAX_COLUMNS:
        raise SchemaError(f"The schema has {columns} columns", remedy=f"Declare 1 to {MAX_COLUMNS} columns")


def _members(document: object, path: str, required: Mapping[str, type]) -> dict[str, Any]:
    """Return an object's members, after checking that each required one is there and has its type."""
    if not isinstance(document, dict):
        raise SchemaError(f"{path} is not an object", remedy="Write it as a JSON object")
    for name, kind in required.items():
        try:
            member(document, name, kind)
        except DocumentShapeError as error:
            raise SchemaError(f"{path}.{error}", remedy="Write it as in the manifest's schema") from error
    return document
