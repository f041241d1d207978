"""Tests of Arrow's number formatting, on which the encoder relies, and of the encoder's additions."""

from __future__ import annotations

import random
import struct
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from prediction_batches.arrow_types import arrow_type
from prediction_batches.rows.column_texts import PLAIN_DOUBLE, PLAIN_DOUBLE_BELOW, column_texts, double_texts
from prediction_contract.errors import InvalidRowError
from prediction_contract.rows.column_values import decoder_for
from prediction_contract.rows.schema import Column, ColumnType
from prediction_contract.text.canonical_json import NumberText


def test_arrow_and_python_format_doubles_alike() -> None:
    """Within the bounds Arrow formats doubles like Python, apart from the `.0` of whole numbers."""
    rng = np.random.default_rng(5)
    exponents = rng.uniform(np.log10(PLAIN_DOUBLE), np.log10(PLAIN_DOUBLE_BELOW), 100_000)
    numbers = 10**exponents * rng.choice([-1, 1], 100_000)
    edges = [PLAIN_DOUBLE, np.nextafter(PLAIN_DOUBLE_BELOW, 0), 0.1 + 0.2, 5e-4, 123456789.0, 9_999_999_999.5]
    numbers = np.concatenate([numbers, np.round(numbers), np.round(numbers, 2), edges])
    numbers = numbers[(np.abs(numbers) >= PLAIN_DOUBLE) & (np.abs(numbers) < PLAIN_DOUBLE_BELOW)]
    texts = pc.cast(pa.array(numbers), pa.string()).to_pylist()
    assert [text if "." in text else f"{text}.0" for text in texts] == list(map(repr, numbers.tolist()))


def test_doubles_are_formatted_by_the_contract() -> None:
    """Random doubles and all powers of two and ten with their neighbours get the contract's text."""
    rng = random.Random(6)
    numbers = [struct.unpack("d", rng.randbytes(8))[0] for _ in range(50_000)]
    powers = [float(f"1e{power}") for power in range(-323, 309)] + [
        2.0**power for power in range(-1074, 1024)
    ]
    for power in powers:
        numbers += [power, -power, np.nextafter(power, 0.0).item(), np.nextafter(power, np.inf).item()]
    numbers += [0.0, -0.0, float("nan"), float("inf"), float("-inf")]
    decode = decoder_for(Column("n", ColumnType.parse("double")))
    found = double_texts(pa.array(numbers, pa.float64(), from_pandas=False))
    assert found.odd is not None
    for number, text, is_odd in zip(numbers, found.texts.to_pylist(), found.odd.tolist(), strict=True):
        try:
            want = decode(NumberText(repr(number)))[1] if np.isfinite(number) else None
        except InvalidRowError:
            want = None
        assert is_odd == (want is None), number
        assert is_odd or text == want


@pytest.mark.parametrize(
    "kind", ["decimal(38,38)", "decimal(38,10)", "decimal(9,7)", "decimal(9,6)", "decimal(7,2)"]
)
def test_decimals_are_formatted_by_the_contract(kind: str) -> None:
    """Decimals with digits at every place, even where Arrow writes exponents, get the contract's text."""
    column = Column("n", ColumnType.parse(kind))
    precision, scale = column.type.precision, column.type.scale
    numbers = [
        Decimal((sign, tuple(map(int, str(digits * 10**power)[:precision])), -scale))
        for sign in (0, 1)
        for digits in (0, 1, 9, 10, 12, 10**precision - 1)
        for power in range(precision)
    ]
    decode = decoder_for(column)
    found = column_texts(column, pa.array(numbers, arrow_type(column.type)), is_key=False)
    assert found.odd is None
    assert found.texts.to_pylist() == [decode(NumberText(str(number)))[1] for number in numbers]
