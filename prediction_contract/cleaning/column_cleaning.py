"""The cleaning rule of one column, and its validation against the column."""

from __future__ import annotations

from dataclasses import dataclass, fields
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Self

from prediction_contract.cleaning.casts import cast_between, castable_from, parse_scalar
from prediction_contract.errors import ContractError, InvalidRowError, SchemaError
from prediction_contract.rows.column_values import decoder_for
from prediction_contract.rows.schema import Column, ColumnType, Kind
from prediction_contract.text.json_members import DocumentShapeError, member, members_of

if TYPE_CHECKING:
    from prediction_contract.cleaning.casts import Cast

_CLAMPED = frozenset({Kind.LONG, Kind.DECIMAL, Kind.DOUBLE})


class InvalidCleaningError(ContractError):
    """A cleaning rule does not fit its column.

    Args:
        what: As in `ContractError`.
        rule: The index of the rule, counting from 0.
        member: The member of the rule that is wrong.
    """

    def __init__(self, what: str, *, rule: int, member: str) -> None:
        self.rule = rule
        self.member = member
        super().__init__(what, remedy="Correct the cleaning of the model's defs.yaml")


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnCleaning:
    """The cleaning rule of one column.

    Attributes:
        column: The column's name in the model's rows.
        drop: Whether the column is left out. No other rule may then be given.
        trim: Whether whitespace is removed from both ends of a text.
        cast: The new type, as in a schema; None to keep the type.
        default: The value that replaces null, as text; None to keep null.
        minimum: The lower bound, as text; it replaces lower numbers. None for no bound.
        maximum: The upper bound, as text; it replaces higher numbers. None for no bound.
        rename: The column's name in the stores; None to keep the name.
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
        """Return the rule as JSON, without members that are not set."""
        members = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in members.items() if value not in {None, False}}

    @classmethod
    def from_document(cls, document: object) -> Self:
        """Return the rule in a JSON document.

        Raises:
            DocumentShapeError: A member has the wrong type or is unknown to this release.
        """
        members = members_of(document, "a rule")
        known = {each.name: bool if each.type == "bool" else str for each in fields(cls)}
        for name in members:
            if name not in known:
                raise DocumentShapeError(f"a rule has {name[:80]!r}, which is unknown to this release")
            member(members, name, known[name])
        return cls(**{"column": member(members, "column", str), **members})

    @property
    def in_words(self) -> str:
        """A description of the rule's steps, in order."""
        done = [
            (self.drop, "left out"),
            (self.trim, "trimmed"),
            (self.cast is not None, f"cast to {self.cast}"),
            (self.default is not None, f"{self.default} if there is no value"),
            (self.minimum is not None, f"at least {self.minimum}"),
            (self.maximum is not None, f"at most {self.maximum}"),
            (self.rename is not None, f"{self.column} in the predictions"),
        ]
        return ", ".join(words for is_so, words in done if is_so)


@dataclass(frozen=True, slots=True)
class CleanedColumn:
    """A column with its validated cleaning.

    Attributes:
        source: The column in the model's rows.
        stored: The column in the stores.
        trim: Whether whitespace is removed from both ends of a text.
        cast: The cast from the source type to the stored type; None if they are the same.
        default: The raw JSON value that replaces null; None to keep null.
        minimum: The lower bound as a raw JSON number; None for no bound.
        maximum: The upper bound as a raw JSON number; None for no bound.
    """

    source: Column
    stored: Column
    trim: bool = False
    cast: Cast | None = None
    default: Any = None
    minimum: Any = None
    maximum: Any = None


class AppliedRule:
    """A rule together with its column.

    Args:
        column: The column in the model's rows.
        rule: The rule.
        number: The index of the rule, counting from 0.
        is_key: Whether the column is the key.
    """

    def __init__(self, column: Column, rule: ColumnCleaning, number: int, *, is_key: bool) -> None:
        self._column = column
        self._rule = rule
        self._number = number
        self._is_key = is_key

    def cleaned(self) -> CleanedColumn | None:
        """Return the column with its validated cleaning; None if it is dropped.

        Raises:
            InvalidCleaningError: The rule does not fit the column.
        """
        column, rule = self._column, self._rule
        stated = rule.to_document().keys() - {"column"}
        if not stated:
            raise self._refused("column", "has a cleaning rule that does nothing")
        if rule.drop:
            if self._is_key:
                raise self._refused("drop", "is the key, which cannot be dropped")
            if len(stated) > 1:
                raise self._refused("drop", "is dropped, so nothing else can be done to it")
            return None
        if rule.trim and column.type.kind is not Kind.STRING:
            raise self._refused("trim", f"is a {column.type}, but only a string can be trimmed")
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
            raise self._refused("minimum", f"has the minimum {minimum} but the smaller maximum {maximum}")
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
        """Return the raw JSON value of a member's text, after validation by the column's decoder."""
        text: str | None = getattr(self._rule, member)
        if text is None:
            return None
        if member != "default" and column.type.kind not in _CLAMPED:
            raise self._refused(member, f"is a {column.type}, not a number")
        try:
            raw = parse_scalar(text, column.type)
            decoder_for(column)(raw)
        except InvalidRowError as error:
            raise self._refused(member, f"has the {member} {text[:80]!r}: {error.what}") from error
        except ValueError as error:
            raise self._refused(member, f"has the {member} {text[:80]!r}, which is {error}") from error
        return raw

    def _refused(self, member: str, what: str) -> InvalidCleaningError:
        return InvalidCleaningError(f"{self._column.name} {what}", rule=self._number, member=member)
