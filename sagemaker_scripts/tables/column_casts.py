"""Casts a source's columns to the declared types; a value that would change is refused.

| declared     | taken from                                                                             |
|--------------|----------------------------------------------------------------------------------------|
| string       | text in valid UTF-8                                                                    |
| long         | integers; decimals and floats without a fraction, floats below 2^53; NaN is no value   |
| decimal(p,s) | decimals and integers that fit; floats of up to 15 digits, float32 of up to 7          |
| double       | floats, integers up to 2^53, decimals                                                  |
| boolean      | booleans                                                                               |
| date         | dates; times at midnight                                                               |
| timestamp    | times of any unit and zone; one without a zone is UTC; nanoseconds are cut off         |
| json         | text as it is; anything else as its JSON, which has no NaN and no infinity             |

In CSV every value is text; in JSONL dates, times and decimals may be text. A double that is too large, for
example 1e400, is refused. So is a decimal with more than 38 decimal places, or with an exponent of 30 or
more.
"""

# PyArrow creates its compute functions when it is imported, where no type checker sees them.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from prediction_batches.arrow_types import ANY_DECIMAL, arrow_type, is_any_string
from prediction_contract.rows.schema import ColumnType, Kind

# The kinds whose values each format may write as text.
SPELLED_IN_CSV = frozenset(Kind)
SPELLED_IN_JSON = frozenset({Kind.DATE, Kind.TIMESTAMP, Kind.DECIMAL})
_EXACT_IN_DOUBLE = 2**53
_NO_VALUE = pa.array(["", "NA", "N/A", "null", "NULL"], pa.string())
_HAS_ZONE = r"(Z|[+-][0-9]{2}:?[0-9]{2})$"
_INFINITE_TEXT = r"^[+-]?(?i:inf|infinity)$"
# Arrow turns smaller numbers into 0, or crashes.
_DECIMAL_TEXT = r"^[+-]?[0-9]*[.]?[0-9]{0,38}([eE][+-]?0*[12]?[0-9])?$"
# The limits of a decimal of any type.
_MOST_DIGITS, _DECIMAL_LIMIT = 38, 1e38
# The number of bits up to which each float type represents every integer exactly.
_EXACT_BITS = {pa.float16(): 11, pa.float32(): 24, pa.float64(): 53}
_UNCHANGED_KINDS = frozenset({Kind.STRING, Kind.JSON})


class CastError(Exception):
    """A column has a value that does not fit its declared type.

    Args:
        what: The fault, without quoting a value.
        row: The first row at fault, from 1; None if the whole column is at fault.
    """

    def __init__(self, what: str, row: int | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.row = row


def cast_column(
    values: pa.Array | pa.ChunkedArray, declared: ColumnType, spelled: frozenset[Kind] = frozenset()
) -> pa.Array | pa.ChunkedArray:
    """Return a column's values in the Arrow type of its declared type.

    Args:
        values: The values as they were read.
        declared: The declared type.
        spelled: The kinds whose values the format may write as text.

    Raises:
        CastError: A value, or the column's own type, does not fit.
    """
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if pa.types.is_null(values.type):
        return values.cast(arrow_type(declared))
    cast = _cast_of(values.type, declared, spelled)
    try:
        return cast(values)
    except (pa.ArrowException, ValueError, TypeError):
        row = _first_bad_row(values, cast)
        raise CastError(f"its value is not a valid {declared}", row) from None


def _cast_of(given: pa.DataType, declared: ColumnType, spelled: frozenset[Kind]) -> Callable[[Any], Any]:
    """Return the function that casts a column of a type.

    Raises:
        CastError: The type cannot be cast.
    """
    kind, target = declared.kind, arrow_type(declared)
    if is_any_string(given) and kind not in _UNCHANGED_KINDS:
        if kind in spelled:
            # Only CSV has no null and needs texts for missing values.
            no_value = _NO_VALUE if spelled == SPELLED_IN_CSV else _NO_VALUE.slice(0, 0)
            return lambda values: _of_text(values, kind, target, no_value)
    elif cast := _CASTS[kind](given):
        return lambda values: cast(values, target)
    raise CastError(f"it is {given}, but declared as {declared}")


def _of_text(values: Any, kind: Kind, target: pa.DataType, no_value: pa.Array) -> Any:
    values = values.cast(pa.string())
    values = pc.if_else(pc.is_in(values, value_set=no_value), pa.scalar(None, pa.string()), values)
    if kind is Kind.TIMESTAMP:
        zoned = pc.match_substring_regex(values, _HAS_ZONE)
        values = pc.if_else(zoned, values, pc.binary_join_element_wise(values, "Z", ""))
    if kind is Kind.DECIMAL:
        return _decimal_of_text(values, target)
    read = values.cast(target)
    if kind is Kind.DOUBLE:
        said = pc.match_substring_regex(values, _INFINITE_TEXT)
        if not _holds(pc.or_(pc.invert(pc.is_inf(read)), said)):
            raise ValueError
    return read


def _decimal_of_text(values: Any, target: pa.DataType) -> Any:
    if not _holds(pc.match_substring_regex(values, _DECIMAL_TEXT)):
        raise ValueError
    if pc.any(pc.greater_equal(pc.abs(values.cast(pa.float64())), _DECIMAL_LIMIT)).as_py():
        raise ValueError
    return values.cast(ANY_DECIMAL).cast(target)


def _holds(conditions: Any) -> bool:
    """Tell whether all conditions are true, ignoring nulls."""
    return bool(pc.all(conditions, min_count=0).as_py())


def _text(given: pa.DataType) -> Callable[..., Any] | None:
    return _valid_text if is_any_string(given) else None


def _valid_text(values: Any, target: pa.DataType) -> Any:
    # Arrow does not check that texts in Parquet and JSON are UTF-8.
    values.validate(full=True)
    return values.cast(target)


def _long(given: pa.DataType) -> Callable[..., Any] | None:
    if pa.types.is_integer(given) or pa.types.is_decimal(given):
        return lambda values, target: values.cast(target)
    return _long_of_float if pa.types.is_floating(given) else None


def _long_of_float(values: Any, target: pa.DataType) -> Any:
    values = values.cast(pa.float64())
    values = pc.if_else(pc.is_nan(values), pa.scalar(None, pa.float64()), values)
    # From this value on, a float may not be the integer that was written.
    if pc.any(pc.greater_equal(pc.abs(values), float(_EXACT_IN_DOUBLE))).as_py():
        raise ValueError
    return values.cast(target)


def _double(given: pa.DataType) -> Callable[..., Any] | None:
    fits = pa.types.is_floating(given) or pa.types.is_integer(given) or pa.types.is_decimal(given)
    return (lambda values, target: values.cast(target)) if fits else None


def _boolean(given: pa.DataType) -> Callable[..., Any] | None:
    return (lambda values, _target: values) if pa.types.is_boolean(given) else None


def _decimal(given: pa.DataType) -> Callable[..., Any] | None:
    if pa.types.is_decimal(given):
        return _decimal_of_decimal
    if pa.types.is_integer(given):
        return lambda values, target: _decimal_of_decimal(values.cast(pa.decimal128(20, 0)), target)
    return _decimal_of_float if pa.types.is_floating(given) else None


def _decimal_of_decimal(values: Any, target: pa.DataType) -> Any:
    may_outgrow = values.type.precision - values.type.scale + target.scale > _MOST_DIGITS
    return (values.cast(ANY_DECIMAL) if may_outgrow else values).cast(target)


def _decimal_of_float(values: Any, target: pa.DataType) -> Any:
    # From this value on, a float may have lost digits.
    limit = 2.0 ** _EXACT_BITS[values.type] / 10**target.scale
    if pc.any(pc.greater_equal(pc.abs(values.cast(pa.float64())), limit)).as_py():
        raise ValueError
    return _decimal_of_text(values.cast(pa.string()), target)


def _date(given: pa.DataType) -> Callable[..., Any] | None:
    if pa.types.is_date(given):
        return lambda values, target: values.cast(target)
    return _date_of_time if pa.types.is_timestamp(given) else None


def _date_of_time(values: Any, target: pa.DataType) -> Any:
    values = values.cast(pa.timestamp(values.type.unit))
    dates = values.cast(target)
    if not _holds(pc.equal(dates.cast(values.type), values)):
        raise ValueError
    return dates


def _timestamp(given: pa.DataType) -> Callable[..., Any] | None:
    return utc_times if pa.types.is_timestamp(given) else None


def utc_times(values: Any, target: pa.DataType) -> Any:
    """Return times of any unit in UTC; times without a zone are taken as UTC."""
    if values.type.tz is None:
        values = values.cast(pa.timestamp(values.type.unit, tz="UTC"))
    return values.cast(target, safe=values.type.unit != "ns")


def _json(given: pa.DataType) -> Callable[..., Any] | None:
    return _text(given) or _json_of_values


def _json_of_values(values: Any, target: pa.DataType) -> Any:
    texts = [
        None
        if value is None
        else json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        for value in values.to_pylist()
    ]
    return pa.array(texts, target)


_CASTS: dict[Kind, Callable[[pa.DataType], Callable[..., Any] | None]] = {
    Kind.STRING: _text,
    Kind.LONG: _long,
    Kind.DOUBLE: _double,
    Kind.BOOLEAN: _boolean,
    Kind.DECIMAL: _decimal,
    Kind.DATE: _date,
    Kind.TIMESTAMP: _timestamp,
    Kind.JSON: _json,
}


def _first_bad_row(values: Any, cast: Callable[[Any], Any]) -> int:
    """Return the number of the first row that a cast refuses, found by bisection."""
    good, bad = 0, len(values)
    while bad - good > 1:
        middle = (good + bad) // 2
        try:
            cast(values.slice(good, middle - good))
        except (pa.ArrowException, ValueError, TypeError):
            bad = middle
        else:
            good = middle
    return good + 1
