"""Encodes rows column by column: equal to the byte to what `prediction_line` says of each row.

Columns are spelled whole, and rows are joined of their texts. A row goes through `prediction_line` itself if
any of its columns is not sure. So there is one judge of rows, and columns decide nothing but speed.
"""

# PyArrow makes its compute functions while it is imported, where no type checker sees them.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from json.encoder import encode_basestring
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from prediction_batches.arrow_types import arrow_type
from prediction_batches.errors import PredictionsError
from prediction_batches.rows.column_texts import column_texts, either, mask_of
from prediction_batches.rows.encoded_rows import EncodedRows, Refusal
from prediction_batches.rows.given_rows import GivenColumn, GivenRows, plain_column, python_values
from prediction_batches.rows.json_texts import json_texts
from prediction_batches.rows.typed_columns import typed_column
from prediction_contract.cleaning.row_cleaning import delta_values
from prediction_contract.rows.canonical_lines import QUOTES
from prediction_contract.rows.prediction_line import PredictionLine, prediction_line
from prediction_contract.rows.row_contract import CHECKSUM_MEMBER, SURELY_SMALL, row_contract
from prediction_contract.rows.schema import Column, Kind, PredictionSchema

_LOG = logging.getLogger(__name__)
# Of lines, about: the columns of a piece take some times as much while it is encoded.
PIECE_BYTES = 16_000_000
# The first piece of rows whose size only their encoding tells.
_FIRST_ROWS = 1000
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
        names = sorted(schema.names)
        places = {name: place for place, name in enumerate(schema.names)}
        self._order = [places[name] for name in names]
        self._key = names.index(schema.key)
        self._text_places = {name: place for place, name in enumerate(names)}
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
            count = min(len(rows) - first, max(PIECE_BYTES // row_bytes, 1))

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
        odd: np.ndarray | None = None
        for column, encoded in zip(self._schema.columns, columns, strict=True):
            odd = either(odd, encoded.odd)
            if not column.nullable and encoded.texts.null_count:
                odd = either(odd, mask_of(encoded.texts.is_null()))
        canonical = self._joined([columns[place].texts for place in self._order])
        sizes = pc.binary_length(canonical)
        if len(rows) and pc.max(sizes).as_py() > SURELY_SMALL:
            odd = either(odd, mask_of(pc.greater(sizes, SURELY_SMALL)))
        checksums = _checksums(canonical)
        lines = _stated(canonical, checksums)
        stored = [encoded.stored for encoded in columns]
        refusals: dict[int, Refusal] = {}
        if odd is not None and odd.any():
            places = np.flatnonzero(odd)
            self._warn(len(places))
            written = self._written(rows, places)
            checksums[places] = [line.checksum for line in written]
            mask = pa.array(odd)
            contents = pa.array([line.content for line in written], lines.type)
            lines = pc.replace_with_mask(lines, mask, contents)
            refusals = {
                place: Refusal(line.refusal, str(line.fault))
                for place, line in zip(places.tolist(), written, strict=True)
                if line.refusal is not None
            }
            held = [self._held(line) for line in written]
            stored = [
                pc.replace_with_mask(
                    array, mask, pa.array([values.get(column.name) for values in held], array.type)
                )
                for column, array in zip(self._schema.columns, stored, strict=True)
            ]
        return EncodedRows(
            lines, checksums, refusals, pa.RecordBatch.from_arrays(stored, schema=self._arrow_schema)
        )

    def stored_checksums(self, columns: pa.RecordBatch) -> np.ndarray:
        """Return the checksums of rows that are read back; that of a row that was refused is another.

        Args:
            columns: As `EncodedRows.columns`.
        """
        texts = [
            values
            if column.type.kind is Kind.JSON
            else column_texts(column, values, is_key=column.name == self._schema.key).texts
            for column, values in zip(self._schema.columns, columns.columns, strict=True)
        ]
        return _checksums(self._joined([texts[place] for place in self._order]))

    def _column(self, column: Column, given: GivenColumn, first: int) -> _Encoded:
        if isinstance(given, pa.ChunkedArray):
            _refuse_invalid(column, given)
        if column.type.kind is Kind.JSON:
            return _json_column(given)
        values, unknown = typed_column(column, given, first)
        texts, odd = column_texts(column, values, is_key=column.name == self._schema.key)
        if column.type.kind is Kind.DOUBLE:
            # Minus zero is zero.
            values = pc.add(values, 0.0)
        return _Encoded(values, texts, either(unknown, odd))

    def _joined(self, texts: list[pa.Array]) -> pa.Array:
        """Return the rows' canonical JSON.

        The key always has a value. So commas stand after what comes before it and before what comes after it,
        and a column without value leaves nothing behind.
        """
        arguments: list[Any] = []
        constant = "{"
        for place, (number, values) in enumerate(zip(self._order, texts, strict=True)):
            column = self._schema.columns[number]
            quote = QUOTES.get(column.type.kind, "")
            before = f"{',' if place > self._key else ''}{encode_basestring(column.name)}:{quote}"
            after = f"{quote}{',' if place < self._key else ''}"
            if place == self._key:
                # Rows without a key are odd.
                arguments += [constant + before, pc.fill_null(values, "") if values.null_count else values]
                constant = after
            elif values.null_count:
                member = pc.binary_join_element_wise(before, values, after, "")
                arguments += [constant, pc.fill_null(member, "")]
                constant = ""
            else:
                arguments += [constant + before, values]
                constant = after
        return pc.binary_join_element_wise(*arguments, f"{constant}}}", "")

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


def _checksums(canonical: pa.Array) -> np.ndarray:
    """Return what `row_checksum` says of each text."""
    # Copying an empty state takes less time than making one by its name and size.
    begin = hashlib.blake2b(digest_size=8).copy
    digests: list[bytes] = []
    keep = digests.append
    for content in canonical.cast(pa.binary()).to_pylist():
        state = begin()
        state.update(content)
        keep(state.digest())
    return np.frombuffer(b"".join(digests), ">i8").astype(np.int64)


def _stated(canonical: pa.Array, checksums: np.ndarray) -> pa.Array:
    """Return canonical rows as lines that state their checksums."""
    opened = pc.binary_slice(canonical.cast(pa.binary()), 0, -1)
    stated = pc.cast(pa.array(checksums), pa.string()).cast(pa.binary())
    member = f',"{CHECKSUM_MEMBER}":'.encode()
    return pc.binary_join_element_wise(opened, pa.scalar(member), stated, pa.scalar(b"}\n"), pa.scalar(b""))
