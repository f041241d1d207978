"""The canonical text of values of `json` columns, written directly from Python values.

The row contract writes JSON and parses it again, which takes four times as long. Values whose text may differ
from the contract's are odd, and the contract writes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from json.encoder import encode_basestring
from math import isnan
from typing import Any

import numpy as np
import pandas as pd

from prediction_contract.limits import MAX_NAME_BYTES, MAX_NUMBER_DIGITS
from prediction_contract.rows.column_values import DEEPEST_NESTING
from prediction_contract.text.canonical_json import number_text

_PLAIN_LIMIT = 10**MAX_NUMBER_DIGITS
# This is well within DynamoDB's range. Larger exponents are left to the contract.
_FARTHEST_EXPONENT = 80
# Limits of the cache of object shapes; a model writes few shapes.
_MOST_SHAPES = 1000
_LONGEST_SHAPE = 50


class OddValueError(Exception):
    """A value may not be valid in a `json` column, or its text may differ from the contract's."""


def json_texts(values: Iterable[Any]) -> tuple[list[str | None], list[int]]:
    """Return the canonical texts, with None for missing and odd values, and the indexes of odd values."""
    texts: list[str | None] = []
    odd: list[int] = []
    for place, value in enumerate(values):
        text = None
        # A value that is NaN itself is missing. NaN inside a value is an invalid number.
        if value is not None and not (isinstance(value, float) and isnan(value)):
            try:
                text = _text(value, 0)
                # A lone surrogate cannot be encoded as UTF-8.
                if not text.isascii():
                    text.encode()
            except (OddValueError, UnicodeEncodeError):
                text = None
                odd.append(place)
            else:
                # A missing value of pandas is written as null.
                if text == "null":
                    text = None
        texts.append(text)
    return texts, odd


def _text(value: Any, depth: int) -> str:
    write = _WRITERS.get(type(value))
    if write is None:
        raise OddValueError
    return write(value, depth)


def _string_text(value: str, _depth: int) -> str:
    if "\0" in value:
        raise OddValueError
    return encode_basestring(value)


def _integer_text(value: int, _depth: int) -> str:
    if -_PLAIN_LIMIT < value < _PLAIN_LIMIT:
        return int.__repr__(value)
    raise OddValueError


def _float_text(value: float, _depth: int) -> str:
    text = float.__repr__(value)
    if text.endswith(".0"):
        return "0" if text == "-0.0" else text[:-2]
    # It has an exponent, or is NaN or an infinity.
    if "e" in text or "n" in text:
        return _decimal_text(_number(text), 0)
    return text


def _number(text: str) -> Decimal:
    number = Decimal(text)
    if number.is_finite():
        return number
    raise OddValueError


def _decimal_text(value: Decimal, _depth: int) -> str:
    if not value.is_finite():
        raise OddValueError
    if value:
        _, digits, exponent = value.as_tuple()
        if len(digits) > MAX_NUMBER_DIGITS or abs(int(exponent)) > _FARTHEST_EXPONENT:
            raise OddValueError
    return number_text(value)


def _list_text(value: Iterable[Any], depth: int) -> str:
    if depth == DEEPEST_NESTING:
        raise OddValueError
    return f"[{','.join([_text(element, depth + 1) for element in value])}]"


_SHAPES: dict[tuple[Any, ...], list[tuple[Any, str]]] = {}


def _object_text(value: Mapping[Any, Any], depth: int) -> str:
    if depth == DEEPEST_NESTING:
        raise OddValueError
    names = tuple(value)
    members = _SHAPES.get(names)
    if members is None:
        members = _members(names)
        if len(names) <= _LONGEST_SHAPE and len(_SHAPES) < _MOST_SHAPES:
            _SHAPES[names] = members
    return f"{{{','.join([before + _text(value[name], depth + 1) for name, before in members])}}}"


def _members(names: tuple[Any, ...]) -> list[tuple[Any, str]]:
    """Return an object's names in canonical order, each with the text before its value."""
    for name in names:
        # A character takes at most four bytes.
        if type(name) is not str or not name or "\0" in name or len(name) * 4 > MAX_NAME_BYTES:
            raise OddValueError
    return [(name, f"{encode_basestring(name)}:") for name in sorted(names)]


def _array_text(value: np.ndarray, depth: int) -> str:
    if value.dtype.kind not in "biuf":
        raise OddValueError
    return _text(value.tolist(), depth)


def _scalar_text(value: np.generic, depth: int) -> str:
    return _text(value.item(), depth)


_WRITERS: dict[type, Callable[[Any, int], str]] = {
    str: _string_text,
    int: _integer_text,
    float: _float_text,
    bool: lambda value, _: "true" if value else "false",
    type(None): lambda *_: "null",
    type(pd.NA): lambda *_: "null",
    type(pd.NaT): lambda *_: "null",
    Decimal: _decimal_text,
    list: _list_text,
    tuple: _list_text,
    dict: _object_text,
    np.ndarray: _array_text,
    **dict.fromkeys(
        (np.bool_, np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64),
        _scalar_text,
    ),
    **dict.fromkeys((np.float16, np.float32, np.float64, np.str_), _scalar_text),
}
