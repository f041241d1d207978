"""The rules that clean a model's rows before both stores hold them.

The files on S3 stay as the model wrote them. The rules of a column apply in the order `trim`, `cast`,
`default`, `clamp`, `rename`; or the column is dropped (`drop`). The cleaned row keeps the `row_checksum` of
the row that the model wrote, so that manifest, files, stores and quarantine have matching checksums.
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
    """The cleaning rules of a model. Without rules, rows are stored unchanged."""

    rules: tuple[ColumnCleaning, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.rules)

    def to_text(self) -> str:
        """Return the rules as canonical JSON for the registry; `{}` if there are none."""
        document: Any = {"columns": [rule.to_document() for rule in self.rules]} if self.rules else {}
        return canonical_bytes(document).decode()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the rules in a JSON text.

        Raises:
            SchemaError: The text does not have the form of `to_text`.
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
        """Return the rules as a job argument without quotes and spaces; None if there are none."""
        return base64.urlsafe_b64encode(self.to_text().encode()).decode() if self.rules else None

    @classmethod
    def from_argument(cls, argument: str | None) -> Self:
        """Return the rules in a job argument.

        Raises:
            SchemaError: The argument does not have the form of `to_argument`.
        """
        if argument is None:
            return cls()
        try:
            text = base64.b64decode(argument, altchars=b"-_", validate=True).decode()
        except (binascii.Error, ValueError) as error:
            raise SchemaError(
                "The cleaning rules are not text in Base64", remedy="Start the job through its client"
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
                what = "is cleaned twice" if rule.column in rules else "is not a column"
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
        """Return the schema of the stored rows.

        Raises:
            InvalidCleaningError: A rule does not fit the schema.
            SchemaError: After renaming, two columns have the same name, or one has a reserved name.
        """
        if not self.rules:
            return schema
        columns = self.columns(schema)
        key = next(column.stored.name for column in columns if column.source.name == schema.key)
        return replace(schema, columns=tuple(column.stored for column in columns), key=key)

    def stored_names(self, schema: PredictionSchema, names: Collection[str]) -> frozenset[str]:
        """Return the names of some of a schema's columns in the stores, without dropped columns."""
        return frozenset(column.stored.name for column in self.columns(schema) if column.source.name in names)


NO_CLEANING = Cleaning()


def _unreadable(why: str) -> SchemaError:
    return SchemaError(
        f"The cleaning rules cannot be read: {why}",
        remedy="Load the batch with the release that wrote its rules, or a later one",
    )


def literal_text(value: object) -> str:
    """Return a value from a `defs.yaml` as the text in a rule. Rules have text because floats are inexact.

    Raises:
        ValueError: The value is not a text, a number, true or false.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return format(Decimal(str(value)), "f")
    if isinstance(value, str):
        return value
    raise ValueError("it is not a text, a number, true or false")


def columns_document(schema: PredictionSchema, cleaning: Cleaning) -> bytes:
    """Return the document of a model's columns for jobs: the schema and the cleaning rules."""
    rules = {"cleaning": cleaning.to_text()} if cleaning else {}
    return canonical_bytes(schema.to_document() | rules)


def recorded_cleaning(text: str | None) -> Cleaning:
    """Return the rules in a batch's record. There are none before its first load."""
    return NO_CLEANING if text is None else Cleaning.parse(text)
