"""Random values of every column type, with a share of difficult ones."""

from __future__ import annotations

import random
import struct
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from prediction_contract.rows.schema import Column, Kind

_TEXTS = ["", "a", "\0", 'q"', "\\", "\n\r\t\b\f", "\x01\x1f", "\x7f\x80", "ä€", "𝄞", "\u2028", "/", "%s"]
_TEXTS += ["x" * 600, "x" * 2048, "x" * 2049, "é" * 1024, "é" * 1025, "NaN", "null", "2013-02-01"]
_DOUBLES = [0.0, -0.0, 1.0, -1.0, 0.1, 1e-5, 9.999e-5, 1e-4, 1e9, 123456789012.0, 9999999999.5, 1e10, 1e15]
_DOUBLES += [9999999999999998.0, 1e16, 1e21, 1e22, 2.0**53, 5e-324, 9.9e-131, 1e-130, 9.99e125, 1e126]
_DOUBLES += [1.7976931348623157e308, 2.2250738585072014e-308]
_NO_NUMBERS = [float("nan"), float("inf"), float("-inf")]
_LONGS = [0, -1, 2**53 + 1, 2**63 - 1, -(2**63), 10**18]
_MOMENTS = [
    datetime.min.replace(tzinfo=UTC),
    datetime.max.replace(tzinfo=UTC),
    datetime(1970, 1, 1, tzinfo=UTC),
    datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    datetime(2013, 2, 1, 5, tzinfo=UTC),
]
_DAYS = [date.min, date.max, date(1970, 1, 1), date(1969, 12, 31), date(2012, 2, 29)]
_FIRST = datetime(2000, 1, 1, tzinfo=UTC)
_NESTED: list[Any] = [[], {}, "", "\0", {"b": 1, "a": [None, True, Decimal("1.50"), 1e300, 0.1]}, {"": 1}]
_NESTED += [10**40, Decimal("1E-7"), Decimal("NaN"), 'ä"', [[1]], {"k": "\ud800"}, {"\ud800": 1}, 0, -0.0]
_NESTED += [12345678901234567890, (1.0, 2), [float("inf")], [float("nan")], float("nan"), 1e16, 1e-7, 1e126]
_NESTED += [
    {"x" * 70_000: 1},
    "null",
    {"a\0": 1},
    10**37,
    Decimal("1E+100"),
    Decimal("-0.000"),
    5e-324,
    False,
]


def random_values(column: Column, rows: int, rng: random.Random, *, ugly: float, null: float) -> list[Any]:
    """Return random values of a column, with the given shares of difficult values and nulls."""
    pick = _PICKS[column.type.kind]
    return [None if rng.random() < null else pick(column, rng, rng.random() < ugly) for _ in range(rows)]


def nested_lists(levels: int) -> Any:
    """Return a list that is nested to the given depth."""
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


_NESTED += [nested_lists(levels) for levels in (30, 31, 32, 33, 40)]


def _string(_: Column, rng: random.Random, is_ugly: bool) -> str:
    return rng.choice(_TEXTS) if is_ugly else f"e-{rng.randrange(10**9)}"


def _long(_: Column, rng: random.Random, is_ugly: bool) -> int:
    return rng.choice(_LONGS) if is_ugly else rng.randrange(-(10**6), 10**6)


def _double(_: Column, rng: random.Random, is_ugly: bool) -> float:
    if is_ugly:
        return rng.choice(_DOUBLES + _NO_NUMBERS)
    kind = rng.random()
    if kind < 0.1:
        return struct.unpack("d", rng.randbytes(8))[0]
    if kind < 0.4:
        return rng.random() * 10 ** rng.randrange(-8, 18)
    return rng.random() if kind < 0.9 else float(rng.randrange(-1000, 1000))


def _decimal(column: Column, rng: random.Random, is_ugly: bool) -> Decimal:
    precision, scale = column.type.precision, column.type.scale
    if is_ugly:
        return Decimal(rng.choice(["0", "-0", str(10**precision - 1)])).scaleb(-scale)
    digits = rng.randrange(precision + 1)
    unscaled = rng.randrange(10**digits)
    return Decimal((rng.randrange(2), tuple(map(int, str(unscaled))), -scale))


def _boolean(_: Column, rng: random.Random, _is_ugly: bool) -> bool:
    return rng.random() < 0.5


def _date(_: Column, rng: random.Random, is_ugly: bool) -> date:
    return rng.choice(_DAYS) if is_ugly else date.fromordinal(rng.randrange(700_000, 760_000))


def _timestamp(_: Column, rng: random.Random, is_ugly: bool) -> datetime:
    if is_ugly:
        return rng.choice(_MOMENTS)
    whole = timedelta(seconds=rng.randrange(10**9))
    return _FIRST + whole + timedelta(microseconds=rng.randrange(10**6) if rng.random() < 0.5 else 0)


def _json(_: Column, rng: random.Random, is_ugly: bool) -> Any:
    if is_ugly:
        return rng.choice(_NESTED)
    return {"n": rng.randrange(100), "a": [rng.randrange(9) / 4, "t"], "é": None}


_PICKS: dict[Kind, Any] = {
    Kind.STRING: _string,
    Kind.LONG: _long,
    Kind.DOUBLE: _double,
    Kind.DECIMAL: _decimal,
    Kind.BOOLEAN: _boolean,
    Kind.DATE: _date,
    Kind.TIMESTAMP: _timestamp,
    Kind.JSON: _json,
}
