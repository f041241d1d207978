"""A program's predictions: a pandas DataFrame or any table with the Arrow interface."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import isfinite, isnan
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa

from prediction_batches.arrow_types import plain_type
from prediction_batches.errors import PredictionsError
from prediction_contract.rows.schema import Column, Kind, PredictionSchema

GivenColumn: TypeAlias = "pd.Series | pa.ChunkedArray"

_PLAIN = frozenset({type(None), bool, int, float, str, pd.Timestamp})


@dataclass(frozen=True, slots=True)
class GivenRows:
    """Rows in the form in which they were given; their values are examined during encoding.

    Attributes:
        columns: The columns in the schema's order.
        first: The number of given rows before these.
        count: The number of these rows.
    """

    columns: tuple[GivenColumn, ...]
    first: int
    count: int

    def __len__(self) -> int:
        return self.count

    def slice(self, first: int, count: int) -> GivenRows:
        """Return `count` rows from `first` on, without copying them."""
        columns = tuple(
            column.slice(first, count)
            if isinstance(column, pa.ChunkedArray)
            else column.iloc[first : first + count]
            for column in self.columns
        )
        return GivenRows(columns, self.first + first, len(columns[0]))


def given_rows(schema: PredictionSchema, result: Any) -> GivenRows:
    """Return the rows of a table.

    None, NA and NaT are missing values, also at any depth of a `json` value. NaN is missing too, except in a
    `double` or `decimal` column: there it is an invalid number, and its row will be quarantined.

    Args:
        schema: The model's schema.
        result: A DataFrame of pandas, an Arrow table or record batch, or any table with `__arrow_c_stream__`.
            It has exactly the schema's columns, in any order.

    Raises:
        PredictionsError: The result is not a table, or its columns are not the schema's.
    """
    table = result if isinstance(result, pd.DataFrame) else _arrow_table(result)
    names = list(table.columns if isinstance(table, pd.DataFrame) else table.column_names)
    if set(names) != set(schema.names) or len(names) != len(schema.names):
        raise PredictionsError(
            f"The predictions have the columns {', '.join(map(str, names))}, "
            f"but the schema declares {', '.join(schema.names)}",
            remedy="Return exactly the declared columns, or correct the schema",
        )
    return GivenRows(tuple(_given_column(table[name]) for name in schema.names), 0, len(table))


def _given_column(column: GivenColumn) -> GivenColumn:
    is_arrows = isinstance(column, pd.Series) and isinstance(column.dtype, pd.ArrowDtype)
    return arrow_column(column) if is_arrows else column


def arrow_column(series: pd.Series) -> pa.ChunkedArray:
    """Convert a pandas column to Arrow; missing values become null, and NaN stays NaN."""
    array = pa.array(series.array, from_pandas=False)
    return array if isinstance(array, pa.ChunkedArray) else pa.chunked_array([array])


def _arrow_table(result: Any) -> pa.Table:
    if hasattr(result, "__arrow_c_stream__") or hasattr(result, "__arrow_c_array__"):
        try:
            return pa.table(result)
        except (pa.ArrowException, TypeError, ValueError):
            # A single column has the same interface.
            pass
    raise PredictionsError(
        f"The predictions have type {type(result).__name__}, which is not a table",
        remedy="Pass a pandas or Polars DataFrame, an Arrow table, or another table with __arrow_c_stream__",
    )


def python_values(given: GivenColumn, column: Column, numbers: Sequence[int]) -> list[Any]:
    """Return a column's values as plain Python values, None where there is no value.

    Args:
        given: The values.
        column: Their column.
        numbers: Each value's row, from 1, for errors.

    Raises:
        PredictionsError: A `long` was given as a float so large that it may have lost digits.
    """
    if isinstance(given, pa.ChunkedArray):
        # Arrow's extension array keeps values and NaN unchanged.
        series = pd.Series(pd.arrays.ArrowExtensionArray(plain_column(given)))
    else:
        series = given
    values = _listed(series)
    plain = [_plain(value) for value in values]
    kind = column.type.kind
    if kind in {Kind.DOUBLE, Kind.DECIMAL}:
        return plain
    if kind is Kind.LONG:
        bits_of_column = _exact_bits(series.dtype)
        for number, source, value in zip(numbers, values, plain, strict=True):
            # Infinities are left to the row contract, which refuses their rows.
            if isinstance(value, float) and isfinite(value):
                bits = _exact_bits(source.dtype) if hasattr(source, "dtype") else bits_of_column
                if abs(value) >= 2.0**bits:
                    raise lost_digits(column, number, bits)
    return [None if isinstance(value, float) and isnan(value) else value for value in plain]


def lost_digits(column: Column, number: int, bits: int) -> PredictionsError:
    """Return the error for a `long` given as a float too large to distinguish adjacent integers."""
    return PredictionsError(
        f"Row {number} of the long column {column.name} holds a float of 2^{bits} or more, which may have "
        "lost digits",
        remedy="Use Int64 for the column instead of a float type",
    )


def plain_column(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column in a plain type, which all functions of Arrow support."""
    plain = plain_type(column.type)
    if column.type == plain:
        return column
    if pa.types.is_dictionary(column.type):
        # Polars' categories are views, and a cast does not support dictionaries of views.
        chunks = [chunk.dictionary.cast(plain).take(chunk.indices) for chunk in column.chunks]
        return pa.chunked_array(chunks, plain)
    return column.cast(plain)


def _listed(series: pd.Series) -> list[Any]:
    try:
        return series.tolist()
    except OverflowError:
        # A date or time beyond the years of Python. Its text is refused just as the value would be.
        return [_value_or_text(series, place) for place in range(len(series))]


def _value_or_text(series: pd.Series, place: int) -> Any:
    try:
        return series.iloc[place]
    except OverflowError:
        return f"{series.dtype} beyond every year"


def _exact_bits(dtype: Any) -> int:
    """Return the number of bits up to which a float type represents every integer exactly.

    The type may be NumPy's, nullable, Arrow's or categorical; an object type holds Python floats.
    """
    # Categorical types are not cached, because they hold their categories.
    return _bits_of_floats(dtype.categories.dtype if isinstance(dtype, pd.CategoricalDtype) else dtype)


@cache
def _bits_of_floats(dtype: Any) -> int:
    numpy_type = getattr(dtype, "numpy_dtype", dtype)
    is_float = isinstance(numpy_type, np.dtype) and numpy_type.kind == "f"
    return int(np.finfo(numpy_type if is_float else np.float64).nmant) + 1


def _plain(value: Any) -> Any:
    """Convert a value of pandas or NumPy to a Python value; other values are returned unchanged."""
    if type(value) in _PLAIN:
        return value
    if value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, Mapping):
        return {name: _plain(member) for name, member in value.items()}
    if isinstance(value, np.ndarray) and value.ndim == 0:
        return _plain(value[()])
    if isinstance(value, list | tuple | np.ndarray | pd.Series | pd.Index):
        return [_plain(element) for element in value]
    return _numpy_scalar(value) if isinstance(value, np.generic) else value


def _numpy_scalar(value: np.generic) -> Any:
    """Return a date for units of a day or longer, a datetime for shorter units, or the plain number."""
    plain = value.item()
    if isinstance(value, np.datetime64):
        # NumPy converts times in nanoseconds to integers.
        return pd.Timestamp(value) if isinstance(plain, int) else plain
    # It does so for durations too, which have no JSON form and are kept, so that they are refused.
    return value if isinstance(value, np.timedelta64) else plain
