"""Converts the result of a function or a reader to an Arrow table.

Errors name column and row and quote no value, because values may be sensitive.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import pandas as pd
import pyarrow as pa

from prediction_batches.arrow_types import plain_type
from prediction_contract.errors import ContractError

_TABLE_TYPES = "a pandas or Polars DataFrame, an Arrow table, or another table with __arrow_c_stream__"


class ReturnedTableError(ContractError):
    """The result of a function or a reader is not a table, or not one that can be stored."""


def returned_table(result: Any, who: str) -> pa.Table:
    """Return a result as an Arrow table with columns of plain types; the result is read once.

    Args:
        result: The returned value.
        who: The function or reader, with which error messages begin: `features of churn`, `The reader
            acme.readers:Orders`.

    Raises:
        ReturnedTableError: The result is not a table, has two columns with the same name, has an index that
            would be lost, or has a column with values of several types.
    """
    table = _of_pandas(result, who) if isinstance(result, pd.DataFrame) else _of_stream(result, who)
    _refuse_duplicate_columns(table.column_names, who)
    schema = pa.schema([pa.field(field.name, plain_type(field.type)) for field in table.schema])
    try:
        return table if table.schema.equals(schema, check_metadata=True) else table.cast(schema)
    except pa.ArrowException as error:
        raise ReturnedTableError(
            f"{who} returned a table with columns that Arrow cannot store: {_types(table)}",
            remedy="Return columns of plain types",
        ) from error


def returned_frame(result: Any, who: str) -> pd.DataFrame:
    """Return the result of `predict` as a DataFrame.

    A DataFrame of pandas is returned unchanged. Other tables become DataFrames with Arrow's types. NaN, an
    invalid number, stays different from a missing value.

    Raises:
        ReturnedTableError: As in `returned_table`.
    """
    if isinstance(result, pd.DataFrame):
        _refuse_lost_index(result, who)
        _refuse_duplicate_columns(result.columns, who)
        return result
    table = returned_table(result, who)
    return table.to_pandas(types_mapper=pd.ArrowDtype, ignore_metadata=True)


def _of_stream(result: Any, who: str) -> pa.Table:
    kind = f"{type(result).__module__.split('.')[0]}.{type(result).__name__}"
    if kind == "polars.LazyFrame":
        raise ReturnedTableError(
            f"{who} returned a LazyFrame, which is not computed yet", remedy="Call collect() on it"
        )
    if not hasattr(result, "__arrow_c_stream__"):
        raise ReturnedTableError(
            f"{who} returned {_named_type(result)}, which is not a table", remedy=f"Return {_TABLE_TYPES}"
        )
    try:
        # Read the table only once, because a reader of batches is empty afterwards.
        return pa.table(result)
    except (pa.ArrowException, TypeError, ValueError) as error:
        # A single column has the same interface.
        raise ReturnedTableError(
            f"{who} returned {_named_type(result)}, which Arrow cannot read as a table: {_words(error)}",
            remedy=f"Return {_TABLE_TYPES}",
        ) from error


def _of_pandas(frame: pd.DataFrame, who: str) -> pa.Table:
    _refuse_lost_index(frame, who)
    _refuse_duplicate_columns(frame.columns, who)
    if other := [name for name in frame.columns if not isinstance(name, str)]:
        raise ReturnedTableError(
            f"{who} returned a column named {other[0]!r}, which is not a text",
            remedy="Use texts as column names, for example with frame.columns = [...]",
        )
    try:
        return pa.Table.from_pandas(frame, preserve_index=False)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        # Arrow's own message quotes the value.
        raise ReturnedTableError(
            f"{who} returned a table that Arrow cannot store: {_mixed_column(frame)}",
            remedy="Give each column values of one type",
        ) from None


def _refuse_lost_index(frame: pd.DataFrame, who: str) -> None:
    names = [name for name in frame.index.names if name is not None]
    if names:
        raise ReturnedTableError(
            f"{who} returned a DataFrame whose index is {', '.join(map(str, names))}, "
            "but the index is not kept",
            remedy="Call reset_index() on it, with drop=True if its values are not needed",
        )


def _refuse_duplicate_columns(columns: Iterable[Any], who: str) -> None:
    duplicates = [name for name, count in Counter(columns).items() if count > 1]
    if duplicates:
        raise ReturnedTableError(
            f"{who} returned column {duplicates[0]} more than once", remedy="Give each column its own name"
        )


def _mixed_column(frame: pd.DataFrame) -> str:
    """Return the first column that Arrow cannot hold, with the first row of each type in it."""
    for name in frame.columns:
        try:
            pa.Array.from_pandas(frame[name])
        except OverflowError:
            return f"column {name} holds an integer of more than 64 bits"
        except (pa.ArrowException, TypeError, ValueError):
            first: dict[str, int] = {}
            for number, (value, is_there) in enumerate(zip(frame[name], frame[name].notna(), strict=True), 1):
                if is_there:
                    first.setdefault(type(value).__name__, number)
            kinds = ", ".join(f"{kind} from row {number} on" for kind, number in first.items())
            return f"column {name} holds {kinds}"
    return "its columns have types that Arrow does not have"


def _types(table: pa.Table) -> str:
    return ", ".join(f"{field.name} {field.type}" for field in table.schema)


def _named_type(value: Any) -> str:
    if value is None:
        return "None"
    kind = type(value)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"


def _words(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
