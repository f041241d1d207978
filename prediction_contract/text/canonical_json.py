"""Exact JSON: no number becomes a binary float, and equal values have the same canonical text.

The canonical form has keys sorted by code point, no spaces, UTF-8 with only the escapes that JSON requires,
and numbers in the form of `number_text`.
"""

from __future__ import annotations

import json
from collections import Counter
from decimal import Decimal, InvalidOperation
from json.encoder import encode_basestring
from typing import TYPE_CHECKING, Any, TypeAlias

from prediction_contract.errors import ContractError
from prediction_contract.limits import MAX_NUMBER_DIGITS
from prediction_contract.text.json_faults import (
    RefusedValue,
    kind_of_bytes,
    path_of_refused_value,
    syntax_fault,
)

if TYPE_CHECKING:
    from collections.abc import Callable

# Numbers are int or Decimal, never float.
JsonValue: TypeAlias = "bool | int | Decimal | str | list[JsonValue] | dict[str, JsonValue] | None"

# The powers of ten of doubles. Arithmetic on larger decimals fails or takes hours: `int` of 1e9999999 has ten
# million digits.
_LOWEST_POWER, _HIGHEST_POWER = -324, 308


class InvalidJsonError(ContractError):
    """A document is not JSON, or it cannot be represented exactly.

    Args:
        reason: `unparsable`, `not_a_number`, `number_too_long`, `duplicate_name`, `too_deep` or
            `too_many_values`.
        what: As in `ContractError`.
    """

    def __init__(self, reason: str, what: str) -> None:
        self.reason = reason
        super().__init__(what, remedy="Write plain JSON in UTF-8, without NaN, infinities or repeated names")


class NumberText(str):
    """The text of a JSON number with a point or an exponent."""

    __slots__ = ()


class _RefusedNumberError(Exception):
    """A number cannot be represented. Its path is searched only after this error."""

    def __init__(self, reason: str, what: str) -> None:
        self.reason = reason
        super().__init__(what)


class NotANumber(str):
    """The text of NaN or an infinity, which are not JSON numbers."""

    __slots__ = ()


def _refused_constant(name: str) -> Any:
    raise _RefusedNumberError("not_a_number", f"{name} is not a JSON number")


def _unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        counts = Counter(name for name, _ in pairs)
        duplicate = next(name for name, count in counts.items() if count > 1)
        raise InvalidJsonError("duplicate_name", f'An object names "{duplicate[:80]}" twice')
    return members


def _exact_integer(text: str) -> int:
    # The time to convert an integer grows with the square of its digits.
    if len(text.lstrip("-")) > _HIGHEST_POWER + 1:
        raise _RefusedNumberError("number_too_long", f"An integer has more than {_HIGHEST_POWER + 1} digits")
    return int(text)


def _exact_decimal(text: str) -> Decimal:
    try:
        number = Decimal(text)
    except InvalidOperation as error:
        raise _RefusedNumberError(
            "number_too_long", "A number's exponent is too large or too small for the stores"
        ) from error
    if not _LOWEST_POWER <= number.adjusted() <= _HIGHEST_POWER:
        raise _RefusedNumberError(
            "number_too_long", "A number's exponent is too large or too small for the stores"
        )
    return number


_EXACT = json.JSONDecoder(
    object_pairs_hook=_unique_names,
    parse_float=_exact_decimal,
    parse_int=_exact_integer,
    parse_constant=_refused_constant,
)
_AS_WRITTEN = json.JSONDecoder(
    object_pairs_hook=_unique_names, parse_float=NumberText, parse_constant=_refused_constant
)


def _marked(_text: str) -> RefusedValue:
    return RefusedValue()


def _marked_unless(parse: Callable[[str], Any]) -> Callable[[str], RefusedValue | None]:
    def judge(text: str) -> RefusedValue | None:
        try:
            parse(text)
        except _RefusedNumberError:
            return RefusedValue()
        return None

    return judge


# For each decoder, one that puts a `RefusedValue` in place of the values that the decoder refuses.
_MARKING = {
    _EXACT: json.JSONDecoder(
        parse_float=_marked_unless(_exact_decimal),
        parse_int=_marked_unless(_exact_integer),
        parse_constant=_marked,
    ),
    _AS_WRITTEN: json.JSONDecoder(parse_constant=_marked),
}


def _place_of_number(document: bytes, marking: json.JSONDecoder) -> str:
    """Return the path of the first refused number; empty if the document is also not JSON."""
    try:
        return path_of_refused_value(marking.decode(document.decode()))
    except (ValueError, RecursionError):
        return ""


# For documents whose values may be dropped or refused one by one.
_WITH_CONSTANTS = json.JSONDecoder(
    object_pairs_hook=_unique_names, parse_float=NumberText, parse_constant=NotANumber
)


def parse_json(document: bytes, *, most_values: int | None = None) -> JsonValue:
    """Return a document's value, with numbers as int or Decimal.

    Args:
        document: The document's bytes.
        most_values: The maximum number of values as counted by `count_values`; None for no limit. They are
            counted before parsing, because a parsed value may take a hundred times its bytes in memory.

    Raises:
        InvalidJsonError: The document is not UTF-8 or not JSON, names a member twice, nests too deep, has too
            many values, or has NaN, an infinity or a number outside 1e-324 to 9.99e308.
    """
    if most_values is not None:
        values = count_values(document)
        if values > most_values:
            raise InvalidJsonError(
                "too_many_values",
                f"The document has up to {values} values; at most {most_values} are allowed",
            )
    return _decode(document, _EXACT)


def count_values(document: bytes) -> int:
    """Return an upper bound of the number of values in JSON text. Commas in strings count as values."""
    # A container that is not empty has one more value than commas.
    return 1 + sum(document.count(sign) for sign in (b",", b"{", b"["))


def parse_as_written(document: bytes) -> Any:
    """Return a document's value, with numbers as `NumberText` if they have a point or exponent, else as int.

    Raises:
        InvalidJsonError: As in `parse_json`, but numbers of any size are accepted.
    """
    return _decode(document, _AS_WRITTEN)


def parse_with_constants(document: bytes) -> Any:
    """Return the result of `parse_as_written`, with NaN and infinities as `NotANumber`.

    Raises:
        InvalidJsonError: As in `parse_as_written`, but NaN and infinities are accepted.
    """
    return _decode(document, _WITH_CONSTANTS)


def _decode(document: bytes, decoder: json.JSONDecoder) -> Any:
    try:
        return decoder.decode(document.decode())
    except UnicodeDecodeError as error:
        what = kind_of_bytes(document) or f"Byte {error.start} is not UTF-8"
        raise InvalidJsonError("unparsable", what) from error
    except json.JSONDecodeError as error:
        raise InvalidJsonError("unparsable", kind_of_bytes(document) or syntax_fault(error)) from error
    except _RefusedNumberError as error:
        place = _place_of_number(document, _MARKING[decoder])
        raise InvalidJsonError(error.reason, f"{place}: {error}" if place else str(error)) from error
    except ValueError as error:
        # Python parses integers of at most 4,300 digits.
        raise InvalidJsonError("number_too_long", "An integer has thousands of digits") from error
    except RecursionError as error:
        raise InvalidJsonError("too_deep", "The document nests too deeply to be parsed") from error


def number_text(number: int | Decimal) -> str:
    """Return the canonical text of a finite number: 1.50, 1.5 and 15e-1 are `1.5`, and zero has no sign.

    The text has an exponent, for example `1.5E+60`, only if it would have more than 38 digits otherwise.
    """
    if type(number) is int and -_PLAIN_LIMIT < number < _PLAIN_LIMIT:
        return str(number)
    number = Decimal(number)
    if not number:
        return "0"
    exponent = number.adjusted()
    if -MAX_NUMBER_DIGITS <= exponent < MAX_NUMBER_DIGITS:
        text = format(number, "f")
        return text.rstrip("0").rstrip(".") if "." in text else text
    sign, digits, _ = number.as_tuple()
    significant = "".join(map(str, digits)).rstrip("0")
    fraction = f".{significant[1:]}" if len(significant) > 1 else ""
    return f"{'-' if sign else ''}{significant[0]}{fraction}E{exponent:+d}"


_PLAIN_LIMIT = 10**MAX_NUMBER_DIGITS


def canonical_json(value: JsonValue) -> str:
    """Return the canonical text of a JSON value.

    Raises:
        TypeError: The value contains a type that `parse_json` never returns, for example a float.
    """
    if isinstance(value, str):
        return encode_basestring(value)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | Decimal):
        return number_text(value)
    if isinstance(value, list):
        return f"[{','.join(map(canonical_json, value))}]"
    if isinstance(value, dict):
        members = (f"{encode_basestring(name)}:{canonical_json(value[name])}" for name in sorted(value))
        return f"{{{','.join(members)}}}"
    raise TypeError(f"A {type(value).__name__} has no canonical JSON. Use int or Decimal for numbers.")


def canonical_bytes(value: JsonValue) -> bytes:
    """Return the canonical text of a JSON value in UTF-8.

    Raises:
        InvalidJsonError: A string contains a lone surrogate, which UTF-8 cannot encode.
        TypeError: As in `canonical_json`.
    """
    try:
        return canonical_json(value).encode()
    except UnicodeEncodeError as error:
        raise InvalidJsonError("unparsable", "A string holds a lone surrogate") from error
