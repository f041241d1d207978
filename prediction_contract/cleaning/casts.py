"""The casts for cleaning rules, each implemented in Python and in Snowflake's SQL.

If the target type cannot hold a value exactly, its row is refused. There are two exceptions: a
decimal or a text becomes the nearest double, and a timestamp becomes its date in UTC.

The Python cast decides whether a value is accepted. The SQL cast must give the same result for accepted
values, and must not fail for others. It casts through text, because `TRY_CAST` accepts only text. Casts whose
results differ in spelling or rounding between engines are not offered, for example casts from double.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from prediction_contract.rows.schema import ColumnType, Kind
from prediction_contract.text.canonical_json import NumberText

if TYPE_CHECKING:
    from collections.abc import Callable

_NUMBER = re.compile("-?(?:0|[1-9][0-9]{0,37})(?:[.][0-9]{1,38})?")
_EXPONENT = re.compile("-?(?:0|[1-9][0-9]{0,37})(?:[.][0-9]{1,38})?(?:[eE][+-]?[0-9]{1,3})?")
_INTEGER = re.compile("-?[0-9]+")
_UTC_TIME = re.compile(
    "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:[.][0-9]{1,6})?(?:Z|[+]00:00)"
)
_BOOLEANS = {"true": True, "false": False}


class Cast(NamedTuple):
    """A cast from a source type to a target type.

    Attributes:
        value: A function from a raw JSON value and the target type to the raw JSON value of the target. It
            raises `ValueError`, whose message describes the value. The column's decoder checks precision and
            range.
        sql: A function from an SQL expression and the target type to the expression of the cast.
    """

    value: Callable[[Any, ColumnType], Any]
    sql: Callable[[str, ColumnType], str]


def cast_between(source: ColumnType, target: ColumnType) -> Cast | None:
    """Return the cast from one type to another, or None if there is none."""
    return _CASTS.get((source.kind, target.kind))


def castable_from(source: ColumnType) -> tuple[str, ...]:
    """Return the kinds to which a type can be cast."""
    return tuple(str(target) for kind, target in _CASTS if kind is source.kind)


def parse_scalar(text: str, column_type: ColumnType) -> Any:
    """Parse a text as the raw JSON value of a column's type.

    Raises:
        ValueError: The type has no such value. The message describes the text, for example `neither true
            nor false`.
    """
    kind = column_type.kind
    if kind in {Kind.STRING, Kind.DATE}:
        return text
    if kind is Kind.TIMESTAMP:
        if not _UTC_TIME.fullmatch(text):
            raise ValueError("not a UTC time such as 2013-02-01T05:00:00Z")
        return text
    if kind is Kind.BOOLEAN:
        if text not in _BOOLEANS:
            raise ValueError("neither true nor false")
        return _BOOLEANS[text]
    if kind is Kind.JSON or not (_EXPONENT if kind is Kind.DOUBLE else _NUMBER).fullmatch(text):
        raise ValueError("not a number such as -12.5")
    return int(text) if _INTEGER.fullmatch(text) else NumberText(text)


def _double_of(raw: Any, _: ColumnType) -> Any:
    if int(float(raw)) != raw:
        raise ValueError("an integer that a double cannot hold exactly")
    return raw


def _unchanged(raw: Any, _: ColumnType) -> Any:
    return raw


def _try_cast(expression: str, target: ColumnType) -> str:
    return f"TRY_CAST({expression}::VARCHAR AS {target.snowflake})"


def _plain_cast(expression: str, target: ColumnType) -> str:
    return f"{expression}::{target.snowflake}"


def _truth(yes: str, no: str) -> Callable[[str, ColumnType], str]:
    return lambda expression, _: f"CASE WHEN {expression} THEN {yes} WHEN NOT {expression} THEN {no} END"


def _try_timestamp(expression: str, target: ColumnType) -> str:
    # The zone, which is UTC, is removed, because engines treat it differently.
    return f"TRY_CAST(REPLACE(REPLACE({expression}, 'Z', ''), '+00:00', '') AS {target.snowflake})"


def _try_boolean(expression: str, _: ColumnType) -> str:
    return f"CASE {expression} WHEN 'true' THEN TRUE WHEN 'false' THEN FALSE END"


_TEXT = Cast(parse_scalar, _try_cast)
_NUMBER_AS_IT_IS = Cast(_unchanged, _try_cast)

_CASTS: dict[tuple[Kind, Kind], Cast] = {
    (Kind.STRING, Kind.LONG): _TEXT,
    (Kind.STRING, Kind.DECIMAL): _TEXT,
    (Kind.STRING, Kind.DOUBLE): _TEXT,
    (Kind.STRING, Kind.BOOLEAN): Cast(parse_scalar, _try_boolean),
    (Kind.STRING, Kind.DATE): _TEXT,
    (Kind.STRING, Kind.TIMESTAMP): Cast(parse_scalar, _try_timestamp),
    (Kind.LONG, Kind.STRING): Cast(lambda raw, _: str(raw), _plain_cast),
    (Kind.LONG, Kind.DECIMAL): _NUMBER_AS_IT_IS,
    (Kind.LONG, Kind.DOUBLE): Cast(_double_of, _try_cast),
    (Kind.DECIMAL, Kind.LONG): _NUMBER_AS_IT_IS,
    (Kind.DECIMAL, Kind.DECIMAL): _NUMBER_AS_IT_IS,
    (Kind.DECIMAL, Kind.DOUBLE): _NUMBER_AS_IT_IS,
    (Kind.BOOLEAN, Kind.STRING): Cast(lambda raw, _: "true" if raw else "false", _truth("'true'", "'false'")),
    (Kind.BOOLEAN, Kind.LONG): Cast(lambda raw, _: int(raw), _truth("1", "0")),
    (Kind.DATE, Kind.STRING): Cast(_unchanged, _plain_cast),
    (Kind.DATE, Kind.TIMESTAMP): Cast(lambda raw, _: f"{raw}T00:00:00Z", _plain_cast),
    # The day in UTC.
    (Kind.TIMESTAMP, Kind.DATE): Cast(lambda raw, _: raw[: len("2013-02-01")], _plain_cast),
}
