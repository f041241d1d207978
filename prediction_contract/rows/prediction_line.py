"""The JSON line that a scoring job writes for a row, and the checksum that it writes to Delta.

The line is validated by the contract that loads it, so producer and loader count the same rows.
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
        checksum: The row's signed 64-bit checksum, or the line's if no store can hold the row.
        refusal: The reason for quarantining the row, one of `row_contract.REASONS`; None if it is accepted.
        row: The row as the stores hold it; Delta holds a `json` value as text. None if the row is refused.
        fault: What is wrong with a refused row, without quoting a value; None if it is accepted.
    """

    content: bytes
    checksum: int
    refusal: str | None
    row: Row | None
    fault: str | None = None


def prediction_line(contract: RowContract, values: Mapping[str, Any]) -> PredictionLine:
    """Return the line of a row of Python values.

    The line of an acceptable row is its canonical JSON with `row_checksum`. A value that no store can hold,
    for example NaN, is written unchanged, so that its row is quarantined visibly and not lost or altered.

    Args:
        contract: The contract of the model's schema.
        values: The value of each column: None, bool, int, float, Decimal, str, date, datetime, or lists and
            mappings of these.

    Raises:
        TypeError: A value has another type. The message names the column and quotes no value.
    """
    text = f"{{{','.join(_column_text(name, value) for name, value in values.items())}}}"
    line = text.encode(errors="surrogatepass")
    try:
        row = contract.accept(line)
    except InvalidRowError as error:
        return PredictionLine(line + b"\n", refused_checksum(line), error.reason, None, error.what)
    # The row has at least its key, so a comma is needed.
    content = b'%s,"%s":%d}\n' % (row.canonical[:-1], CHECKSUM_MEMBER.encode(), row.checksum)
    return PredictionLine(content, row.checksum, None, row)


def _column_text(name: str, value: Any) -> str:
    try:
        return f"{encode_basestring(name)}:{_json_text(value)}"
    except TypeError as error:
        raise TypeError(f"column {name} holds {error}") from error


def _json_text(value: Any) -> str:
    """Return a Python value as JSON, with NaN and Infinity by name."""
    for kind, render in _RENDERERS:
        if isinstance(value, kind):
            return render(value)
    raise TypeError(f"a {type(value).__name__}, which JSON cannot express")


def _float_text(value: float) -> str:
    return float.__repr__(value).replace("inf", "Infinity").replace("nan", "NaN")


def _timestamp_text(value: datetime) -> str:
    """Return a time in the form of `timestamp_text`, without the Z if it has no zone.

    Nanoseconds of a pandas timestamp are appended, so that its row is refused.
    """
    try:
        text = timestamp_text(value if value.tzinfo is None else value.astimezone(UTC)).removesuffix("Z")
    except (OverflowError, ValueError):
        # The time is outside the years 1 to 9999 in UTC.
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

# The order matters, because a boolean is also an integer.
_RENDERERS: list[tuple[type | tuple[type, ...], Callable[[Any], str]]] = [
    (str, encode_basestring),
    (float, _float_text),
    (bool, lambda value: "true" if value else "false"),
    # Python refuses to write an integer of more than 4,300 digits, but not a Decimal.
    (int, lambda value: int.__repr__(value) if value.bit_length() < _LONG_BITS else str(Decimal(value))),
    (type(None), lambda _: "null"),
    (Decimal, lambda value: str(value) if value.is_finite() else "NaN"),
    # A datetime is also a date.
    (datetime, _timestamp_text),
    (date, lambda value: f'"{value.isoformat()}"'),
    (Mapping, _object_text),
    ((list, tuple), lambda value: f"[{','.join(map(_json_text, value))}]"),
]
