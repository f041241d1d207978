"""Encodes rows column by column; every row is byte for byte the result of `prediction_line`.

Whole columns are converted to texts, and the texts are joined to rows. If any value of a row is not certainly
valid, the row is odd, and `prediction_line` encodes or refuses it. So columns only make encoding faster.
"""

# PyArrow creates its compute functions when it is imported, where no type checker sees them.
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
from prediction_batches.rows.canonical_rows import CanonicalRows, checksums_of, lines_with_checksums
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
# The approximate bytes of lines in a piece. Its columns take several times as much during encoding.
PIECE_BYTES = 16_000_000
# The rows of the first piece; the size of its lines is known only after encoding.
_FIRST_ROWS = 1000
# Later rows may be larger, so a piece has at most this multiple of the previous piece's rows.
_GROWTH = 4
_FIRST_WARNING = 10_000


class _Encoded(NamedTuple):
    """A column in all its forms.

    Attributes:
        stored: The values for Delta.
        texts: The canonical JSON without quotation marks; null where there is no value.
        odd: The mask of rows whose value is not certainly valid; None if there are none.
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
        """Yield the rows in pieces with about `PIECE_BYTES` of lines.

        Raises:
            PredictionsError: As in `encode`.
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
        """Return rows in all forms that a batch stores.

        Args:
            rows: Few enough to fit into memory several times; `pieces` divides any number of rows.

        Raises:
            PredictionsError: A value's type has no JSON form, or a `long` may have lost digits. The message
                names column and row, and quotes no value.
        """
        columns = [
            self._column(column, given, rows.first)
            for column, given in zip(self._schema.columns, rows.columns, strict=True)
        ]
        canonical = self._rows.joined([each.texts for each in columns])
        odd = self._odd([each.texts for each in columns], [each.odd for each in columns], canonical)
        checksums = checksums_of(canonical)
        stored = pa.RecordBatch.from_arrays([each.stored for each in columns], schema=self._arrow_schema)
        encoded = EncodedRows(lines_with_checksums(canonical, checksums), checksums, {}, stored)
        return encoded if odd is None or not odd.any() else self._corrected(encoded, rows, odd)

    def accepted(self, columns: pa.RecordBatch, checksums: np.ndarray) -> np.ndarray:
        """Return a mask of the stored rows that are valid and match their stored checksums.

        A matching checksum is not enough: a refused row has the checksum of its line, which may match too.

        Args:
            columns: As in `EncodedRows.columns`.
            checksums: As in `EncodedRows.checksums`.
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
            # Store minus zero as zero.
            values = pc.add(values, 0.0)
        return _Encoded(values, texts, either(unknown, odd))

    def _odd(
        self, texts: Sequence[pa.Array], odd_of_columns: Iterable[np.ndarray | None], canonical: pa.Array
    ) -> np.ndarray | None:
        """Return the mask of rows that are not certainly valid; None if there are none."""
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
        """Return the rows with the odd ones replaced by the results of `prediction_line`."""
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
        """Encode the rows at these places one by one."""
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
                    f"Row {number} of the predictions cannot be written: {error}",
                    remedy="Convert it to a plain Python value",
                ) from error
        return lines

    def _held(self, line: PredictionLine) -> dict[str, Any]:
        """Return the values of a line for Delta."""
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
                "they are invalid, or a column does not have its declared type",
                self._odd_rows,
            )


def _stored(values: list[Any], wanted: pa.DataType) -> pa.Array:
    """Return the values as an Arrow array; Arrow refuses decimals with 40 zeros after the point."""
    if pa.types.is_decimal(wanted):
        values = [None if value is None else Decimal(number_text(value)) for value in values]
    return pa.array(values, wanted)


def _refuse_invalid(column: Column, given: pa.ChunkedArray) -> None:
    """Refuse invalid data, such as text that is not UTF-8; Arrow does not check what libraries pass to it."""
    try:
        given.validate(full=True)
    except pa.ArrowInvalid:
        # Arrow's own message may quote a value.
        raise PredictionsError(
            f"Column {column.name} of the predictions is not valid Arrow data",
            remedy="Check the library that made it, for example for texts that are not UTF-8",
        ) from None


def _json_column(given: GivenColumn) -> _Encoded:
    try:
        values = given.to_pylist() if isinstance(given, pa.ChunkedArray) else given.tolist()
    except (OverflowError, ValueError):
        # Some dates or times are beyond the years of Python.
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
    # Arrow cannot take rows from views, so they are made plain first.
    return (
        plain_column(given).take(pa.array(places))
        if isinstance(given, pa.ChunkedArray)
        else given.iloc[places]
    )
