"""Cleaning in the warehouse: what a load selects from the staged rows so that the table gets cleaned ones.

The expressions say what `cleaning.RowCleaning` does in Python. A load reads rows back and compares them with
Python's, so a difference stops it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prediction_contract.cleaning.row_cleaning import TRIMMED
from prediction_contract.rows.column_values import decoder_for
from prediction_contract.rows.schema import Kind
from prediction_contract.stores.warehouse_table import quoted

if TYPE_CHECKING:
    from prediction_contract.cleaning.cleaned_column import CleanedColumn
    from prediction_contract.cleaning.cleaning_rules import Cleaning
    from prediction_contract.rows.schema import Column, PredictionSchema

_BLANKS = " || ".join(f"CHR({ord(blank)})" for blank in TRIMMED)
_ENDS = f"'^[' || {_BLANKS} || ']+|[' || {_BLANKS} || ']+$'"


def selected_columns(schema: PredictionSchema, cleaning: Cleaning, alias: str) -> list[str]:
    """Return the expressions of the stored columns over the staged ones, in the stored columns' order.

    Args:
        schema: The schema of the staged rows.
        cleaning: The rules.
        alias: What the staged rows' table is called in the statement.
    """
    return [
        _expression(column, f"{alias}.{quoted(column.source.name)}") for column in cleaning.columns(schema)
    ]


def _expression(column: CleanedColumn, value: str) -> str:
    if column.trim:
        # Not TRIM with characters, which the local stand-in leaves out.
        value = f"REGEXP_REPLACE({value}, {_ENDS}, '')"
    if column.cast is not None:
        value = column.cast.sql(value, column.stored.type)
    if column.default is not None:
        value = f"COALESCE({value}, {_literal(column.default, column.stored)})"
    bounds = [
        f"WHEN {value} {sign} {_literal(bound, column.stored)} THEN {_literal(bound, column.stored)}"
        for sign, bound in (("<", column.minimum), (">", column.maximum))
        if bound is not None
    ]
    # Not LEAST and GREATEST, in which a null counts differently from engine to engine.
    return f"CASE {' '.join(bounds)} ELSE {value} END" if bounds else value


def _literal(raw: Any, column: Column) -> str:
    """Return a raw JSON value that the column's decoder takes as a literal of the column's type."""
    value, text = decoder_for(column)(raw)
    kind = column.type.kind
    if kind is Kind.STRING:
        escaped = value.replace("\\", "\\\\").replace("'", "''")
        return f"'{escaped}'"
    if kind is Kind.TIMESTAMP:
        text = text.replace("Z", "")
    return f"'{text.strip(chr(34))}'::{column.type.snowflake}"
