"""The canonical text of each value of a column, as `rows/column_values.py` of the contract writes it.

Arrow's casts write most values. Python writes the values for which a cast may differ from the contract.
Values that may not be storable are odd: `prediction_line` decides about their rows.
"""

# PyArrow creates its compute functions when it is imported, where no type checker sees them.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Callable
from json.encoder import encode_basestring
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prediction_contract.limits import DOUBLE_BEYOND_LARGEST, MAX_PARTITION_KEY_BYTES, SMALLEST_DOUBLE
from prediction_contract.rows.schema import Column, Kind
from prediction_contract.text.canonical_json import number_text

# Arrow's cast of a double writes the same digits as `repr`. The notation is the same only between these
# bounds, except for the `.0` of whole numbers.
PLAIN_DOUBLE, PLAIN_DOUBLE_BELOW = 1e-4, 1e10
# Years 1 to 9999, in microseconds and in days.
_FIRST_TIMESTAMP, _LAST_TIMESTAMP = -62_135_596_800_000_000, 253_402_300_799_999_999
_FIRST_DAY, _LAST_DAY = -719_162, 2_932_896
# Arrow writes a decimal with an exponent where Python's `str` does, which is never the case up to this scale.
_PLAIN_SCALE = 6
_SPACE, _QUOTE, _BACKSLASH = 32, 34, 92
# Times in UTC are cast without their zone, because a cast that looks up a zone takes 30 times as long.
_NAIVE = pa.timestamp("us")


class ColumnTexts(NamedTuple):
    """A column's values in canonical JSON, without their quotation marks.

    Attributes:
        texts: The texts; null where there is no value.
        odd: The mask of rows whose value may not be storable; None if there are none.
    """

    texts: pa.Array
    odd: np.ndarray | None = None


def column_texts(column: Column, values: pa.Array, *, is_key: bool) -> ColumnTexts:
    """Return the texts of a column's values.

    Args:
        column: A column of any type except `json`.
        values: The values in the column's Arrow type.
        is_key: Whether this column is the schema's key.
    """
    if column.type.kind is Kind.STRING:
        return _key_texts(values) if is_key else _string_texts(values)
    return _SPELLERS[column.type.kind](values)


def mask_of(mask: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Return an Arrow mask as a NumPy mask; null becomes false."""
    return np.asarray(pc.fill_null(mask, fill_value=False).to_numpy(zero_copy_only=False), dtype=bool)


def either(one: np.ndarray | None, other: np.ndarray | None) -> np.ndarray | None:
    """Return the union of two masks; None is an empty mask."""
    if one is None or other is None:
        return one if other is None else other
    return one | other


def _if_any(mask: np.ndarray) -> np.ndarray | None:
    return mask if mask.any() else None


def _patched(texts: pa.Array, mask: np.ndarray, replacements: list[str]) -> pa.Array:
    return pc.replace_with_mask(texts, pa.array(mask), pa.array(replacements, texts.type))


def _value_bytes(texts: pa.Array) -> np.ndarray:
    """Return the bytes of all texts as one vector."""
    _, offsets, data = texts.buffers()
    if data is None:
        return np.empty(0, np.uint8)
    width = np.int64 if pa.types.is_large_string(texts.type) else np.int32
    ends = np.frombuffer(offsets, width)[texts.offset : texts.offset + len(texts) + 1]
    return np.frombuffer(data, np.uint8)[ends[0] : ends[-1]]


def _string_texts(values: pa.Array) -> ColumnTexts:
    found = _value_bytes(values)
    # Bytes of non-ASCII characters are higher than these. U+007F needs no escape.
    if not ((found < _SPACE) | (found == _QUOTE) | (found == _BACKSLASH)).any():
        return ColumnTexts(values)
    mask = mask_of(pc.match_substring_regex(values, r'["\\\x00-\x1f]'))
    special = values.filter(pa.array(mask)).to_pylist()
    texts = _patched(values, mask, [encode_basestring(text)[1:-1] for text in special])
    odd = np.zeros(len(values), bool)
    odd[mask] = ["\0" in text for text in special]
    return ColumnTexts(texts, _if_any(odd))


def _key_texts(values: pa.Array) -> ColumnTexts:
    texts, odd = _string_texts(values)
    length = pc.binary_length(values)
    refused = mask_of(pc.or_(pc.equal(length, 0), pc.greater(length, MAX_PARTITION_KEY_BYTES)))
    return ColumnTexts(texts, either(odd, _if_any(refused)))


def _long_texts(values: pa.Array) -> ColumnTexts:
    return ColumnTexts(pc.cast(values, pa.string()))


def double_texts(values: pa.Array) -> ColumnTexts:
    """Return the texts of doubles; NaN, infinities and numbers beyond DynamoDB's range are odd."""
    texts = pc.cast(values, pa.string())
    # Nulls become a plain number, so that nothing is done to them.
    numbers = (values.fill_null(1.0) if values.null_count else values).to_numpy(zero_copy_only=False)
    size = np.abs(numbers)
    is_plain = (size >= PLAIN_DOUBLE) & (size < PLAIN_DOUBLE_BELOW)
    # The other numbers, including NaN and infinities, are excluded.
    is_whole = is_plain & (np.floor(numbers, where=is_plain, out=np.zeros_like(numbers)) == numbers)
    if is_whole.any():
        texts = pc.if_else(pa.array(is_whole), pc.binary_join_element_wise(texts, ".0", ""), texts)
    if is_plain.all():
        return ColumnTexts(texts)
    is_zero = size == 0
    is_held = is_zero | ((size >= SMALLEST_DOUBLE) & (size < DOUBLE_BEYOND_LARGEST))
    again = is_held & ~is_plain
    # Adding 0.0 turns minus zero into zero.
    spelled = [float.__repr__(number + 0.0) for number in numbers[again].tolist()]
    return ColumnTexts(_patched(texts, again, spelled), _if_any(~is_held))


def _decimal_texts(values: pa.Array) -> ColumnTexts:
    texts = pc.cast(values, pa.string())
    if values.type.scale == 0:
        return ColumnTexts(texts)
    canonical = pc.ascii_rtrim(pc.ascii_rtrim(texts, "0"), ".")
    if values.type.scale > _PLAIN_SCALE:
        mask = mask_of(pc.match_substring(texts, "E"))
        if mask.any():
            exact = values.filter(pa.array(mask)).to_pylist()
            canonical = _patched(canonical, mask, [number_text(number) for number in exact])
    return ColumnTexts(canonical)


def _boolean_texts(values: pa.Array) -> ColumnTexts:
    return ColumnTexts(pc.if_else(values, "true", "false"))


def _date_texts(values: pa.Array) -> ColumnTexts:
    days = values.view(pa.int32()).fill_null(0).to_numpy(zero_copy_only=False)
    odd = _if_any((days < _FIRST_DAY) | (days > _LAST_DAY))
    if odd is not None:
        values = pc.if_else(pa.array(odd), pa.scalar(None, values.type), values)
    return ColumnTexts(pc.cast(values, pa.string()), odd)


def _timestamp_texts(values: pa.Array) -> ColumnTexts:
    naive = values.cast(_NAIVE)
    moments = naive.view(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
    odd = _if_any((moments < _FIRST_TIMESTAMP) | (moments > _LAST_TIMESTAMP))
    if odd is not None:
        naive = pc.if_else(pa.array(odd), pa.scalar(None, naive.type), naive)
    spaced = pc.cast(naive, pa.string())
    return ColumnTexts(
        pc.binary_join_element_wise(pc.binary_replace_slice(spaced, 10, 11, "T"), "Z", ""), odd
    )


_SPELLERS: dict[Kind, Callable[[pa.Array], ColumnTexts]] = {
    Kind.LONG: _long_texts,
    Kind.DOUBLE: double_texts,
    Kind.DECIMAL: _decimal_texts,
    Kind.BOOLEAN: _boolean_texts,
    Kind.DATE: _date_texts,
    Kind.TIMESTAMP: _timestamp_texts,
}
