"""How a scoring job writes a row: the JSON line, and the checksum that goes beside it into Delta.

The line is validated by the same contract that loads it, so producer and loader count alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from json.encoder import encode_basestring
from typing import Any, NamedTuple

from prediction_contract.errors import InvalidRowError
from prediction_contract.rows.checksums import refused_checksum
from prediction_contract.rows.column_values import timestamp_text
from prediction_contract.rows.row_contract import CHECKSUM_MEMBER, Row, RowContract


class PredictionLine(NamedTuple):
    """One line of a JSON part.

    Attributes:
        content: The line in UTF-8 with its line ending.
        checksum: Signed 64-bit; the row's, or the line's if no store can hold it.
        refusal: The reason the row will be quarantined for, or None.
        row: The row as it will be stored, whose `texts` are what a `json` column holds in Delta; None if it
            is refused.
        fault: What is wrong with a refused row, in words that quote no value.
    """

    content: bytes
    checksum: int
    refusal: str | None
    row: Row | None
    fault: str | None = None


def prediction_line(contract: RowContract, values: Mapping[str, Any]) -> PredictionLine:
    """Return the line of a row of Python values: of an acceptable row its canonical JSON and `row_checksum`.

    A value that no store can hold is written as it is, NaN for instance, so that its row is quarantined in
    sight of everybody and not lost or changed on the way.

    Args:
        contract: The contract of the model's schema.
        values: By column: None, bool, int, float, Decimal, str, date, datetime, and lists and mappings of
            these.

    Raises:
        TypeError: A value is none of these; the message names the column, and quotes no value.
    """
    text = f"{{{','.join(_column_text(name, value) for name, value in values.items())}}}"
    line = text.encode(errors="surrogatepass")
    try:
        row = contract.accept(line)
    except InvalidRowError as error:
        return PredictionLine(line + b"\n", refused_checksum(line), error.reason, None, error.what)
    # The key at least stands before the checksum, so a comma is right.
    content = b'%s,"%s":%d}\n' % (row.canonical[:-1], CHECKSUM_MEMBER.encode(), row.checksum)
    return PredictionLine(content, row.checksum, None, row)


def _column_text(name: str, value: Any) -> str:
    try:
        return f"{encode_basestring(name)}:{_json_text(value)}"
    except TypeError as error:
        raise TypeError(f"Column {name} holds {error}") from error


def _json_text(value: Any) -> str:
    """Return a Python value as JSON, with the names NaN and Infinity for what JSON has no number for."""
    for kind, render in _RENDERERS:
        if isinstance(value, kind):
            return render(value)
    raise TypeError(f"a {type(value).__name__}, which JSON cannot express")


def _float_text(value: float) -> str:
    return float.__repr__(value).replace("inf", "Infinity").replace("nan", "NaN")


def _moment_text(value: datetime) -> str:
    """Return a moment as `timestamp_text` spells it, without the Z if the moment has no zone.

    Nanoseconds, which pandas has, follow the microseconds; the row of such a `timestamp` is refused.
    """
    try:
        text = timestamp_text(value if value.tzinfo is None else value.astimezone(UTC)).removesuffix("Z")
    except (OverflowError, ValueError):
        # No year of UTC has this moment.
        return f'"{value.isoformat()}"'
    nanosecond = getattr(value, "nanosecond", 0)
    digits = f"{nanosecond:03}" if nanosecond else ""
    return f'"{text}{digits}{"" if value.tzinfo is None else "Z"}"'


def _object_text(value: Mapping[str, Any]) -> str:
    return f"{{{','.join(f'{_name_text(name)}:{_json_text(member)}' for name, member in value.items())}}}"


def _name_text(name: Any) -> str:
    if not isinstance(name, str):
        raise TypeError(
            f"a mapping with a key of type {type(name).__name__}, and JSON has only strings as keys"
        )
    return encode_basestring(name)


_LONG_BITS = 64

# In this order: a boolean is an integer too.
_RENDERERS: list[tuple[type | tuple[type, ...], Callable[[Any], str]]] = [
    (str, encode_basestring),
    (float, _float_text),
    (bool, lambda value: "true" if value else "false"),
    # Not by the integer's own text, which the interpreter refuses to write beyond 4,300 digits.
    (int, lambda value: int.__repr__(value) if value.bit_length() < _LONG_BITS else str(Decimal(value))),
    (type(None), lambda _: "null"),
    (Decimal, lambda value: str(value) if value.is_finite() else "NaN"),
    # A datetime is a date too.
    (datetime, _moment_text),
    (date, lambda value: f'"{value.isoformat()}"'),
    (Mapping, _object_text),
    ((list, tuple), lambda value: f"[{','.join(map(_json_text, value))}]"),
]
