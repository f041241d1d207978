"""Converts a program's columns to the schema's Arrow types, and finds the rows that need a closer look.

Nothing is rounded: a conversion that would change a value fails. A value that cannot be converted is odd, and
null in the result.
"""

# PyArrow creates its compute functions when it is imported, where no type checker sees them.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from prediction_batches.arrow_types import ANY_DECIMAL, arrow_type, is_any_string
from prediction_batches.rows.column_texts import double_texts, either, mask_of
from prediction_batches.rows.given_rows import GivenColumn, arrow_column, lost_digits, plain_column
from prediction_contract.errors import InvalidRowError
from prediction_contract.limits import MAX_NUMBER_DIGITS
from prediction_contract.rows.column_values import decoder_for
from prediction_contract.rows.schema import Column, Kind

_MISSING = frozenset({type(None), type(pd.NA), type(pd.NaT)})
_FLOATS = frozenset({float, np.float64})
_INTEGERS = frozenset({int, np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64})
# The Python types that Arrow converts to each kind without changing a value.
_EXACT_OBJECTS: dict[Kind, frozenset[type]] = {
    Kind.STRING: frozenset({str}),
    Kind.LONG: _INTEGERS,
    Kind.DOUBLE: _FLOATS | {int},
    Kind.DECIMAL: frozenset({Decimal, int}),
    Kind.BOOLEAN: frozenset({bool, np.bool_}),
    Kind.DATE: frozenset({date}),
    Kind.TIMESTAMP: frozenset({datetime, pd.Timestamp}),
}
# NaN is an invalid number in these kinds, and a missing value in the others.
_KEEPS_NAN = frozenset({Kind.DOUBLE, Kind.DECIMAL})
# The number of bits up to which each float type represents every integer exactly.
_EXACT_BITS = {pa.float16(): 11, pa.float32(): 24, pa.float64(): 53}
_WIDEST_DECIMAL_BITS = 128
# Between these bounds, all digits of a float fit into `ANY_DECIMAL`.
_SMALLEST_FLOAT, _FLOAT_BEYOND_LARGEST = 1e-20, 1e38
# The errors of conversions for a value that does not fit.
_REFUSALS = (pa.ArrowException, TypeError, ValueError, OverflowError)

Convert = Callable[[Any], pa.Array]


class TypedColumn(NamedTuple):
    """A column's values.

    Attributes:
        values: The values in the column's Arrow type; null for missing and odd values.
        odd: The mask of rows whose value could not be converted exactly; None if there are none.
    """

    values: pa.Array
    odd: np.ndarray | None = None


def typed_column(column: Column, given: GivenColumn, first: int) -> TypedColumn:
    """Return the values of a column.

    Args:
        column: A column of any type except `json`.
        given: The values given for it.
        first: The number of rows before these, for errors.

    Raises:
        PredictionsError: A `long` was given as a float so large that it may have lost digits.
    """
    if isinstance(given, pa.ChunkedArray):
        return _of_arrow(column, plain_column(given).combine_chunks(), first)
    dtype = given.dtype
    if isinstance(dtype, np.dtype) and dtype.kind == "O":
        return _of_objects(column, given.tolist(), first)
    try:
        array = _of_series(given)
    except _REFUSALS:
        return _of_objects(column, given.tolist(), first)
    typed = _of_arrow(column, array, first)
    if column.type.kind in _KEEPS_NAN and _uses_nan_for_missing(dtype):
        return TypedColumn(typed.values, either(typed.odd, mask_of(array.is_null())))
    return typed


def _uses_nan_for_missing(dtype: Any) -> bool:
    is_text = isinstance(dtype, pd.StringDtype) and dtype.na_value is not pd.NA
    return is_text or isinstance(dtype, pd.CategoricalDtype)


def _of_series(given: pd.Series) -> pa.Array:
    if isinstance(given.dtype, pd.CategoricalDtype):
        codes = pa.array(given.cat.codes.to_numpy(), pa.int32())
        codes = pc.if_else(pc.less(codes, 0), pa.scalar(None, pa.int32()), codes)
        return _of_series(pd.Series(given.cat.categories)).take(codes)
    return plain_column(arrow_column(given)).combine_chunks()


def _of_arrow(column: Column, array: pa.Array, first: int) -> TypedColumn:
    kind, given, wanted = column.type.kind, array.type, arrow_type(column.type)
    if pa.types.is_floating(given) and kind not in _KEEPS_NAN:
        array = pc.if_else(pc.is_nan(array), pa.scalar(None, given), array)
    if pa.types.is_null(given) or array.null_count == len(array):
        return TypedColumn(pa.nulls(len(array), wanted))
    convert = _conversion(kind, given, wanted)
    if convert is None:
        return _of_texts(column, array) if _may_be_texts(kind, given) else _all_odd(array, wanted)
    if kind is Kind.LONG and pa.types.is_floating(given):
        _refuse_lost_digits(column, array, first)
    if kind is Kind.DECIMAL and pa.types.is_floating(given):
        return _of_floats(array.cast(pa.float64()), wanted)
    return _held(array, lambda some: convert(some).cast(wanted), None, wanted)


def _conversion(kind: Kind, given: pa.DataType, wanted: pa.DataType) -> Convert | None:
    """Return the conversion before the cast to the column's type; None if there is no such cast."""
    is_integer, is_decimal = pa.types.is_integer(given), pa.types.is_decimal(given)
    is_number = is_integer or is_decimal or pa.types.is_floating(given)
    if kind is Kind.DOUBLE and is_decimal:
        # Convert through the text, because Arrow's own conversion may be wrong in the last bit. The contract
        # limits the digits.
        return (lambda some: some.cast(pa.string())) if given.precision <= MAX_NUMBER_DIGITS else None
    if kind is Kind.DECIMAL and (is_integer or is_decimal):
        return _decimal_conversion(pa.decimal128(20, 0) if is_integer else given, wanted.scale)
    fits = {
        Kind.STRING: is_any_string(given),
        Kind.LONG: is_number,
        Kind.DOUBLE: is_number,
        Kind.DECIMAL: is_number,
        Kind.BOOLEAN: pa.types.is_boolean(given),
        Kind.DATE: pa.types.is_date(given),
        Kind.TIMESTAMP: pa.types.is_timestamp(given) and given.tz is not None,
    }
    return (lambda some: some) if fits[kind] else None


def _decimal_conversion(given: pa.DataType, scale: int) -> Convert | None:
    if given.precision - given.scale + scale <= MAX_NUMBER_DIGITS:
        return lambda some: some.cast(given)
    if given.bit_width > _WIDEST_DECIMAL_BITS or given.scale < 0:
        return None
    return lambda some: some.cast(given).cast(ANY_DECIMAL)


def _of_floats(numbers: pa.Array, wanted: pa.DataType) -> TypedColumn:
    """Return the decimals with the same digits as the floats."""
    size = np.abs(numbers.fill_null(0.0).to_numpy(zero_copy_only=False))
    odd = ~((size == 0) | ((size >= _SMALLEST_FLOAT) & (size < _FLOAT_BEYOND_LARGEST)))
    texts = double_texts(_without(numbers, odd)).texts
    return _held(texts, lambda some: some.cast(ANY_DECIMAL).cast(wanted), odd if odd.any() else None, wanted)


def _may_be_texts(kind: Kind, given: pa.DataType) -> bool:
    return kind in {Kind.DATE, Kind.TIMESTAMP} and is_any_string(given)


def _all_odd(array: pa.Array, wanted: pa.DataType) -> TypedColumn:
    return TypedColumn(pa.nulls(len(array), wanted), mask_of(array.is_valid()))


def _without(values: pa.Array, odd: np.ndarray | None) -> pa.Array:
    return values if odd is None else pc.if_else(pa.array(odd), pa.scalar(None, values.type), values)


def _refuse_lost_digits(column: Column, array: pa.Array, first: int) -> None:
    bits = _EXACT_BITS[array.type]
    numbers = np.abs(array.cast(pa.float64()).fill_null(0.0).to_numpy(zero_copy_only=False))
    lost = (numbers >= 2.0**bits) & np.isfinite(numbers)
    if lost.any():
        raise lost_digits(column, first + int(lost.argmax()) + 1, bits)


def _of_texts(column: Column, array: pa.Array) -> TypedColumn:
    """Parse texts as dates or times; each distinct text is parsed once."""
    decode, wanted = decoder_for(column), arrow_type(column.type)
    coded = array.dictionary_encode()
    values: list[Any] = []
    for text in coded.dictionary.to_pylist():
        try:
            values.append(decode(text)[0])
        except InvalidRowError:
            values.append(None)
    typed = pa.array(values, wanted).take(coded.indices)
    odd = mask_of(pc.and_(typed.is_null(), array.is_valid()))
    return TypedColumn(typed, odd if odd.any() else None)


def _held(given: Any, convert: Convert, odd: np.ndarray | None, wanted: pa.DataType) -> TypedColumn:
    """Return the converted values; values that the conversion refuses become odd too."""
    refused: list[int] = []
    values = _converted(given, convert, 0, refused, wanted)
    if refused:
        mask = np.zeros(len(values), bool)
        mask[refused] = True
        odd = either(odd, mask)
    return TypedColumn(values, odd)


def _converted(given: Any, convert: Convert, first: int, refused: list[int], wanted: pa.DataType) -> pa.Array:
    try:
        return convert(given)
    except _REFUSALS:
        if len(given) == 1:
            refused.append(first)
            return pa.nulls(1, wanted)
    middle = len(given) // 2
    return pa.concat_arrays(
        [
            _converted(given[:middle], convert, first, refused, wanted),
            _converted(given[middle:], convert, first + middle, refused, wanted),
        ]
    )


def _of_objects(column: Column, values: list[Any], first: int) -> TypedColumn:
    kind, wanted = column.type.kind, arrow_type(column.type)
    kinds = set(map(type, values)) - {type(None)}
    if kinds <= _FLOATS and kind is not Kind.DOUBLE:
        return _of_arrow(column, pa.array(values, pa.float64(), from_pandas=False), first)
    exact = (
        frozenset({str}) if kinds == {str} and kind in {Kind.DATE, Kind.TIMESTAMP} else _EXACT_OBJECTS[kind]
    )
    odd = None
    if not kinds <= exact:
        odd = np.fromiter((not _is_exact(value, exact, kind) for value in values), bool, len(values))
        values = [value if type(value) in exact else None for value in values]
    if kind is Kind.DECIMAL and Decimal in kinds:
        wide = [type(value) is Decimal and _is_wide(value) for value in values]
        if any(wide):
            odd = either(odd, np.array(wide))
            values = [None if is_wide else value for value, is_wide in zip(values, wide, strict=True)]
    if str in exact:
        typed = _held(values, lambda some: pa.array(some, pa.string()), odd, pa.string())
        if kind is Kind.STRING:
            return typed
        found = _of_texts(column, typed.values)
        return TypedColumn(found.values, either(found.odd, typed.odd))
    if kind is Kind.TIMESTAMP:
        return _held(values, lambda some: pa.array(_timestamps(some), wanted), odd, wanted)
    return _held(values, lambda some: pa.array(some, wanted, from_pandas=False), odd, wanted)


def _is_exact(value: Any, exact: frozenset[type], kind: Kind) -> bool:
    if type(value) in exact or type(value) in _MISSING:
        return True
    return kind not in _KEEPS_NAN and isinstance(value, float) and value != value  # noqa: PLR0124  # is NaN


def _is_wide(value: Decimal) -> bool:
    """Whether a number has more digits, before or after the point, than Arrow reads exactly."""
    text = str(value)
    if len(text) <= MAX_NUMBER_DIGITS and "E" not in text:
        return False
    _, digits, exponent = value.as_tuple()
    return len(digits) > MAX_NUMBER_DIGITS or (isinstance(exponent, int) and -exponent > MAX_NUMBER_DIGITS)


def _timestamps(values: Iterable[Any]) -> list[datetime | None]:
    """Return datetimes in UTC.

    Raises:
        ValueError: A value has no time zone, or has nanoseconds.
        OverflowError: A value in UTC is beyond the years of Python.
    """
    return [None if value is None else _timestamp(value) for value in values]


def _timestamp(value: datetime) -> datetime:
    if value.tzinfo is None or getattr(value, "nanosecond", 0):
        raise ValueError(type(value).__name__)
    moment = value.to_pydatetime() if isinstance(value, pd.Timestamp) else value
    return moment.astimezone(UTC)
