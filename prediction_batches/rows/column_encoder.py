"""Encodes rows column by column: equal to the byte to what `prediction_line` says of each row.

Columns are spelled whole, and rows are joined of their texts. A row goes through `prediction_line` itself if
any of its columns is not sure. So there is one judge of rows, and columns decide nothing but speed.
"""

# PyArrow makes its compute functions while it is imported, where no type checker sees them.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from prediction_batches.arrow_types import arrow_type
from prediction_batches.errors import PredictionsError
from prediction_batches.rows.canonical_rows import CanonicalRows, checksums_of, stated_lines
from prediction_batches.rows.column_texts import ColumnTexts, column_texts, either, mask_of
from prediction_batches.rows.encoded_rows import EncodedRows, Refusal
from prediction_batches.rows.given_rows import (
    GivenColumn,
    GivenRows,
    arrow_column,
    plain_column,
    python_values,
)
from prediction_batches.rows.json_texts import json_texts
from prediction_batches.rows.typed_columns import typed_column
from prediction_contract.cleaning.row_cleaning import delta_values
from prediction_contract.errors import InvalidRowError
from prediction_contract.rows.prediction_line import PredictionLine, prediction_line
from prediction_contract.rows.row_contract import SURELY_SMALL, row_contract
from prediction_contract.rows.schema import Column, Kind, PredictionSchema
from prediction_contract.text.canonical_json import number_text

_LOG = logging.getLogger(__name__)
# Of lines, about: the columns of a piece take some times as much while it is encoded.
PIECE_BYTES = 16_000_000
# The first piece of rows whose size only their encoding tells.
_FIRST_ROWS = 1000
# Those after them may be larger, so a piece has at most so many times the rows of the one before.
_GROWTH = 4
_FIRST_WARNING = 10_000


class _Encoded(NamedTuple):
    """A column in all forms.

    Attributes:
        stored: As Delta holds it.
        texts: In canonical JSON without quotation marks, null where there is no value.
        odd: Which rows the column is not sure of; None if there is none.
    """

    stored: pa.Array
    texts: pa.Array
    odd: np.ndarray | None


class ColumnEncoder:
    """Encodes rows of one schema.

    Args:
        schema: The model's schema.
    """

    def __init__(self, schema: PredictionSchema) -> None:
        self._schema = schema
        self._contract = row_contract(schema)
        self._rows = CanonicalRows(schema)
        self._text_places = {name: place for place, name in enumerate(self._contract.column_names)}
        self._arrow_schema = pa.schema([(column.name, arrow_type(column.type)) for column in schema.columns])
        self._odd_rows = 0
        self._warning = _FIRST_WARNING

    def pieces(self, rows: GivenRows) -> Iterator[EncodedRows]:
        """Yield the rows in pieces of some `PIECE_BYTES` of lines.

        Raises:
            PredictionsError: As `encode`.
        """
        first, count = 0, min(len(rows), _FIRST_ROWS)
        while count:
            encoded = self.encode(rows.slice(first, count))
            yield encoded
            first += count
            row_bytes = max(encoded.lines.nbytes // count, 1)
            fitting = min(max(PIECE_BYTES // row_bytes, 1), count * _GROWTH)
            count = min(len(rows) - first, fitting)

    def encode(self, rows: GivenRows) -> EncodedRows:
        """Return all forms of rows.

        Args:
            rows: As many as memory holds a few times; `pieces` divides any number.

        Raises:
            PredictionsError: A value is of a type that JSON does not know, or a `long` may have lost digits.
                The message names column and row, and quotes no value.
        """
        columns = [
            self._column(column, given, rows.first)
            for column, given in zip(self._schema.columns, rows.columns, strict=True)
        ]
        canonical = self._rows.joined([each.texts for each in columns])
        odd = self._odd([each.texts for each in columns], [each.odd for each in columns], canonical)
        checksums = checksums_of(canonical)
        stored = pa.RecordBatch.from_arrays([each.stored for each in columns], schema=self._arrow_schema)
        encoded = EncodedRows(stated_lines(canonical, checksums), checksums, {}, stored)
        return encoded if odd is None or not odd.any() else self._corrected(encoded, rows, odd)

    def accepted(self, columns: pa.RecordBatch, checksums: np.ndarray) -> np.ndarray:
        """Return which rows that are read back are rows, and have the checksums that stand beside them.

        A refused row may have its checksum as well: that of its line, which may be spelled as a row would be.

        Args:
            columns: As `EncodedRows.columns`.
            checksums: As `EncodedRows.checksums`.
        """
        texts = [
            ColumnTexts(values)
            if column.type.kind is Kind.JSON
            else column_texts(column, values, is_key=column.name == self._schema.key)
            for column, values in zip(self._schema.columns, columns.columns, strict=True)
        ]
        canonical = self._rows.joined([each.texts for each in texts])
        found = checksums_of(canonical) == checksums
        odd = self._odd([each.texts for each in texts], [each.odd for each in texts], canonical)
        for place in () if odd is None else np.flatnonzero(odd & found).tolist():
            found[place] = self._is_row(canonical[place].as_py().encode())
        return found

    def _is_row(self, canonical: bytes) -> bool:
        try:
            self._contract.accept(canonical)
        except InvalidRowError:
            return False
        return True

    def _column(self, column: Column, given: GivenColumn, first: int) -> _Encoded:
        if isinstance(given, pa.ChunkedArray):
            _refuse_invalid(column, given)
        elif isinstance(given.dtype, pd.StringDtype) and given.dtype.storage == "pyarrow":
            _refuse_invalid(column, arrow_column(given))
        if column.type.kind is Kind.JSON:
            return _json_column(given)
        values, unknown = typed_column(column, given, first)
        texts, odd = column_texts(column, values, is_key=column.name == self._schema.key)
        if column.type.kind is Kind.DOUBLE:
            # Minus zero is zero.
            values = pc.add(values, 0.0)
        return _Encoded(values, texts, either(unknown, odd))

    def _odd(
        self, texts: Sequence[pa.Array], odd_of_columns: Iterable[np.ndarray | None], canonical: pa.Array
    ) -> np.ndarray | None:
        """Return which rows are not surely rows; None if there is none."""
        odd: np.ndarray | None = None
        for column, values, unsure in zip(self._schema.columns, texts, odd_of_columns, strict=True):
            odd = either(odd, unsure)
            if not column.nullable and values.null_count:
                odd = either(odd, mask_of(values.is_null()))
        sizes = pc.binary_length(canonical)
        if len(sizes) and pc.max(sizes).as_py() > SURELY_SMALL:
            odd = either(odd, mask_of(pc.greater(sizes, SURELY_SMALL)))
        return odd

    def _corrected(self, encoded: EncodedRows, rows: GivenRows, odd: np.ndarray) -> EncodedRows:
        """Return rows with what `prediction_line` says of the odd ones."""
        places = np.flatnonzero(odd)
        self._warn(len(places))
        written = self._written(rows, places)
        checksums = encoded.checksums.copy()
        checksums[places] = [line.checksum for line in written]
        mask = pa.array(odd)
        contents = pa.array([line.content for line in written], encoded.lines.type)
        refusals = {
            place: Refusal(line.refusal, str(line.fault))
            for place, line in zip(places.tolist(), written, strict=True)
            if line.refusal is not None
        }
        held = [self._held(line) for line in written]
        stored = [
            pc.replace_with_mask(array, mask, _stored([values.get(name) for values in held], array.type))
            for name, array in zip(self._schema.names, encoded.columns.columns, strict=True)
        ]
        return EncodedRows(
            pc.replace_with_mask(encoded.lines, mask, contents),
            checksums,
            refusals,
            pa.RecordBatch.from_arrays(stored, schema=self._arrow_schema),
        )

    def _written(self, rows: GivenRows, places: np.ndarray) -> list[PredictionLine]:
        """Return the lines of some rows by themselves."""
        numbers = [rows.first + place + 1 for place in places.tolist()]
        values = [
            python_values(_taken(given, places), column, numbers)
            for column, given in zip(self._schema.columns, rows.columns, strict=True)
        ]
        lines = []
        for number, row in zip(numbers, zip(*values, strict=True), strict=True):
            try:
                lines.append(prediction_line(self._contract, dict(zip(self._schema.names, row, strict=True))))
            except TypeError as error:
                raise PredictionsError(
                    f"Row {number} of the predictions cannot be written. {error}",
                    remedy="Convert it to a plain Python value",
                ) from error
        return lines

    def _held(self, line: PredictionLine) -> dict[str, Any]:
        """Return what Delta holds of a line."""
        if line.row is None:
            return delta_values(self._schema, line.content)
        values = dict(line.row.values)
        for column in self._schema.columns:
            if column.type.kind is Kind.JSON:
                values[column.name] = line.row.texts[self._text_places[column.name]]
        return values

    def _warn(self, count: int) -> None:
        self._odd_rows += count
        if self._odd_rows >= self._warning:
            self._warning = self._odd_rows * 10
            _LOG.warning(
                "%d rows so far were encoded one by one, which takes ten times as long: "
                "they are refused, or a column is not in its own type",
                self._odd_rows,
            )


def _stored(values: list[Any], wanted: pa.DataType) -> pa.Array:
    """Return values that fit their type in Arrow, which takes no decimal of 40 zeros after the point."""
    if pa.types.is_decimal(wanted):
        values = [None if value is None else Decimal(number_text(value)) for value in values]
    return pa.array(values, wanted)


def _refuse_invalid(column: Column, given: pa.ChunkedArray) -> None:
    """Refuse text that is not UTF-8 and the like: Arrow itself takes over what libraries hand it."""
    try:
        given.validate(full=True)
    except pa.ArrowInvalid:
        # Arrow's own words may quote a value.
        raise PredictionsError(
            f"The column {column.name} of the predictions is no valid Arrow",
            remedy="Find out which library made it; texts that are not UTF-8 are such a fault",
        ) from None


def _json_column(given: GivenColumn) -> _Encoded:
    try:
        values = given.to_pylist() if isinstance(given, pa.ChunkedArray) else given.tolist()
    except (OverflowError, ValueError):
        # Days or moments that no year of Python has are among them.
        return _Encoded(
            pa.nulls(len(given), pa.string()), pa.nulls(len(given), pa.string()), np.ones(len(given), bool)
        )
    found, places = json_texts(values)
    texts = pa.array(found, pa.string())
    if not places:
        return _Encoded(texts, texts, None)
    odd = np.zeros(len(texts), bool)
    odd[places] = True
    return _Encoded(texts, texts, odd)


def _taken(given: GivenColumn, places: np.ndarray) -> pd.Series | pa.ChunkedArray:
    # Of views nothing can be taken.
    return (
        plain_column(given).take(pa.array(places))
        if isinstance(given, pa.ChunkedArray)
        else given.iloc[places]
    )
