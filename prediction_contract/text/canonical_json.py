"""JSON without loss: nothing becomes a binary float, and equal values have one spelling.

The canonical form has sorted keys (by code point), no spaces, UTF-8 without escapes that JSON does not ask
for, and numbers as `number_text` spells them.
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

# Powers of ten that a double can hold. Arithmetic on a decimal beyond them fails, or takes hours: `int` of
# 1e9999999 computes ten million digits.
_LOWEST_POWER, _HIGHEST_POWER = -324, 308


class InvalidJsonError(ContractError):
    """A document is not JSON that can be held without loss.

    Args:
        reason: `unparsable`, `not_a_number`, `number_too_long`, `duplicate_name`, `too_deep` or
            `too_many_values`.
        what: As in `ContractError`.
    """

    def __init__(self, reason: str, what: str) -> None:
        self.reason = reason
        super().__init__(what, remedy="Write plain JSON in UTF-8, without NaN, infinities or repeated names")


class NumberText(str):
    """A JSON number with a point or an exponent, as it was written."""

    __slots__ = ()


class _RefusedNumberError(Exception):
    """A number cannot be held; where it stands is looked for once it is known that there is one."""

    def __init__(self, reason: str, what: str) -> None:
        self.reason = reason
        super().__init__(what)


class NotANumber(str):
    """NaN or an infinity, which JSON has no number for, as it was written."""

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
    # Converting an integer takes the square of its digits.
    if len(text.lstrip("-")) > _HIGHEST_POWER + 1:
        raise _RefusedNumberError("number_too_long", f"An integer has more than {_HIGHEST_POWER + 1} digits")
    return int(text)


def _exact_decimal(text: str) -> Decimal:
    try:
        number = Decimal(text)
    except InvalidOperation as error:
        raise _RefusedNumberError("number_too_long", "A number's exponent is beyond every store") from error
    if not _LOWEST_POWER <= number.adjusted() <= _HIGHEST_POWER:
        raise _RefusedNumberError("number_too_long", "A number's exponent is beyond every store")
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


# Each holds what the decoder refuses as a mark.
_MARKING = {
    _EXACT: json.JSONDecoder(
        parse_float=_marked_unless(_exact_decimal),
        parse_int=_marked_unless(_exact_integer),
        parse_constant=_marked,
    ),
    _AS_WRITTEN: json.JSONDecoder(parse_constant=_marked),
}


def _place_of_number(document: bytes, marking: json.JSONDecoder) -> str:
    """Return the path of the first number that is refused; empty if what follows it is no JSON either."""
    try:
        return path_of_refused_value(marking.decode(document.decode()))
    except (ValueError, RecursionError):
        return ""


# Where a value may still be left out or refused by itself.
_WITH_CONSTANTS = json.JSONDecoder(
    object_pairs_hook=_unique_names, parse_float=NumberText, parse_constant=NotANumber
)


def parse_json(document: bytes, *, most_values: int | None = None) -> JsonValue:
    """Return a document's value, its numbers as int or Decimal.

    Args:
        document: Its bytes.
        most_values: How many values it may hold, commas in texts counted too. Parsing takes memory and time
            by the values, a hundred times what their bytes take, so they are counted before.

    Raises:
        InvalidJsonError: It is not UTF-8 or not JSON, names a member twice, nests too deep, has too many
            values, or holds NaN, an infinity or a number beyond 1e-324 to 9.99e308.
    """
    if most_values is not None:
        values = count_values(document)
        if values > most_values:
            raise InvalidJsonError(
                "too_many_values", f"The document has up to {values} values, and {most_values} are allowed"
            )
    return _decode(document, _EXACT)


def count_values(document: bytes) -> int:
    """Return how many values JSON text has at most, without parsing it: commas in texts count as values."""
    # Each container has one value more than commas, if it is not empty.
    return 1 + sum(document.count(sign) for sign in (b",", b"{", b"["))


def parse_as_written(document: bytes) -> Any:
    """Return a document's value, numbers with a point or exponent as `NumberText`, the others as int.

    Raises:
        InvalidJsonError: As `parse_json`, but numbers of any size are taken.
    """
    return _decode(document, _AS_WRITTEN)


def parse_with_constants(document: bytes) -> Any:
    """Return a document's value as `parse_as_written`, NaN and infinities as `NotANumber`.

    Raises:
        InvalidJsonError: As `parse_json`, but for NaN and infinities.
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
        # The interpreter parses integers of at most 4,300 digits.
        raise InvalidJsonError("number_too_long", "An integer has thousands of digits") from error
    except RecursionError as error:
        raise InvalidJsonError("too_deep", "The document nests too deep to be parsed") from error


def number_text(number: int | Decimal) -> str:
    """Return the one spelling of a number: 1.50, 1.5 and 15e-1 are `1.5`; zero has no sign.

    Plain digits while the point lies within 38 digits, else `1.5E+60`. The number must be finite.
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
        TypeError: The value holds something that `parse_json` never returns, a float for instance.
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
        InvalidJsonError: A string holds half of a surrogate pair, which UTF-8 cannot spell.
        TypeError: As `canonical_json`.
    """
    try:
        return canonical_json(value).encode()
    except UnicodeEncodeError as error:
        raise InvalidJsonError("unparsable", "A string holds half of a surrogate pair") from error
