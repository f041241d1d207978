"""DataFrames of a model's rows: the schema alone decides the type of each column, never the values in it.

| column type  | in a DataFrame         | no value |
|--------------|------------------------|----------|
| string       | str                    | NaN      |
| long         | Int64                  | NA       |
| decimal(p,s) | decimal128(p,s), Arrow | NA       |
| double       | Float64                | NA       |
| boolean      | boolean                | NA       |
| date         | date32, Arrow          | NA       |
| timestamp    | datetime64[us, UTC]    | NaT      |
| json         | Python values, object  | None     |

These are pandas' own types wherever one holds every value and a null beside them, because features have the
same types and mix with them. pandas has none for decimals and dates, so these are Arrow's. A plain `float64`
has no null, and a plain `int64` becomes one as soon as a value is missing: that rounds integers beyond 2^53.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isnan
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from prediction_contract.canonical_json import InvalidJsonError, parse_json
from prediction_contract.errors import ContractError, SchemaError
from prediction_contract.row import Row
from prediction_contract.schema import Column, ColumnType, Kind, PredictionSchema
from sagemaker_scripts.object_store import ObjectStore

_ARROW_TYPES = {
    Kind.STRING: pa.string(),
    Kind.LONG: pa.int64(),
    Kind.DOUBLE: pa.float64(),
    Kind.BOOLEAN: pa.bool_(),
    Kind.DATE: pa.date32(),
    Kind.TIMESTAMP: pa.timestamp("us", tz="UTC"),
    Kind.JSON: pa.string(),
}
# Of the other types Arrow's own stand in a DataFrame.
_PANDAS_TYPES = {
    Kind.STRING: pd.StringDtype(na_value=np.nan),
    Kind.LONG: pd.Int64Dtype(),
    Kind.DOUBLE: pd.Float64Dtype(),
    Kind.BOOLEAN: pd.BooleanDtype(),
    Kind.TIMESTAMP: pd.DatetimeTZDtype("us", "UTC"),
}
# From here on a binary float no longer tells one integer from the next.
_INEXACT_INTEGERS = 2.0**53
_PLAIN = frozenset({type(None), bool, int, float, str, pd.Timestamp})


class PredictionsError(ContractError):
    """What a model's `predict` returned is not what the model's schema declares."""


def read_schema(store: ObjectStore, key: str) -> PredictionSchema:
    """Return the predictions' schema of a JSON document on S3.

    Raises:
        ObjectMissingError: There is no document.
        SchemaError: It is no schema.
    """
    try:
        return PredictionSchema.from_document(parse_json(store.get(key)))
    except InvalidJsonError as error:
        raise SchemaError(
            f"{key} is not JSON: {error.what}", remedy="Write the schema there again"
        ) from error


def arrow_type(column_type: ColumnType) -> pa.DataType:
    """Return the Arrow type of a column; of `json`, whose values Arrow holds as text, string."""
    if column_type.kind is Kind.DECIMAL:
        return pa.decimal128(column_type.precision, column_type.scale)
    return _ARROW_TYPES[column_type.kind]


def schema_frame(schema: PredictionSchema, rows: Sequence[Row]) -> pd.DataFrame:
    """Return rows as a DataFrame of the schema's columns, in its order."""
    values = [row.values for row in rows]
    return pd.DataFrame(
        {column.name: _series(column, [row[column.name] for row in values]) for column in schema.columns}
    )


def _series(column: Column, values: list[Any]) -> pd.Series:
    if column.type.kind is Kind.JSON:
        return pd.Series(values, dtype=object)
    array = pa.array(values, type=arrow_type(column.type))
    dtype = _PANDAS_TYPES.get(column.type.kind) or pd.ArrowDtype(array.type)
    return pd.Series(dtype.__from_arrow__(array))


def python_values(values: pd.Series, column: Column) -> list[Any]:
    """Return what a column of predictions holds as plain Python values, None where there is no value.

    Missing is None, NA and NaT, at any depth of a `json` value too. NaN is missing as well, except in a
    `double` or `decimal` column, where it is a number that went wrong.

    Raises:
        PredictionsError: A `long` came as a float so large that it may have lost digits.
    """
    plain = [_plain(value) for value in values.tolist()]
    kind = column.type.kind
    if kind in {Kind.DOUBLE, Kind.DECIMAL}:
        return plain
    if kind is Kind.LONG:
        for value in plain:
            if isinstance(value, float) and abs(value) >= _INEXACT_INTEGERS:
                raise PredictionsError(
                    f"predict returned {value!r} for {column.name}, a long: a float of 2^53 or more may have "
                    "lost digits",
                    remedy="Keep the column in Int64 instead of float64",
                )
    return [None if isinstance(value, float) and isnan(value) else value for value in plain]


def _plain(value: Any) -> Any:
    """Return a value of pandas or NumPy as Python's own; what it does not know it returns as it is."""
    if type(value) in _PLAIN:
        return value
    if value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, Mapping):
        return {name: _plain(member) for name, member in value.items()}
    if isinstance(value, list | tuple | np.ndarray | pd.Series | pd.Index):
        return [_plain(element) for element in value]
    return _numpy_scalar(value) if isinstance(value, np.generic) else value


def _numpy_scalar(value: np.generic) -> Any:
    """Return a date for units of a day and longer, a datetime for shorter ones, else the plain number."""
    plain = value.item()
    if isinstance(value, np.datetime64):
        # NumPy makes an integer of a moment in nanoseconds.
        return pd.Timestamp(value) if isinstance(plain, int) else plain
    # And of such a duration, which has no JSON.
    return value if isinstance(value, np.timedelta64) else plain
