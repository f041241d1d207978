"""Decoders of column types. Each turns a raw JSON value into a typed value and its canonical JSON."""

from __future__ import annotations

import re
import sys
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from json.encoder import encode_basestring
from typing import TYPE_CHECKING, Any, Never, TypeAlias

from prediction_contract.errors import InvalidRowError
from prediction_contract.limits import (
    DOUBLE_BEYOND_LARGEST,
    HIGHEST_EXPONENT,
    LOWEST_EXPONENT,
    MAX_NAME_BYTES,
    MAX_NESTING,
    MAX_NUMBER_DIGITS,
    SMALLEST_DOUBLE,
)
from prediction_contract.rows.schema import Kind
from prediction_contract.text.canonical_json import NotANumber, NumberText, number_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from prediction_contract.rows.schema import Column

# A function from a raw value other than null to the typed value and its canonical JSON.
Decoder: TypeAlias = "Callable[[Any], tuple[Any, str]]"

# Levels of lists and maps. DynamoDB also counts the innermost value as a level.
DEEPEST_NESTING = MAX_NESTING - 1

_LONG_LOW, _LONG_HIGH = -(1 << 63), (1 << 63) - 1
_PLAIN_LIMIT = 10**MAX_NUMBER_DIGITS
# No program writes a double with more characters.
_LONGEST_DOUBLE = 400
_DATE = re.compile("[0-9]{4}-[0-9]{2}-[0-9]{2}")
# Python cuts off digits beyond microseconds, so only zeros are allowed there.
_TIMESTAMP = re.compile(
    "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:[.][0-9]{1,6}0*)?(?:Z|[+-][0-9]{2}:[0-5][0-9])"
)


def decoder_for(column: Column) -> Decoder:
    """Return a column's decoder. The decoder raises `InvalidRowError`, which names the column."""
    kind = column.type.kind
    if kind is Kind.DECIMAL:
        return _decimal_decoder(column)
    return _MAKERS[kind](column.name)


def file_decoder_for(column: Column) -> Decoder:
    """Return a column's decoder for files and the warehouse, which hold every normal double.

    DynamoDB has a smaller range of doubles. Cleaning may move a value back into that range.
    """
    return _file_double_decoder(column.name) if column.type.kind is Kind.DOUBLE else decoder_for(column)


def _string_decoder(column: str) -> Decoder:
    def decode(raw: Any) -> tuple[Any, str]:
        if type(raw) is not str:
            _refuse_type(raw, "a string", column)
        return _without_nul(raw, column), encode_basestring(raw)

    return decode


def _boolean_decoder(column: str) -> Decoder:
    def decode(raw: Any) -> tuple[Any, str]:
        if raw is True:
            return True, "true"
        if raw is False:
            return False, "false"
        return _refuse_type(raw, "true or false", column)

    return decode


def _long_decoder(column: str) -> Decoder:
    def decode(raw: Any) -> tuple[Any, str]:
        number = raw
        if type(raw) is not int:
            exact = _exact(raw, column)
            number = int(exact)
            if number != exact:
                raise InvalidRowError("wrong_type", f"{column} has a fraction, not an integer", column=column)
        if not _LONG_LOW <= number <= _LONG_HIGH:
            _exact(number, column)
            raise InvalidRowError("out_of_range", f"{column} does not fit into 64 bits", column=column)
        return number, str(number)

    return decode


def _double_decoder(column: str) -> Decoder:
    def decode(raw: Any) -> tuple[Any, str]:
        kind = type(raw)
        if kind is not NumberText and kind is not int:
            _refuse_type(raw, "a number", column)
        if kind is int or len(raw) > MAX_NUMBER_DIGITS:
            _exact(raw, column)
        number = float(raw)
        if number:
            if not SMALLEST_DOUBLE <= abs(number) < DOUBLE_BEYOND_LARGEST:
                _exact(raw, column)
                raise _beyond_range(column)
            return number, repr(number)
        # A number that is too small for a double has become zero and is refused. A zero loses its sign.
        _exact(raw, column)
        return 0.0, "0.0"

    return decode


def _file_double_decoder(column: str) -> Decoder:
    def decode(raw: Any) -> tuple[Any, str]:
        kind = type(raw)
        if kind is not NumberText and kind is not int:
            _refuse_type(raw, "a number", column)
        text = str(raw)
        if len(text) > _LONGEST_DOUBLE:
            raise InvalidRowError("number_too_long", f"{column} has {len(text)} characters", column=column)
        number, is_zero = float(text), not text.lower().partition("e")[0].strip("-0.")
        if is_zero:
            return 0.0, "0.0"
        if not sys.float_info.min <= abs(number) <= sys.float_info.max:
            raise InvalidRowError("number_too_long", f"{column} exceeds the range of doubles", column=column)
        return number, repr(number)

    return decode


def _decimal_decoder(column: Column) -> Decoder:
    name, scale, whole_digits = column.name, column.type.scale, column.type.precision - column.type.scale

    def decode(raw: Any) -> tuple[Any, str]:
        exact = _exact(raw, name)
        text = number_text(exact)
        whole, _, fraction = text.lstrip("-").partition(".")
        # An exponent is written only where the point lies outside of 38 digits.
        if len(fraction) > scale or (len(whole) > whole_digits and whole != "0") or "E" in text:
            raise InvalidRowError("out_of_range", f"{name} does not fit {column.type}", column=name)
        return exact, text

    return decode


def _date_decoder(column: str) -> Decoder:
    def decode(raw: Any) -> tuple[Any, str]:
        if type(raw) is not str or not _DATE.fullmatch(raw):
            _refuse_type(raw, "a date such as 2013-02-01", column)
        try:
            return date.fromisoformat(raw), f'"{raw}"'
        except ValueError as error:
            raise InvalidRowError(
                "wrong_type", f"{column} is a day that does not exist", column=column
            ) from error

    return decode


def _timestamp_decoder(column: str) -> Decoder:
    def decode(raw: Any) -> tuple[Any, str]:
        if type(raw) is not str or not _TIMESTAMP.fullmatch(raw):
            _refuse_type(raw, "a timestamp with offset and at most microseconds", column)
        try:
            moment = datetime.fromisoformat(raw).astimezone(UTC)
        except (ValueError, OverflowError) as error:
            raise InvalidRowError(
                "wrong_type", f"{column} is a time that does not exist", column=column
            ) from error
        return moment, f'"{timestamp_text(moment)}"'

    return decode


def timestamp_text(moment: datetime) -> str:
    """Return the canonical text of an aware UTC time, which sorts by time: `2013-02-01T05:00:00.000000Z`."""
    return f"{moment.replace(tzinfo=None).isoformat(timespec='microseconds')}Z"


def _json_decoder(column: str) -> Decoder:
    def decode(raw: Any, depth: int = 0) -> tuple[Any, str]:
        kind = type(raw)
        if kind is str:
            return _without_nul(raw, column), encode_basestring(raw)
        if kind is int or kind is NumberText:
            exact = _exact(raw, column)
            return exact, number_text(exact)
        if raw is None:
            return None, "null"
        if kind is bool:
            return raw, "true" if raw else "false"
        if depth == DEEPEST_NESTING:
            raise InvalidRowError("too_deep", f"{column} nests deeper than {depth} levels", column=column)
        if kind is list:
            decoded = [decode(element, depth + 1) for element in raw]
            return [value for value, _ in decoded], f"[{','.join([text for _, text in decoded])}]"
        if kind is not dict:
            _refuse_type(raw, "a JSON value", column)
        members = {_checked_name(name, column): decode(raw[name], depth + 1) for name in sorted(raw)}
        texts = [f"{encode_basestring(name)}:{text}" for name, (_, text) in members.items()]
        return {name: value for name, (value, _) in members.items()}, f"{{{','.join(texts)}}}"

    return decode


def _checked_name(name: str, column: str) -> str:
    if not name:
        raise InvalidRowError("empty_name", f"{column} has a member without a name", column=column)
    # Lone surrogates are refused later, with the rest of the row's text.
    if len(name.encode(errors="surrogatepass")) > MAX_NAME_BYTES:
        raise InvalidRowError("value_too_large", f"{column} has a member with a huge name", column=column)
    return _without_nul(name, column)


def _without_nul(text: str, column: str) -> str:
    """Return the text. A NUL is refused, because it makes PARSE_JSON and thus Snowflake's live view fail."""
    if "\0" in text:
        raise InvalidRowError("nul_character", f"{column} holds the character U+0000", column=column)
    return text


def _exact(raw: Any, column: str) -> Decimal:
    """Return the exact value of a raw number. A number that DynamoDB cannot hold is refused."""
    kind = type(raw)
    if kind is int:
        if -_PLAIN_LIMIT < raw < _PLAIN_LIMIT:
            return Decimal(raw)
    elif kind is not NumberText:
        _refuse_type(raw, "a number", column)
    try:
        number = Decimal(raw)
    except InvalidOperation as error:
        raise _beyond_range(column) from error
    if not number:
        return Decimal(0)
    if not LOWEST_EXPONENT <= number.adjusted() <= HIGHEST_EXPONENT:
        raise _beyond_range(column)
    if kind is int or len(raw) > MAX_NUMBER_DIGITS:
        digits = "".join(map(str, number.as_tuple().digits)).rstrip("0")
        if len(digits) > MAX_NUMBER_DIGITS:
            raise InvalidRowError("number_too_long", f"{column} has {len(digits)} digits", column=column)
    return number


def _beyond_range(column: str) -> InvalidRowError:
    return InvalidRowError("number_too_long", f"{column} is outside 1E-130 to 9.99E+125", column=column)


def _refuse_type(raw: Any, wanted: str, column: str) -> Never:
    if type(raw) is NotANumber:
        raise InvalidRowError("not_a_number", f"{column} is {raw}, which is not a number", column=column)
    kinds = {bool: "a boolean", str: "a string", list: "a list", dict: "an object"}
    found = kinds.get(type(raw), "a number")
    raise InvalidRowError("wrong_type", f"{column} is {found}, not {wanted}", column=column)


_MAKERS: dict[Kind, Callable[[str], Decoder]] = {
    Kind.STRING: _string_decoder,
    Kind.LONG: _long_decoder,
    Kind.DOUBLE: _double_decoder,
    Kind.BOOLEAN: _boolean_decoder,
    Kind.DATE: _date_decoder,
    Kind.TIMESTAMP: _timestamp_decoder,
    Kind.JSON: _json_decoder,
}
