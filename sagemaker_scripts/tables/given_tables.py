"""Converts Arrow tables for a model's functions: to pandas, Polars or unchanged.

In pandas, every integer and boolean column has a nullable type, whether or not a value is missing. Otherwise
a column's type would depend on its data, and pandas would round integers beyond 2^53 in a column with a null.
For the same reason, lists and structs have integers and None. Floats are `float64` with NaN for a missing
value. Other columns are as in PyArrow's `to_pandas`.
"""

from __future__ import annotations

from typing import Any

import pandas as pd
import pyarrow as pa

from prediction_contract.errors import ContractError

_NULLABLE = {
    pa.int8(): pd.Int8Dtype(),
    pa.int16(): pd.Int16Dtype(),
    pa.int32(): pd.Int32Dtype(),
    pa.int64(): pd.Int64Dtype(),
    pa.uint8(): pd.UInt8Dtype(),
    pa.uint16(): pd.UInt16Dtype(),
    pa.uint32(): pd.UInt32Dtype(),
    pa.uint64(): pd.UInt64Dtype(),
    pa.bool_(): pd.BooleanDtype(),
}


class TablesError(ContractError):
    """The declared kind of tables is not available for a model's functions."""


def given_table(table: pa.Table, tables: str) -> Any:
    """Return a table in the form that a model's functions receive.

    Args:
        table: The rows.
        tables: `pandas`, `polars` or `arrow`.

    Raises:
        TablesError: Polars is not installed, or `tables` is another value.
    """
    if tables == "arrow":
        return table
    if tables == "polars":
        return _polars().from_arrow(table)
    if tables == "pandas":
        return pandas_table(table)
    raise TablesError(
        f"The model declares tables: {tables}, which is unknown",
        remedy="Declare pandas, polars or arrow",
    )


def pandas_table(table: pa.Table) -> pd.DataFrame:
    """Return a table as a DataFrame with nullable integers and booleans, and a plain index."""
    # Without this option, integers in lists and structs with a null would become floats.
    return table.to_pandas(types_mapper=_NULLABLE.get, ignore_metadata=True, integer_object_nulls=True)


def _polars() -> Any:
    try:
        # The package is installed only for models that declare it.
        import polars as pl  # noqa: PLC0415
    except ImportError as error:
        raise TablesError(
            "The model declares tables: polars, but the job's environment has no Polars",
            remedy="Add polars to the .in file of the model's requirements, run `mlpipe lock`, "
            "and start the job again",
        ) from error
    return pl
