"""The cleaning rule of one column, and the column as the stores hold it, or why the rule does not fit."""

from __future__ import annotations

from dataclasses import dataclass, fields
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Self

from prediction_contract.cleaning.casts import cast_between, castable_from, scalar_of
from prediction_contract.errors import ContractError, InvalidRowError, SchemaError
from prediction_contract.rows.column_values import decoder_for
from prediction_contract.rows.schema import Column, ColumnType, Kind
from prediction_contract.text.json_members import DocumentShapeError, member, members_of

if TYPE_CHECKING:
    from prediction_contract.cleaning.casts import Cast

_CLAMPED = frozenset({Kind.LONG, Kind.DECIMAL, Kind.DOUBLE})


class InvalidCleaningError(ContractError):
    """Cleaning rules do not fit the columns they are for.

    Args:
        what: As in `ContractError`.
        rule: Which of the rules, counting from 0.
        member: Which of its members.
    """

    def __init__(self, what: str, *, rule: int, member: str) -> None:
        self.rule = rule
        self.member = member
        super().__init__(what, remedy="Correct the cleaning of the model's defs.yaml")


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnCleaning:
    """What becomes of one column.

    Attributes:
        column: As the model writes it.
        drop: Whether it is left out; nothing else is said of it then.
        trim: Whether a text loses the whitespace at both ends.
        cast: The type it gets, as in a schema; None for its own.
        default: What stands for no value, spelled under the column's type; None for nothing.
        minimum: What a lower number becomes, spelled likewise; None for no bound.
        maximum: What a greater number becomes.
        rename: What the stores call it; None for its own name.
    """

    column: str
    drop: bool = False
    trim: bool = False
    cast: str | None = None
    default: str | None = None
    minimum: str | None = None
    maximum: str | None = None
    rename: str | None = None

    def to_document(self) -> dict[str, Any]:
        """Return the rule as JSON, what it does not say left out."""
        members = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in members.items() if value not in {None, False}}

    @classmethod
    def from_document(cls, document: object) -> Self:
        """Return the rule of its JSON.

        Raises:
            DocumentShapeError: A member is of another type, or none that this release knows.
        """
        members = members_of(document, "a rule")
        known = {each.name: bool if each.type == "bool" else str for each in fields(cls)}
        for name in members:
            if name not in known:
                raise DocumentShapeError(f"a rule says {name[:80]!r}, which this release does not know")
            member(members, name, known[name])
        return cls(**{"column": member(members, "column", str), **members})

    @property
    def in_words(self) -> str:
        """What is done, for people, in its order."""
        done = [
            (self.drop, "left out"),
            (self.trim, "trimmed"),
            (self.cast is not None, f"cast to {self.cast}"),
            (self.default is not None, f"{self.default} where there is no value"),
            (self.minimum is not None, f"at least {self.minimum}"),
            (self.maximum is not None, f"at most {self.maximum}"),
            (self.rename is not None, f"{self.column} in the predictions"),
        ]
        return ", ".join(words for is_so, words in done if is_so)


@dataclass(frozen=True, slots=True)
class CleanedColumn:
    """One column of a schema on its way into the stores.

    Attributes:
        source: As the model writes it.
        stored: As the stores hold it.
        trim: Whether a text loses the whitespace at both ends.
        cast: The cast between their types; None if they are the same.
        default: Raw JSON value for no value; None for nothing.
        minimum: Raw JSON number; None for no bound.
        maximum: Raw JSON number; None for no bound.
    """

    source: Column
    stored: Column
    trim: bool = False
    cast: Cast | None = None
    default: Any = None
    minimum: Any = None
    maximum: Any = None


class AppliedRule:
    """One rule together with the column that it applies to.

    Args:
        column: As the model writes it.
        rule: The rule.
        number: Which of the rules it is, counting from 0.
        is_key: Whether the column is the key.
    """

    def __init__(self, column: Column, rule: ColumnCleaning, number: int, *, is_key: bool) -> None:
        self._column = column
        self._rule = rule
        self._number = number
        self._is_key = is_key

    def cleaned(self) -> CleanedColumn | None:
        """Return what becomes of the column; None if it is left out.

        Raises:
            InvalidCleaningError: The rule does not fit the column.
        """
        column, rule = self._column, self._rule
        stated = rule.to_document().keys() - {"column"}
        if not stated:
            raise self._refused("column", "is named, and nothing is to be done to it")
        if rule.drop:
            if self._is_key:
                raise self._refused("drop", "is the key, which cannot be left out")
            if len(stated) > 1:
                raise self._refused("drop", "is left out, and nothing else can be done to it")
            return None
        if rule.trim and column.type.kind is not Kind.STRING:
            raise self._refused("trim", f"is a {column.type}, and only a string can be trimmed")
        for forbidden in ("cast", "default"):
            if self._is_key and forbidden in stated:
                raise self._refused(forbidden, f"is the key, which has no {forbidden}")
        stored_type, cast = self._cast()
        nullable = column.nullable and rule.default is None
        stored = Column(rule.rename or column.name, stored_type, nullable, column.extra)
        default, minimum, maximum = (
            self._literal(member, stored) for member in ("default", "minimum", "maximum")
        )
        if minimum is not None and maximum is not None and Decimal(minimum) > Decimal(maximum):
            raise self._refused("minimum", f"has the minimum {minimum} and a smaller maximum, {maximum}")
        return CleanedColumn(column, stored, rule.trim, cast, default, minimum, maximum)

    def _cast(self) -> tuple[ColumnType, Cast | None]:
        column, wanted = self._column, self._rule.cast
        if wanted is None:
            return column.type, None
        try:
            target = ColumnType.parse(wanted)
        except SchemaError as error:
            raise self._refused("cast", f"cannot be cast: {error.what}") from error
        cast = cast_between(column.type, target)
        if cast is None or target == column.type:
            kinds = ", ".join(castable_from(column.type)) or "nothing"
            raise self._refused("cast", f"is a {column.type}, which can be cast to {kinds}, not to {wanted}")
        return target, cast

    def _literal(self, member: str, column: Column) -> Any:
        """Return the raw JSON value that a member spells, once the column's decoder has taken it."""
        text: str | None = getattr(self._rule, member)
        if text is None:
            return None
        if member != "default" and column.type.kind not in _CLAMPED:
            raise self._refused(member, f"is a {column.type} and no number")
        try:
            raw = scalar_of(text, column.type)
            decoder_for(column)(raw)
        except InvalidRowError as error:
            raise self._refused(member, f"has the {member} {text[:80]!r}: {error.what}") from error
        except ValueError as error:
            raise self._refused(member, f"has the {member} {text[:80]!r}, which is {error}") from error
        return raw

    def _refused(self, member: str, what: str) -> InvalidCleaningError:
        return InvalidCleaningError(f"{self._column.name} {what}", rule=self._number, member=member)
