"""Turns the rows that a model wrote into the rows that both stores hold, for the load and its checks."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import replace
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from prediction_contract.errors import InvalidRowError
from prediction_contract.rows.checksums import refused_checksum
from prediction_contract.rows.column_values import file_decoder_for
from prediction_contract.rows.row_contract import row_contract
from prediction_contract.rows.schema import Kind
from prediction_contract.text.canonical_json import InvalidJsonError, parse_as_written, parse_with_constants

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prediction_contract.cleaning.casts import Cast
    from prediction_contract.cleaning.cleaning_rules import Cleaning
    from prediction_contract.cleaning.column_cleaning import CleanedColumn
    from prediction_contract.rows.row_contract import Row
    from prediction_contract.rows.schema import Column, PredictionSchema

# ASCII whitespace. The characters are listed because engines differ in what they trim.
TRIMMED = " \t\n\v\f\r"


class RowCleaning:
    """Cleans the rows of one schema. Use `row_parser`, which caches it."""

    def __init__(self, schema: PredictionSchema, cleaning: Cleaning) -> None:
        self._written = row_contract(schema)
        self._contract = row_contract(cleaning.stored_schema(schema), is_cleaned=True)
        columns = cleaning.columns(schema)
        self._steps = [(column.source.name, column.stored.name, _steps(column)) for column in columns]
        self._decoders = [(column.source.name, file_decoder_for(column.source)) for column in columns]

    def accept(self, line: bytes) -> Row:
        """Clean and validate a line, and return the row that the stores hold.

        The row's `checksum` is that of the row as the model wrote it. If the line is valid only after
        cleaning, for example because a dropped column has NaN, it is `refused_checksum(line)`, which the
        producer counted.

        Raises:
            InvalidRowError: The line cannot be cleaned, or the cleaned row cannot be stored. The error's
                `reason` is one of `row_contract.REASONS`; its `checksum` is the one that the row would have.
        """
        try:
            row = self._written.accept(line)
        except InvalidRowError as unfit:
            with _keep_checksum(refused_checksum(line)) as checksum:
                return self._cleaned(self._members(line, unfit), checksum)
        with _keep_checksum(row.checksum) as checksum:
            return self._cleaned(parse_as_written(row.canonical), checksum)

    def _members(self, line: bytes, unfit: InvalidRowError) -> dict[str, Any]:
        """Return the members of a line that is not a row as written, if each kept column can hold its value.

        Otherwise the row is refused, because Delta and thus the warehouse do not have the value.
        """
        try:
            self._written.refuse_costly(line)
            members = parse_with_constants(line)
        except (InvalidRowError, InvalidJsonError):
            raise unfit from None
        # A line with a checksum counted as a row for its producer, so its fault remains.
        if type(members) is not dict or members.keys() - set(self._written.schema.names):
            raise unfit
        for name, decode in self._decoders:
            if members.get(name) is not None:
                decode(members[name])
        return members

    def _cleaned(self, members: dict[str, Any], checksum: int) -> Row:
        cleaned: dict[str, Any] = {}
        for source, stored, steps in self._steps:
            value = members.get(source)
            for step in steps:
                value = step(value)
            if value is not None:
                cleaned[stored] = value
        return self._contract.accept_members(cleaned).mark_cleaned_from(checksum)


@contextmanager
def _keep_checksum(checksum: int) -> Iterator[int]:
    try:
        yield checksum
    except InvalidRowError as error:
        error.checksum = checksum
        raise


@lru_cache(maxsize=64)
def row_parser(schema: PredictionSchema, cleaning: Cleaning) -> Callable[[bytes], Row]:
    """Return the function that turns a line from the model into the stored row.

    The function raises `InvalidRowError`. Its `checksum` is the line's share of the batch checksum; None
    stands for `refused_checksum(line)`.
    """
    return RowCleaning(schema, cleaning).accept if cleaning else row_contract(schema).accept


def delta_values(schema: PredictionSchema, line: bytes) -> dict[str, Any]:
    """Return the values that Delta holds for a line that the schema refuses: those that fit their columns.

    Cleaning may still turn the line into a valid row. A `json` value is its canonical text.
    """
    return {
        column.name: text if column.type.kind is Kind.JSON else value
        for column, value, text in _held(schema, line)
    }


def values_as_written(schema: PredictionSchema, line: bytes) -> dict[str, Any]:
    """Return a line's values in the form of `Row.values`, with None if a value does not fit its column."""
    held = {column.name: value for column, value, _ in _held(schema, line)}
    return {column.name: held.get(column.name) for column in schema.columns}


def _held(schema: PredictionSchema, line: bytes) -> Iterator[tuple[Column, Any, str]]:
    """Yield each column that can hold its value, with the value and its canonical text."""
    try:
        row_contract(schema).refuse_costly(line)
        members = parse_with_constants(line)
    except (InvalidRowError, InvalidJsonError):
        return
    if type(members) is not dict:
        return
    for column in schema.columns:
        raw = members.get(column.name)
        if raw is None:
            continue
        with suppress(InvalidRowError, UnicodeEncodeError):
            value, text = file_decoder_for(column)(raw)
            text.encode()
            yield column, value, text


def _steps(column: CleanedColumn) -> list[Callable[[Any], Any]]:
    """Return the steps that clean a raw value, in order. Each accepts None for no value."""
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
    # Decoded before clamping, so that a value outside the type's range is refused and not clamped.
    decode, target = file_decoder_for(column), column.type

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
    # A double is compared as a double, as in the warehouse. Its text may be on the other side of the bound.
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
