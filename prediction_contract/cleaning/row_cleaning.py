"""Turns the rows that a model wrote into those that both stores hold; the load and its checks share it."""

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

# Whitespace of ASCII, named one by one: engines differ in what a blank is.
TRIMMED = " \t\n\v\f\r"


class RowCleaning:
    """Cleans the rows of one schema; `row_parser` makes one and keeps it."""

    def __init__(self, schema: PredictionSchema, cleaning: Cleaning) -> None:
        self._written = row_contract(schema)
        self._contract = row_contract(cleaning.stored_schema(schema), is_cleaned=True)
        columns = cleaning.columns(schema)
        self._steps = [(column.source.name, column.stored.name, _steps(column)) for column in columns]
        self._decoders = [(column.source.name, file_decoder_for(column.source)) for column in columns]

    def accept(self, line: bytes) -> Row:
        """Return a line's row as the stores hold it: cleaned first, then validated.

        It stands for the checksum of the row as the model wrote it. A line that is no row as written, because
        of a NaN in a column that is left out say, stands for the checksum of its bytes, as its producer
        counts it.

        Raises:
            InvalidRowError: It cannot be cleaned, or not be stored then; its `reason` is of `row.REASONS`,
                its `checksum` what the line counts as.
        """
        try:
            row = self._written.accept(line)
        except InvalidRowError as unfit:
            with _counted_as(refused_checksum(line)) as checksum:
                return self._cleaned(self._members(line, unfit), checksum)
        with _counted_as(row.checksum) as checksum:
            return self._cleaned(parse_as_written(row.canonical), checksum)

    def _members(self, line: bytes, unfit: InvalidRowError) -> dict[str, Any]:
        """Return the members of a line that is no row as written, if the columns that stay can hold theirs.

        The warehouse cleans what Delta's column holds, and that is no other type's value.
        """
        try:
            self._written.refuse_costly(line)
            members = parse_with_constants(line)
        except (InvalidRowError, InvalidJsonError):
            raise unfit from None
        # A line that states a checksum was a row to its producer.
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
        return self._contract.accept_members(cleaned).standing_for(checksum)


@contextmanager
def _counted_as(checksum: int) -> Iterator[int]:
    try:
        yield checksum
    except InvalidRowError as error:
        error.checksum = checksum
        raise


@lru_cache(maxsize=64)
def row_parser(schema: PredictionSchema, cleaning: Cleaning) -> Callable[[bytes], Row]:
    """Return the function that turns a line as the model wrote it into a row as the stores hold it.

    It raises `InvalidRowError`, whose `checksum` is what the line counts as; None stands for its bytes'.
    """
    return RowCleaning(schema, cleaning).accept if cleaning else row_contract(schema).accept


def delta_values(schema: PredictionSchema, line: bytes) -> dict[str, Any]:
    """Return what Delta holds of a line that is no row as written: each value that its column's type holds.

    Cleaning may make a row of it, in the warehouse as elsewhere. A value of `json` is its canonical text.
    """
    return {
        column.name: text if column.type.kind is Kind.JSON else value
        for column, value, text in _held(schema, line)
    }


def values_as_written(schema: PredictionSchema, line: bytes) -> dict[str, Any]:
    """Return a line's values as `Row.values`; None also for what its column's type does not hold."""
    held = {column.name: value for column, value, _ in _held(schema, line)}
    return {column.name: held.get(column.name) for column in schema.columns}


def _held(schema: PredictionSchema, line: bytes) -> Iterator[tuple[Column, Any, str]]:
    """Yield each column whose type holds the line's value, with that and its canonical text."""
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
    # Decoded at once: what the type does not hold is refused, and not clamped into what it would.
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
