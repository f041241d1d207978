"""The rows that a model wrote, made those that both stores hold; the load and its checks share it."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from prediction_contract.canonical_json import parse_as_written
from prediction_contract.column_values import decoder_for
from prediction_contract.errors import InvalidRowError
from prediction_contract.row import row_contract
from prediction_contract.schema import Kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from prediction_contract.casts import Cast
    from prediction_contract.cleaned_column import CleanedColumn
    from prediction_contract.cleaning import Cleaning
    from prediction_contract.row import Row
    from prediction_contract.schema import Column, PredictionSchema

# Whitespace of ASCII, named one by one: engines differ in what a blank is.
TRIMMED = " \t\n\v\f\r"


class RowCleaning:
    """Cleans the rows of one schema; `row_cleaning` makes one and keeps it."""

    def __init__(self, schema: PredictionSchema, cleaning: Cleaning) -> None:
        self._contract = row_contract(cleaning.stored_schema(schema), is_cleaned=True)
        self._steps = [
            (column.source.name, column.stored.name, _steps(column)) for column in cleaning.columns(schema)
        ]

    def clean(self, row: Row) -> Row:
        """Return a row as the stores hold it, under the checksum of the row as the model wrote it.

        Raises:
            InvalidRowError: It cannot be cleaned, or not be stored then; its `reason` is of `row.REASONS`.
        """
        members = parse_as_written(row.canonical)
        cleaned: dict[str, Any] = {}
        for source, stored, steps in self._steps:
            value = members.get(source)
            for step in steps:
                value = step(value)
            if value is not None:
                cleaned[stored] = value
        return self._contract.accept_members(cleaned).standing_for(row.checksum)


@lru_cache(maxsize=64)
def row_cleaning(schema: PredictionSchema, cleaning: Cleaning) -> RowCleaning | None:
    """Return what cleans the rows of a schema, made once; None if nothing is to be cleaned."""
    return RowCleaning(schema, cleaning) if cleaning else None


def _steps(column: CleanedColumn) -> list[Callable[[Any], Any]]:
    """Return what is done to a raw value one after the other; each takes null for no value."""
    steps: list[Callable[[Any], Any]] = []
    if column.trim:
        steps.append(lambda raw: None if raw is None else raw.strip(TRIMMED))
    if column.cast is not None:
        steps.append(_cast_step(replace(column.source, type=column.stored.type), column.cast))
    if column.default is not None:
        steps.append(lambda raw: column.default if raw is None else raw)
    if column.minimum is not None or column.maximum is not None:
        steps.append(_clamp_step(column))
    return steps


def _cast_step(column: Column, cast: Cast) -> Callable[[Any], Any]:
    # Judged at once: what does not fit is refused, and not clamped into what would.
    decode, target = decoder_for(column), column.type

    def step(raw: Any) -> Any:
        if raw is None:
            return None
        try:
            found = cast.value(raw, target)
        except ValueError as error:
            what = f"{column.name} cannot be cast to {target}: it is {error}"
            raise InvalidRowError("wrong_type", what, column=column.name) from error
        decode(found)
        return found

    return step


def _clamp_step(column: CleanedColumn) -> Callable[[Any], Any]:
    # A double is compared as such, as the warehouse does: its spelling may lie on the bound's other side.
    number = float if column.stored.type.kind is Kind.DOUBLE else Decimal
    minimum, maximum = column.minimum, column.maximum
    low = None if minimum is None else number(minimum)
    high = None if maximum is None else number(maximum)

    def step(raw: Any) -> Any:
        if raw is None:
            return None
        found: Any = number(raw)
        if low is not None and found < low:
            return minimum
        return maximum if high is not None and found > high else raw

    return step
