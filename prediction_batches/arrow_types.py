"""The Arrow type of each column type, and the plain form of other Arrow types."""

from __future__ import annotations

import pyarrow as pa

from prediction_contract.rows.schema import ColumnType, Kind

_ARROW_TYPES = {
    Kind.STRING: pa.string(),
    Kind.LONG: pa.int64(),
    Kind.DOUBLE: pa.float64(),
    Kind.BOOLEAN: pa.bool_(),
    Kind.DATE: pa.date32(),
    Kind.TIMESTAMP: pa.timestamp("us", tz="UTC"),
    Kind.JSON: pa.string(),
}

# Arrow does not detect an overflow while it changes the scale of a number. This type holds every number of 38
# digits at any scale.
ANY_DECIMAL = pa.decimal256(76, 38)


def arrow_type(column_type: ColumnType) -> pa.DataType:
    """Return the Arrow type of a column. The type of `json` is string."""
    if column_type.kind is Kind.DECIMAL:
        return pa.decimal128(column_type.precision, column_type.scale)
    return _ARROW_TYPES[column_type.kind]


def plain_type(given: pa.DataType) -> pa.DataType:
    """Return the plain type for the same values, which all libraries and Parquet read in the same way.

    Views and dictionaries, which Polars and DuckDB create from plain columns, become plain types again.
    """
    plain = given
    if pa.types.is_dictionary(given):
        plain = plain_type(given.value_type)
    elif is_any_string(given):
        plain = pa.large_string()
    elif pa.types.is_binary_view(given):
        plain = pa.large_binary()
    elif pa.types.is_map(given):
        plain = pa.map_(plain_type(given.key_type), plain_type(given.item_type))
    elif pa.types.is_fixed_size_list(given):
        plain = pa.list_(plain_type(given.value_type), given.list_size)
    elif is_any_list(given):
        plain = pa.large_list(plain_type(given.value_type))
    elif pa.types.is_struct(given):
        plain = pa.struct([field.with_type(plain_type(field.type)) for field in given])
    return plain


def is_any_string(given: pa.DataType) -> bool:
    """Tell whether a type is text in one of Arrow's forms."""
    return pa.types.is_string(given) or pa.types.is_large_string(given) or pa.types.is_string_view(given)


def is_any_list(given: pa.DataType) -> bool:
    """Tell whether a type is a list in one of Arrow's forms."""
    return any(
        test(given)
        for test in (
            pa.types.is_list,
            pa.types.is_large_list,
            pa.types.is_list_view,
            pa.types.is_large_list_view,
            pa.types.is_fixed_size_list,
        )
    )
