"""Columns in every form in which a program may pass them."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa

_NAN, _INF = float("nan"), float("inf")
_WHOLE = [0, 1, -1, 100, 127]
_FLOATS = [0.0, -0.0, 1.5, 2.0, -7.0, 0.1, 1e-5, 100.25, 1e3, _NAN, _INF, -_INF]
_MOMENTS = [0, 1, -1, 1_359_698_400, 1_359_698_400_000_000]
_TEXTS = ["a", "", 'q"\n', "é𝄞", "1", "1.5", "true", "NaN", "null", "2013-02-01", "2013-02-30", "x" * 3000]
_TEXTS += ["2013-02-01T06:00:00Z", "2013-02-01T06:00:00.5+01:00", "2013-02-01T06:00:00", "0001-01-01"]
_TEXTS += ["2013-02-01T06:00:00.1234567Z", "0001-01-01T00:00:00+01:00", "\0"]
_HALF_SURROGATE = "\ud800"
_AWARE = [
    datetime(2013, 2, 1, 6, tzinfo=UTC),
    datetime(2013, 2, 1, 6, 0, 0, 5, tzinfo=timezone(timedelta(hours=-5, seconds=7, microseconds=3))),
    datetime(2013, 11, 3, 1, 30, fold=1, tzinfo=ZoneInfo("America/New_York")),
    datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=1))),
    datetime(9999, 12, 31, 23, tzinfo=timezone(timedelta(hours=-5))),
]
_NAIVE = datetime(2013, 2, 1, 6)  # noqa: DTZ001  # intended
_DECIMALS = [
    "1.50",
    "-0.00",
    "0E-7",
    "1E+2",
    "12345.67",
    "123456.7",
    "0.001",
    "1E-30",
    "99999999999999999999",
]


def objects(*values: Any) -> pd.Series:
    """Return a column of Python objects."""
    return pd.Series(list(values), dtype=object)


_OBJECTS: dict[str, pd.Series] = {
    "nothing": objects(None, None),
    "missing": objects(None, _NAN, pd.NA, pd.NaT, np.float64("nan"), np.float32("nan"), np.datetime64("NaT")),
    "texts": objects(*_TEXTS, None),
    "texts and others": objects("a", 1, None, "b", "c"),
    "half surrogates": objects("a", _HALF_SURROGATE, "b", None, "c" + _HALF_SURROGATE),
    "NumPy's texts": objects(np.str_("a"), "b", np.str_("2013-02-01")),
    "integers": objects(*_WHOLE, None, 2**53, 2**53 + 1, -(2**63), 2**63 - 1),
    "huge integers": objects(1, 2**63, -(2**63) - 1, 2**64, 10**37, 10**40, 10**5000, None),
    "NumPy's integers": objects(np.int8(-1), np.uint64(2**64 - 1), np.int64(5), 7),
    "floats": objects(*_FLOATS, None),
    "NumPy's floats": objects(np.float64(0.1), np.float32(0.1), np.float16(0.1), 0.5),
    "numbers": objects(1, 1.5, Decimal("1.5"), True, np.float64(2.0), None, "1"),
    "NumPy's values of no dimension": objects(np.array(1.5), np.array(2), 3),
    "booleans": objects(True, False, None, np.bool_(True)),
    "booleans and integers": objects(True, 1, 0),
    "decimals": objects(*map(Decimal, _DECIMALS), None, Decimal("NaN"), Decimal("sNaN"), Decimal("Infinity")),
    "exact decimals": objects(Decimal("1.5"), Decimal("-99999.99"), None),
    "days": objects(date(2013, 2, 1), date.min, date.max, None),
    "days and moments": objects(date(2013, 2, 1), _AWARE[0], _NAIVE, None),
    "NumPy's days": objects(np.datetime64("2013-02-01"), date(2013, 2, 1)),
    "moments": objects(*_AWARE, None, pd.NaT),
    "moments of pandas": objects(
        pd.Timestamp("2013-02-01T06:00Z"),
        pd.Timestamp("2013-02-01T06:00:00.000000001Z"),
        pd.Timestamp("2013-02-01T06:00:00.000001001Z"),
        pd.Timestamp("2013-02-01T06:00"),
        pd.Timestamp("2013-02-01T06:00", tz="America/New_York"),
        pd.Timestamp("2013-02-01T06:00Z").as_unit("s"),
        np.datetime64("2013-02-01T06:00"),
    ),
    "nested": objects({"a": [1, {"b": None}]}, [1, "x"], (1, 2), {"é": 1.5}, None, _NAN),
    "nested values of NumPy": objects(
        {"a": np.array([[0.1, 2.0]]), "b": np.float64(0.5), "c": np.int64(3), "d": np.bool_(True)},
        [np.float32(0.1), np.str_("x"), pd.NA, pd.NaT, np.array(5), np.array(["a"], dtype=object)],
        [pd.Series([1, 2]), pd.Index(["a"]), np.array(["2013-02-01"], dtype="datetime64[D]")],
        [date(2013, 2, 1), _AWARE[0], _NAIVE, pd.Timestamp("2013-02-01T06:00:00.000000001Z")],
    ),
    "durations": objects(None, timedelta(1)),
    "bytes": objects(b"x"),
    "names that are no texts": objects({1: 2}),
}

PANDAS: dict[str, pd.Series] = {
    **_OBJECTS,
    **{
        f"NumPy's {kind}": pd.Series(
            np.array([0, 1, 100, np.iinfo(kind).min, np.iinfo(kind).max], dtype=kind)
        )
        for kind in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
    },
    **{
        f"NumPy's {kind}": pd.Series(np.array(_FLOATS, dtype=kind))
        for kind in ("float16", "float32", "float64")
    },
    **{
        f"NumPy's whole {kind}": pd.Series(np.array([0, -0.0, 7, -2047], dtype=kind))
        for kind in ("float16", "float32", "float64")
    },
    "floats of many digits": pd.Series([1e16, 1.7e308, 5e-324, 123456789.125, 0.30000000000000004]),
    "floats beyond every long": pd.Series([1.0, 2.0**53]),
    "cents": pd.Series([0.01, 1.1, -99999.99, 100000.0, 0.015, 1e-9, 12.0]),
    "NumPy's booleans": pd.Series([True, False]),
    "NumPy's complex": pd.Series([1j]),
    "pandas' texts": pd.Series([*_TEXTS, None], dtype="str"),
    "only missing texts": pd.Series([None, None], dtype="str"),
    "Python's texts": pd.Series([*_TEXTS, None], dtype="string[python]"),
    "Arrow's texts": pd.Series([*_TEXTS, None], dtype="string[pyarrow]"),
    "nullable integers": pd.Series([1, None, 2**62 + 1], dtype="Int64"),
    "nullable unsigned integers": pd.Series([1, None, 2**64 - 1], dtype="UInt64"),
    "nullable narrow integers": pd.Series([1, None, -128], dtype="Int8"),
    "nullable floats": pd.Series(pd.array([0.5, None, 2.0], dtype="Float64")),
    "nullable narrow floats": pd.Series(pd.array([0.1, None, 3.0], dtype="Float32")),
    "nullable booleans": pd.Series([True, None, False], dtype="boolean"),
    "sparse": pd.Series(pd.arrays.SparseArray([1.0, 0.0, _NAN])),
    "periods": pd.Series(pd.period_range("2013", periods=2, freq="Y")),
    "NumPy's durations": pd.Series(pd.to_timedelta([1, None])),
    "categories of texts": pd.Series(["a", None, "2013-02-01", "a"], dtype="category"),
    "categories of floats": pd.Series([0.5, None, 2.0], dtype="category"),
    "categories of narrow floats": pd.Series(pd.Categorical(np.array([0.1, 3.0, 0.1], dtype="float32"))),
    "categories of integers": pd.Series([1, 2, None], dtype="Int64").astype("category"),
    "categories of moments": pd.Series(pd.to_datetime(["2013-02-01T06:00Z", None])).astype("category"),
    "categories of several types": pd.Series(pd.Categorical(["a", 1, None])),
    "an unused category beyond every long": pd.Series(pd.Categorical([1.0], categories=[1.0, 2.0**60])),
    **{
        f"moments in {unit} {zone}": pd.Series(
            pd.to_datetime(["2013-02-01T06:00:00", None, "1700-01-01T00:00:00"])
            .as_unit(unit)
            .tz_localize(zone)
        )
        for unit in ("s", "ms", "us", "ns")
        for zone in (None, "UTC", "America/New_York", "+01:00")
    },
    "moments with nanoseconds": pd.Series(pd.to_datetime([1, 1000, 1_500], unit="ns", utc=True)),
    "moments of far years": pd.Series(np.array([2**40, -(2**40), 0], dtype="datetime64[s]")).dt.tz_localize(
        "UTC"
    ),
}


def floats_with_nan_and_null() -> pd.Series:
    """Return nullable floats with one NaN and one null, as `predict` may compute them."""
    with pd.option_context("future.distinguish_nan_and_na", True):
        given = pd.Series([0.0, None, 1.0], dtype="Float64")
        return given / given


PANDAS["nullable floats with NaN"] = floats_with_nan_and_null()

_ARROW_FLOATS = pa.array(_FLOATS, pa.float64())
ARROW: dict[str, pa.Array] = {
    **{
        str(kind): pa.array([0, 1, 100, None], kind)
        for kind in (pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32())
    },
    "uint64": pa.array([1, None, 2**64 - 1, 2**63 - 1], pa.uint64()),
    "halffloat": pa.array(np.array([0.5, _NAN, 2.0, _INF], dtype="float16")),
    "float": pa.array([0.1, None, _NAN, 5.0, -_INF], pa.float32()),
    "double": pa.concat_arrays([_ARROW_FLOATS, pa.nulls(1, pa.float64())]),
    "null": pa.nulls(3),
    "bool": pa.array([True, None, False]),
    "decimal32": pa.array([Decimal("1.50"), None, Decimal("-0.01")], pa.decimal32(5, 2)),
    "decimal64": pa.array([Decimal("1.50"), None, Decimal(7)], pa.decimal64(15, 2)),
    "decimal128": pa.array([Decimal("1.5"), None, Decimal(7), Decimal(2**63)], pa.decimal128(38, 10)),
    "decimal128 of integers": pa.array(
        [Decimal(5), Decimal(2**63), Decimal(-(2**63)), None], pa.decimal128(38, 0)
    ),
    "decimal256": pa.array([Decimal("1.5"), Decimal(10**60), None], pa.decimal256(70, 5)),
    **{
        str(kind): pa.array([*_TEXTS, None], kind)
        for kind in (pa.string(), pa.large_string(), pa.string_view())
    },
    "dictionary of texts": pa.array(["a", None, "2013-02-01", "a"]).dictionary_encode(),
    "dictionary of views": pa.DictionaryArray.from_arrays(
        pa.array([0, None, 1], pa.uint32()), pa.array(["a", "2013-02-01"], pa.string_view())
    ),
    "dictionary of doubles": pa.array([0.5, None, _NAN, 0.5]).dictionary_encode(),
    "binary": pa.array([b"x"]),
    "date32": pa.array([date(2013, 2, 1), None, date.min, date.max]),
    "date32 of far years": pa.array([2**30, 0, -(2**30)], pa.int32()).cast(pa.date32()),
    "date64": pa.array([date(2013, 2, 1), None], pa.date64()),
    **{
        f"timestamp in {unit} {zone}": pa.array([*_MOMENTS[:4], None], pa.timestamp(unit, zone))
        for unit in ("s", "ms", "us", "ns")
        for zone in (None, "UTC", "America/New_York", "+01:00")
    },
    "timestamps of far years": pa.array([2**59, -(2**59), 0], pa.timestamp("us", "UTC")),
    "timestamps of far years in seconds": pa.array([2**40, 2**60, 0], pa.timestamp("s", "UTC")),
    "duration": pa.array([None, 5], pa.duration("us")),
    "time": pa.array([time(6)]),
    "list": pa.array([[1, None], None, []], pa.list_(pa.int64())),
    "list of doubles": pa.array([[0.1, 2.0], [_NAN]], pa.large_list(pa.float64())),
    "fixed list": pa.array([[1, 2], None], pa.list_(pa.int8(), 2)),
    "struct": pa.array([{"a": 1, "b": None}, None, {"a": 2, "b": Decimal("1.50")}]),
    "map": pa.array([[("a", 1)], None], pa.map_(pa.string(), pa.int64())),
}
