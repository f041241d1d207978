"""Tests of how single values are encoded: every type, missing values, and values that no store holds."""

from __future__ import annotations

import json
import logging
import math
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from prediction_batches.errors import PredictionsError
from prediction_batches.rows.column_encoder import ColumnEncoder
from prediction_batches.rows.given_rows import given_rows
from prediction_contract.rows.row_contract import Row, row_contract
from prediction_contract.stores.delta_table import arrow_columns
from tests.batches.rows.row_reference import check_equal, encoded, schema_of

if TYPE_CHECKING:
    from prediction_batches.rows.encoded_rows import EncodedRows, Refusal

TYPES = {
    "key": "string",
    "words": "string",
    "count": "long",
    "exact": "decimal(38,6)",
    "share": "double",
    "flag": "boolean",
    "day": "date",
    "moment": "timestamp",
    "nested": "json",
}
SCHEMA = schema_of(TYPES, "key")
FULL: dict[str, Any] = {
    "key": "AA-1",
    "words": "Zürich ✈",
    "count": 2**62 + 1,
    "exact": Decimal("12345678901234567890123456789012.123456"),
    "share": 0.1,
    "flag": True,
    "day": date(2013, 2, 1),
    "moment": datetime(2013, 2, 1, 6, 30, tzinfo=UTC),
    "nested": {"b": [1, None, Decimal("0.10")], "a": "x"},
}


def frame(*rows: dict[str, Any]) -> pd.DataFrame:
    """Return rows as a DataFrame with unconverted values."""
    return pd.DataFrame({name: pd.Series([row[name] for row in rows], dtype=object) for name in TYPES})


def accepted(found: EncodedRows, place: int = 0) -> Row:
    """Return the row that a load reads from a line."""
    assert place not in found.refusals
    row = row_contract(SCHEMA).accept(found.lines[place].as_py())
    assert row.checksum == found.checksums[place]
    return row


def refusal(values: dict[str, Any]) -> Refusal:
    """Return why a row with these values, and otherwise plain ones, is refused."""
    found = encoded(SCHEMA, frame(FULL | values))
    check_equal(SCHEMA, frame(FULL | values))
    return found.refusals[0]


def test_json_and_delta_hold_the_same_rows() -> None:
    """Every type reaches JSON and Delta without loss and with the same checksum."""
    found = encoded(SCHEMA, frame(FULL, dict.fromkeys(TYPES) | {"key": "AA-2"}))
    spelled = {field.name: str(field.type).replace(", 6", ",6") for field in found.columns.schema}
    names = {"batch_id", "row_checksum"}
    assert spelled == {
        name: "date32[day]" if kind == "date32" else kind
        for name, kind in arrow_columns(SCHEMA).items()
        if name not in names
    }
    for place, stored in enumerate(found.columns.to_pylist()):
        row = accepted(found, place)
        nested = stored.pop("nested")
        assert (None if nested is None else json.loads(nested, parse_float=Decimal)) == row.values["nested"]
        assert stored == {name: value for name, value in row.values.items() if name != "nested"}


def test_pandas_missing_values_become_null() -> None:
    """None, NaN, NaT and NA become null in columns that are neither double nor decimal."""
    missing = dict.fromkeys(TYPES) | {"key": "AA-1"}
    missing |= {"words": float("nan"), "count": float("nan"), "flag": pd.NA, "moment": pd.NaT, "share": pd.NA}
    missing |= {"nested": float("nan")}
    found = encoded(SCHEMA, frame(missing))
    assert json.loads(found.lines[0].as_py()) == {"key": "AA-1", "row_checksum": accepted(found).checksum}
    assert found.columns.to_pylist() == [dict.fromkeys(TYPES) | {"key": "AA-1"}]


@pytest.mark.parametrize(
    "wrong", [{"share": np.float64("nan")}, {"exact": Decimal("NaN")}, {"share": math.inf}]
)
def test_nan_and_infinity_are_not_treated_as_missing(wrong: dict[str, Any]) -> None:
    """NaN or infinity in a double or decimal refuses the row, which Delta keeps with a null there."""
    assert refusal(wrong).reason == "not_a_number"
    (stored,) = encoded(SCHEMA, frame(FULL | wrong)).columns.to_pylist()
    assert {name for name, value in stored.items() if value is None} == set(wrong)


def test_delta_keeps_storable_values_of_refused_rows() -> None:
    """Delta keeps the values of a refused row that its columns can hold, for a later cleaning."""
    found = encoded(SCHEMA, frame(FULL, FULL | {"share": 1e-131}, FULL | {"share": math.nan}))
    assert [refused.reason for refused in found.refusals.values()] == ["number_too_long", "not_a_number"]
    assert found.columns["share"].to_pylist() == [0.1, 1e-131, None]
    assert found.columns["key"].to_pylist() == ["AA-1"] * 3


def test_numpy_values_are_written_as_python_values() -> None:
    """NumPy scalars and arrays are written as the Python values they hold, to the last digit."""
    values = {
        "key": np.str_("A"),
        "count": np.int64(2**63 - 1),
        "share": np.float64(0.1),
        "flag": np.bool_(True),
        "day": np.datetime64("2013-02-01"),
        "nested": {"weights": np.array([[0.1, 2.0]])},
    }
    assert accepted(encoded(SCHEMA, frame(dict.fromkeys(TYPES) | values))) == row_contract(SCHEMA).accept(
        b'{"key":"A","count":9223372036854775807,"share":0.1,"flag":true,"day":"2013-02-01",'
        b'"nested":{"weights":[[0.1,2]]}}'
    )
    assert refusal({"share": np.array([0.5, 0.25])}).reason == "wrong_type"
    assert accepted(encoded(SCHEMA, frame(FULL | {"share": np.array(0.5)}))).values["share"] == 0.5


@pytest.mark.parametrize("missing", [None, pd.NaT, pd.NA, np.datetime64("NaT")])
def test_missing_values_inside_json_become_null(missing: object) -> None:
    """Missing values inside JSON become null at any depth, never text."""
    nested = {"seen_at": missing, "each": [missing, {"at": missing}]}
    row = accepted(encoded(SCHEMA, frame(FULL | {"nested": nested})))
    assert row.values["nested"] == {"seen_at": None, "each": [None, {"at": None}]}


def test_timestamps_inside_json_have_one_format() -> None:
    """Equal timestamps get the same text inside JSON, whatever their type, unit and zone."""
    aware = [
        datetime(2013, 2, 1, 6, tzinfo=timezone(timedelta(hours=1))),
        pd.Timestamp("2013-02-01T05:00Z"),
        pd.Timestamp("2013-02-01T00:00", tz="America/New_York").as_unit("ns"),
    ]
    naive = [np.datetime64("2013-02-01T05:00", unit) for unit in ("m", "s", "ms", "us", "ns")]
    spelled = {
        "aware": [*aware, *pd.Series(aware[1:2])],
        "naive": [*naive, datetime(2013, 2, 1, 5), *np.array(naive), pd.Series(naive)],  # noqa: DTZ001  # intended
    }
    found = accepted(encoded(SCHEMA, frame(FULL | {"nested": spelled}))).values["nested"]
    assert set(found["aware"]) == {"2013-02-01T05:00:00.000000Z"}
    assert {*found["naive"][:-1], *found["naive"][-1]} == {"2013-02-01T05:00:00.000000"}


@pytest.mark.parametrize(
    "wrong",
    [
        pd.Timestamp("2013-02-01T05:00:00.000000001Z"),
        datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=1))),
        datetime(2013, 2, 1, 5),  # noqa: DTZ001  # intended
    ],
)
def test_unstorable_timestamp_is_refused(wrong: object) -> None:
    """Timestamps with nanoseconds, without a zone or before the year 1 in UTC refuse only their row."""
    assert refusal({"moment": wrong}).reason == "wrong_type"


def test_float_too_large_for_exact_long_is_refused() -> None:
    """A float of 2^53 or more in a long column fails the batch, since it may have lost digits."""
    assert accepted(encoded(SCHEMA, frame(FULL | {"count": 2.0**53 - 1}))).values["count"] == 2**53 - 1
    with pytest.raises(PredictionsError) as raised:
        encoded(SCHEMA, frame(FULL, FULL | {"count": float(1234567890123456789)}))
    assert str(raised.value) == (
        "Row 2 of the long column count holds a float of 2^53 or more, which may have lost digits. "
        "Use Int64 for the column instead of a float type."
    )


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    ("values", "bits"),
    [
        (lambda number: np.array([number], dtype="float16"), 11),
        (lambda number: np.array([number], dtype="float32"), 24),
        (lambda number: np.array([number], dtype="float64"), 53),
        (lambda number: pd.array([number], dtype="Float32"), 24),
        (lambda number: pd.array([number], dtype="Float64"), 53),
        (lambda number: pd.array([number], dtype="float[pyarrow]"), 24),
        (lambda number: pd.Categorical(np.array([number], dtype="float32")), 24),
        (lambda number: pd.Series([np.float16(number)], dtype=object), 11),
        (lambda number: pd.Series([np.float32(number)], dtype=object), 24),
        (lambda number: pd.Series([np.array(number, dtype="float32"), 0], dtype=object)[:1], 24),
    ],
)
def test_float_limit_for_longs_depends_on_width(values: Any, bits: int, sign: int) -> None:
    """The limit for floats in long columns follows the width of the column's or the value's type."""
    found = encoded(SCHEMA, frame(FULL).assign(count=values(sign * (2.0**bits - 1))))
    assert accepted(found).values["count"] == sign * (2**bits - 1)
    with pytest.raises(
        PredictionsError, match=rf"Row 1 of the long column count holds a float of 2\^{bits} or more"
    ):
        encoded(SCHEMA, frame(FULL).assign(count=values(sign * 2.0**bits)))


@pytest.mark.parametrize("wrong", [float("inf"), float("-inf"), np.float32("inf")])
def test_infinite_long_refuses_only_its_row(wrong: float) -> None:
    """An infinite value in a long column refuses its row, not the batch."""
    found = encoded(SCHEMA, frame(FULL | {"count": wrong}, FULL | {"key": "AA-2"}))
    assert {place: refused.reason for place, refused in found.refusals.items()} == {0: "not_a_number"}


@pytest.mark.parametrize(
    ("value", "what"),
    [
        ({"secret"}, "a set, which JSON cannot express"),
        ([pd.Timedelta(1)], "a Timedelta, which JSON cannot express"),
        ([np.timedelta64(5, "ns")], "a timedelta64, which JSON cannot express"),
        ([{"a": {7: "secret"}}], "a mapping with a key of type int, and JSON has only strings as keys"),
        ({np.int64(7): 1}, "a mapping with a key of type int64, and JSON has only strings as keys"),
    ],
)
def test_value_not_expressible_in_json_is_refused(value: object, what: str) -> None:
    """The error for a value that JSON cannot express names column and row and does not quote the value."""
    with pytest.raises(PredictionsError) as raised:
        encoded(SCHEMA, frame(FULL, FULL | {"nested": value}))
    assert str(raised.value) == (
        f"Row 2 of the predictions cannot be written: column nested holds {what}. "
        "Convert it to a plain Python value."
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda rows: rows.drop(columns="flag"),
        lambda rows: rows.assign(more=1),
        lambda rows: pd.concat([rows, rows["flag"]], axis=1),
        lambda rows: rows.rename(columns={"flag": 7}),
    ],
)
def test_columns_other_than_the_schema_are_refused(change: Any) -> None:
    """A missing, additional, doubled or wrongly named column fails the batch."""
    with pytest.raises(
        PredictionsError, match=r"The predictions have the columns .*, but the schema declares"
    ):
        given_rows(SCHEMA, change(frame(FULL)))


@pytest.mark.parametrize("result", [None, [1], pa.array([1]), pd.Series([1])])
def test_result_that_is_not_a_table_is_refused(result: object) -> None:
    """A result that is not a table is refused, even a single Arrow or pandas column."""
    with pytest.raises(PredictionsError, match="which is not a table"):
        given_rows(SCHEMA, result)


def test_tables_of_any_library_are_accepted() -> None:
    """Polars frames and Arrow tables, batches and readers give the same lines as one table."""
    schema = schema_of({"key": "string", "share": "double"}, "key")
    rows = {"share": [0.5, None], "key": ["a", "a text of more than twelve bytes"]}
    want = encoded(schema, pa.table(rows)).lines.to_pylist()
    table = pa.concat_tables([pa.table(rows).slice(0, 1), pa.table(rows).slice(1)])
    (batch,) = pa.table(rows).to_batches()
    for given in (pl.DataFrame(rows), table, batch, pa.table(rows).to_reader()):
        assert encoded(schema, given).lines.to_pylist() == want


@pytest.mark.parametrize("kind", ["string", "json"])
def test_text_that_is_not_utf_8_is_refused(kind: str) -> None:
    """Text that is not UTF-8 is refused, since Arrow does not check it and the load would refuse its line."""
    schema = schema_of({"key": "string", "words": kind}, "key")
    offsets = pa.py_buffer(np.array([0, 1, 2], np.int32))
    words = pa.Array.from_buffers(pa.string(), 2, [None, offsets, pa.py_buffer(b"a\xff")])
    texts = pd.Series(pd.arrays.ArrowStringArray(pa.chunked_array([words])))
    assert texts.dtype == "string"
    for given in (
        pa.table({"key": ["a", "b"], "words": words}),
        pd.DataFrame({"key": ["a", "b"], "words": texts}),
    ):
        with pytest.raises(
            PredictionsError, match=r"^Column words of the predictions is not valid Arrow data"
        ):
            encoded(schema, given)


def test_trailing_zeros_of_decimals_do_not_count() -> None:
    """Decimals may have more trailing zeros than Arrow's 38 digits, in accepted and refused rows."""
    schema = schema_of({"key": "string", "price": "decimal(10,2)"}, "key")
    given = [Decimal(f"1.5{'0' * 60}"), Decimal("2E+3"), Decimal("0E-90"), Decimal(f"0.125{'0' * 60}")]
    check_equal(schema, pd.DataFrame({"key": ["a", "b", "c", "d"], "price": given}))
    check_equal(schema, pd.DataFrame({"key": ["", "b", "", ""], "price": given}))
    found = encoded(schema, pd.DataFrame({"key": ["a", "", "c", "d"], "price": given}))
    assert found.columns["price"].to_pylist() == [Decimal("1.50"), Decimal(2000), Decimal(0), None]
    assert found.refusals.keys() == {1, 3}


@pytest.mark.parametrize("kind", ["decimal(10,2)", "decimal(38,0)", "decimal(38,19)", "decimal(38,38)"])
def test_decimal_conversion_never_changes_a_number(kind: str) -> None:
    """No number is altered by Arrow's silent overflow when its scale changes."""
    schema = schema_of({"key": "string", "v": kind}, "key")
    digits = [9, 864, 29446, 577828522658, 10**17, 2**53, 2**62 + 1, 2**63, 2**64 - 1, 10**37, 2**126 + 7]
    exact = [
        sign * Decimal((0, tuple(map(int, f"{number}{'0' * zeros}")), -scale))
        for number in [*digits, 2**127, 2**128 + 150, 2**130, 5**40]
        for zeros in (0, 3, 21, 45)
        for scale in (-37, 0, 1, 17, 38, 60, 90, 130)
        for sign in (1, -1)
    ]
    columns: list[Any] = [pd.Series(exact, dtype=object)]
    columns += [pd.Series([float(number) for number in exact if abs(number) < Decimal("1e300")])]
    columns += [
        pa.array([number for number in digits if number < 2**63], pa.int64()),
        pa.array(digits[:9], pa.uint64()),
    ]
    for wide in (pa.decimal128(38, 0), pa.decimal128(38, 10), pa.decimal64(18, 1), pa.decimal256(76, 20)):
        held = [Decimal(number).scaleb(-wide.scale) for number in digits if number < 10**wide.precision]
        columns.append(pa.array(held, wide))
    for column in columns:
        keys = [f"k{place}" for place in range(len(column))]
        is_arrow = isinstance(column, pa.Array)
        check_equal(schema, (pa.table if is_arrow else pd.DataFrame)({"key": keys, "v": column}))


def test_double_with_too_many_digits_is_refused() -> None:
    """A wide decimal with more digits than DynamoDB holds refuses its row in a double column."""
    schema = schema_of({"key": "string", "share": "double"}, "key")
    wide = pa.array([Decimal(f"0.{'3' * 50}"), Decimal("0.5")], pa.decimal256(60, 50))
    found = encoded(schema, pa.table({"key": ["a", "b"], "share": wide}))
    assert {place: refusal.reason for place, refusal in found.refusals.items()} == {0: "number_too_long"}


def test_empty_table_keeps_its_columns() -> None:
    """A table without rows has the schema's columns, whatever its form, and no pieces."""
    empty = frame()
    for given in (empty, pa.table({name: pa.nulls(0) for name in TYPES}), frame(FULL)[:0].convert_dtypes()):
        found = encoded(SCHEMA, given)
        assert len(found) == found.columns.num_rows == len(found.lines) == 0
        assert found.columns.schema == encoded(SCHEMA, frame(FULL)).columns.schema
        assert list(ColumnEncoder(SCHEMA).pieces(given_rows(SCHEMA, given))) == []


def test_pieces_are_small_and_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are encoded in small pieces that together hold all rows, and errors count rows from the start."""
    monkeypatch.setattr("prediction_batches.rows.column_encoder.PIECE_BYTES", 100_000)
    rows = frame(*(FULL | {"key": f"AA-{place}", "words": "x" * (place % 700)} for place in range(4000)))
    pieces = list(ColumnEncoder(SCHEMA).pieces(given_rows(SCHEMA, rows)))
    assert max(len(b"".join(piece.lines.to_pylist())) for piece in pieces[1:]) < 300_000
    whole = encoded(SCHEMA, rows)
    assert [line for piece in pieces for line in piece.lines.to_pylist()] == whole.lines.to_pylist()
    assert pa.Table.from_batches([piece.columns for piece in pieces]).equals(pa.table(whole.columns))
    wrong = rows.assign(nested=[*[None] * 3999, {1}])
    with pytest.raises(PredictionsError, match=r"^Row 4000 of"):
        list(ColumnEncoder(SCHEMA).pieces(given_rows(SCHEMA, wrong)))
    lost = rows.assign(count=[*[None] * 3999, 2.0**60])
    with pytest.raises(PredictionsError, match="Row 4000 of the long column count"):
        list(ColumnEncoder(SCHEMA).pieces(given_rows(SCHEMA, lost)))


def test_pieces_stay_small_when_rows_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces stay small even if the first rows are much smaller than the others."""
    monkeypatch.setattr("prediction_batches.rows.column_encoder.PIECE_BYTES", 100_000)
    monkeypatch.setattr("prediction_batches.rows.column_encoder._FIRST_ROWS", 10)
    schema = schema_of({"key": "string", "words": "string"}, "key")
    words = ["x" * (20_000 if place >= 10 else 1) for place in range(500)]
    rows = pd.DataFrame({"key": [f"k{place}" for place in range(500)], "words": words})
    pieces = list(ColumnEncoder(schema).pieces(given_rows(schema, rows)))
    assert sum(map(len, pieces)) == 500
    assert max(piece.lines.nbytes for piece in pieces) < 1_000_000


def test_rows_larger_than_an_item_are_refused() -> None:
    """A row that does not fit into a DynamoDB item is refused, and no smaller one is."""
    for size in (30_000, 66_000, 399_000, 420_000):
        check_equal(SCHEMA, frame(FULL | {"words": "ä" * (size // 2)}, FULL))
    assert refusal({"words": "x" * 420_000}).reason == "value_too_large"


def test_many_slow_rows_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    """A warning is logged when 10,000 rows took the slow path, and not for fewer."""
    schema = schema_of({"key": "string", "share": "double"}, "key")
    rows = pd.DataFrame({"key": [f"k{place}" for place in range(10_000)], "share": math.nan})
    encoder = ColumnEncoder(schema)
    with caplog.at_level(logging.WARNING):
        encoder.encode(given_rows(schema, rows[:9_999]))
        assert not caplog.records
        encoder.encode(given_rows(schema, rows[:1]))
        encoder.encode(given_rows(schema, rows))
    assert [record.message.split(" were ")[0] for record in caplog.records] == ["10000 rows so far"]
