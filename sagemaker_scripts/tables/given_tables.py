"""What a model's functions are given: an Arrow table as pandas, Polars or itself.

In pandas every integer and boolean column has a nullable type, whether or not a value is missing: the types
of a column depend on its data alone otherwise, and pandas rounds integers beyond 2^53 beside a null. In lists
and structs integers stand beside None for the same reason. Floats are `float64`, where a missing value is
NaN. The other columns are as PyArrow's `to_pandas` gives them.
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
    """A model's functions cannot be given the tables that its declaration asks for."""


def given_table(table: pa.Table, tables: str) -> Any:
    """Return a table as a model's functions receive it.

    Args:
        table: The rows.
        tables: `pandas`, `polars` or `arrow`.

    Raises:
        TablesError: The environment has no Polars, or `tables` is none of these.
    """
    if tables == "arrow":
        return table
    if tables == "polars":
        return _polars().from_arrow(table)
    if tables == "pandas":
        return pandas_table(table)
    raise TablesError(
        f"A model's functions cannot be given tables of {tables!r}",
        remedy="Declare tables as pandas, polars or arrow",
    )


def pandas_table(table: pa.Table) -> pd.DataFrame:
    """Return a table as a DataFrame with nullable integers and booleans, and a plain index."""
    # Integers in lists and structs would become floats beside a null.
    return table.to_pandas(types_mapper=_NULLABLE.get, ignore_metadata=True, integer_object_nulls=True)


def _polars() -> Any:
    try:
        # Only the environments of models that ask for it have the package.
        import polars as pl  # noqa: PLC0415
    except ImportError as error:
        raise TablesError(
            "The model declares tables: polars, and the environment of the job has no Polars",
            remedy="Add polars to the .in file of the model's requirements, run `mlpipe lock`, "
            "and start the job again",
        ) from error
    return pl
