"""How a model's rows are cleaned on their way into the stores: declared once, applied alike for both.

What the model wrote stays on S3 as it is. Of each column, in this order: `trim`, `cast`, `default`, `clamp`,
`rename`; or `drop`. The cleaned row is what both stores hold, under the `row_checksum` of the row that the
model wrote, so that counts and checksums of manifest, files, stores and quarantine speak of the same rows.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Self

from prediction_contract.cleaning.column_cleaning import (
    AppliedRule,
    CleanedColumn,
    ColumnCleaning,
    InvalidCleaningError,
)
from prediction_contract.errors import SchemaError
from prediction_contract.text.canonical_json import InvalidJsonError, canonical_bytes, parse_json
from prediction_contract.text.json_members import DocumentShapeError, member, members_of

if TYPE_CHECKING:
    from collections.abc import Collection

    from prediction_contract.rows.schema import PredictionSchema


@dataclass(frozen=True, slots=True)
class Cleaning:
    """The cleaning rules of a model; without any, rows are stored as they are."""

    rules: tuple[ColumnCleaning, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.rules)

    def to_text(self) -> str:
        """Return the rules as the registry keeps them: canonical JSON, `{}` for none."""
        document: Any = {"columns": [rule.to_document() for rule in self.rules]} if self.rules else {}
        return canonical_bytes(document).decode()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the rules of their JSON text.

        Raises:
            SchemaError: The text is none that `to_text` writes.
        """
        try:
            document = members_of(parse_json(text.encode()), "the document")
            rules = member(document, "columns", list) if document else []
            return cls(tuple(map(ColumnCleaning.from_document, rules)))
        except InvalidJsonError as error:
            raise _unreadable(error.what) from error
        except DocumentShapeError as error:
            raise _unreadable(str(error)) from error

    def to_argument(self) -> str | None:
        """Return the rules as a job's argument, without quotes and spaces; None for none."""
        return base64.urlsafe_b64encode(self.to_text().encode()).decode() if self.rules else None

    @classmethod
    def from_argument(cls, argument: str | None) -> Self:
        """Return the rules of a job's argument.

        Raises:
            SchemaError: It is none that `to_argument` makes.
        """
        if argument is None:
            return cls()
        try:
            text = base64.b64decode(argument, altchars=b"-_", validate=True).decode()
        except (binascii.Error, ValueError) as error:
            raise SchemaError(
                "Cleaning rules are no Base64 of a text", remedy="Start the job through its client"
            ) from error
        return cls.parse(text)

    def columns(self, schema: PredictionSchema) -> tuple[CleanedColumn, ...]:
        """Return the columns that the stores hold, in the schema's order.

        Raises:
            InvalidCleaningError: A rule does not fit the schema.
        """
        rules: dict[str, tuple[int, ColumnCleaning]] = {}
        for number, rule in enumerate(self.rules):
            if rule.column not in schema.names or rule.column in rules:
                what = "is cleaned twice" if rule.column in rules else "is none of the columns"
                raise InvalidCleaningError(f"{rule.column[:80]} {what}", rule=number, member="column")
            rules[rule.column] = number, rule
        found = []
        for column in schema.columns:
            cleaned: CleanedColumn | None = CleanedColumn(column, column)
            if column.name in rules:
                number, rule = rules[column.name]
                is_key = column.name == schema.key
                cleaned = AppliedRule(column, rule, number, is_key=is_key).cleaned()
            if cleaned is not None:
                found.append(cleaned)
        return tuple(found)

    def stored_schema(self, schema: PredictionSchema) -> PredictionSchema:
        """Return the columns as the stores hold them.

        Raises:
            InvalidCleaningError: A rule does not fit the schema.
            SchemaError: Two columns have got one name, or one a name that the platform keeps for itself.
        """
        if not self.rules:
            return schema
        columns = self.columns(schema)
        key = next(column.stored.name for column in columns if column.source.name == schema.key)
        return replace(schema, columns=tuple(column.stored for column in columns), key=key)

    def stored_names(self, schema: PredictionSchema, names: Collection[str]) -> frozenset[str]:
        """Return what the stores call some of a schema's columns; dropped ones they do not have."""
        return frozenset(column.stored.name for column in self.columns(schema) if column.source.name in names)


NO_CLEANING = Cleaning()


def _unreadable(why: str) -> SchemaError:
    return SchemaError(
        f"Cleaning rules cannot be read: {why}",
        remedy="Load the batch with the release that its rules were written by, or a later one",
    )


def literal_text(value: object) -> str:
    """Return a value of a `defs.yaml` as rules spell it: as text, because a YAML float is a binary one.

    Raises:
        ValueError: It is no text, number, true or false.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return format(Decimal(str(value)), "f")
    if isinstance(value, str):
        return value
    raise ValueError("it is no text, number, true or false")


def columns_document(schema: PredictionSchema, cleaning: Cleaning) -> bytes:
    """Return the document of a model's columns for jobs: the schema, and how the load will clean it."""
    rules = {"cleaning": cleaning.to_text()} if cleaning else {}
    return canonical_bytes(schema.to_document() | rules)


def recorded_cleaning(text: str | None) -> Cleaning:
    """Return the rules that a batch's record keeps; none before its first load."""
    return NO_CLEANING if text is None else Cleaning.parse(text)
