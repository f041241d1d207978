"""Tests of a batch's rows: values, parts, and the same rows in JSON and Arrow."""

from __future__ import annotations

import gzip
import json
import math
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest

from prediction_batches.errors import PredictionsError
from prediction_batches.object_store import ObjectStore
from prediction_contract.cleaning.cleaning_rules import Cleaning
from prediction_contract.cleaning.column_cleaning import ColumnCleaning
from prediction_contract.cleaning.row_cleaning import row_parser
from prediction_contract.rows.prediction_line import PredictionLine
from prediction_contract.rows.quarantine_tolerance import QuarantineTolerance
from prediction_contract.rows.row_contract import row_contract
from prediction_contract.stores.delta_table import arrow_columns
from sagemaker_scripts.batches.batch_rows import (
    PartConflictError,
    check_refused_rows,
    delta_rows,
    prediction_lines,
    refused_rows,
    write_parts,
)
from tests.fakes.memory_s3 import MemoryS3
from tests.sagemaker.stored_batches import schema_of

BATCH = "20130201T060000Z-0123abcd"
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
SCHEMA = schema_of(TYPES, key="key")
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
    """Return rows as a DataFrame that leaves their values as they are."""
    return pd.DataFrame({name: pd.Series([row[name] for row in rows], dtype=object) for name in TYPES})


def test_json_and_delta_hold_the_same_rows() -> None:
    """Every type arrives without loss in both, with the same checksum beside it."""
    lines = prediction_lines(SCHEMA, frame(FULL, dict.fromkeys(TYPES) | {"key": "AA-2"}))
    table = delta_rows(SCHEMA, lines, BATCH)
    spelled = {field.name: str(field.type).replace(", 6", ",6") for field in table.schema}
    assert spelled == {**arrow_columns(SCHEMA), "day": "date32[day]"}
    contract = row_contract(SCHEMA)
    for line, stored in zip(lines, table.to_pylist(), strict=True):
        row = contract.accept(line.content)
        assert stored.pop("batch_id") == BATCH
        assert stored.pop("row_checksum") == row.checksum
        nested = stored.pop("nested")
        assert (None if nested is None else json.loads(nested, parse_float=Decimal)) == row.values["nested"]
        assert stored == {name: value for name, value in row.values.items() if name != "nested"}


def test_what_pandas_calls_missing_is_no_value() -> None:
    """None, NaN, NaT and NA of columns that are no numbers with a point become null."""
    missing = dict.fromkeys(TYPES) | {"key": "AA-1"}
    missing |= {"words": float("nan"), "count": float("nan"), "flag": pd.NA, "moment": pd.NaT, "share": pd.NA}
    (line,) = prediction_lines(SCHEMA, frame(missing))
    assert line.refusal is None
    assert json.loads(line.content) == {"key": "AA-1", "row_checksum": line.checksum}


def test_a_number_that_went_wrong_is_not_taken_for_missing() -> None:
    """NaN in a double or decimal is written in sight of everybody; Delta keeps the row, to count alike."""
    for wrong in ({"share": np.float64("nan")}, {"exact": Decimal("NaN")}, {"share": float("inf")}):
        (line,) = prediction_lines(SCHEMA, frame(FULL | wrong))
        assert line.refusal == "not_a_number"
        (stored,) = delta_rows(SCHEMA, [line], BATCH).to_pylist()
        assert {name for name, value in stored.items() if value is None} == set(wrong)
        assert stored["row_checksum"] == line.checksum


def test_numpys_values_are_written_as_pythons() -> None:
    """Columns of NumPy types need no conversion by the model."""
    columns = {"key": ["AA-1"], "count": np.array([7]), "share": np.array([0.25]), "flag": np.array([True])}
    rows = pd.DataFrame(columns).reindex(columns=list(TYPES))
    rows["moment"] = pd.to_datetime(["2013-02-01T06:30:00Z"])
    (line,) = prediction_lines(SCHEMA, rows.astype({"exact": object}).assign(exact=None))
    assert line.row is not None
    assert line.row.values["moment"] == FULL["moment"]
    assert (line.row.values["count"], line.row.values["share"], line.row.values["flag"]) == (7, 0.25, True)


def test_values_of_numpy_inside_others_are_written_as_pythons() -> None:
    """Scalars and arrays of NumPy are the plain values that they hold, to the last digit."""
    values = {
        "key": np.str_("A"),
        "count": np.int64(2**63 - 1),
        "share": np.float64(0.1),
        "flag": np.bool_(True),
        "day": np.datetime64("2013-02-01"),
        "nested": {"weights": np.array([[0.1, 2.0]])},
    }
    (line,) = prediction_lines(SCHEMA, frame(dict.fromkeys(TYPES) | values))
    assert line.row == row_contract(SCHEMA).accept(
        b'{"key":"A","count":9223372036854775807,"share":0.1,"flag":true,"day":"2013-02-01",'
        b'"nested":{"weights":[[0.1,2]]}}'
    )
    (line,) = prediction_lines(SCHEMA, frame(FULL | {"share": np.array([0.5, 0.25])}))
    assert line.refusal == "wrong_type"


@pytest.mark.parametrize("missing", [None, pd.NaT, pd.NA, np.datetime64("NaT")])
def test_what_is_missing_inside_json_is_null(missing: object) -> None:
    """At any depth, and never as a text."""
    nested = {"seen_at": missing, "each": [missing, {"at": missing}]}
    (line,) = prediction_lines(SCHEMA, frame(FULL | {"nested": nested}))
    assert json.loads(line.content)["nested"] == {"seen_at": None, "each": [None, {"at": None}]}


def test_a_moment_inside_json_has_one_spelling() -> None:
    """Its type, unit and zone do not matter; without a zone it has none when it is written either."""
    aware = [
        datetime(2013, 2, 1, 6, tzinfo=timezone(timedelta(hours=1))),
        pd.Timestamp("2013-02-01T05:00Z"),
        pd.Timestamp("2013-02-01T00:00", tz="America/New_York").as_unit("ns"),
    ]
    naive = [np.datetime64("2013-02-01T05:00", unit) for unit in ("m", "s", "ms", "us", "ns")]
    spelled = {
        "aware": [*aware, *pd.Series(aware[1:2])],
        "naive": [*naive, datetime(2013, 2, 1, 5), *np.array(naive), pd.Series(naive)],  # noqa: DTZ001  # so meant
    }
    (line,) = prediction_lines(SCHEMA, frame(FULL | {"nested": spelled}))
    found = json.loads(line.content)["nested"]
    assert set(found["aware"]) == {"2013-02-01T05:00:00.000000Z"}
    assert {*found["naive"][:-1], *found["naive"][-1]} == {"2013-02-01T05:00:00.000000"}


def test_a_moment_that_no_store_holds_is_written_for_the_quarantine() -> None:
    """Nanoseconds, and a year that UTC does not have."""
    for wrong in (
        pd.Timestamp("2013-02-01T05:00:00.000000001Z"),
        datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=1))),
    ):
        (line,) = prediction_lines(SCHEMA, frame(FULL | {"moment": wrong}))
        assert line.refusal == "wrong_type"


def test_a_long_that_may_have_lost_digits_fails_the_job() -> None:
    """A float from 2^53 on stands for several integers; below it stands for one."""
    (line,) = prediction_lines(SCHEMA, frame(FULL | {"count": 2.0**53 - 1}))
    assert line.row is not None
    assert line.row.values["count"] == 2**53 - 1
    with pytest.raises(PredictionsError) as raised:
        prediction_lines(SCHEMA, frame(FULL, FULL | {"count": float(1234567890123456789)}))
    assert str(raised.value) == (
        "predict returned a float of 2^53 or more in row 2 of count, a long: it may have lost digits. "
        "Keep the column in Int64 instead of a float type."
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
def test_a_narrower_float_loses_the_digits_of_a_long_earlier(values: Any, bits: int, sign: int) -> None:
    """The type of the column, or of the value in a column of objects, tells from where on."""
    (line,) = prediction_lines(SCHEMA, frame(FULL).assign(count=values(sign * (2.0**bits - 1))))
    assert line.row is not None
    assert line.row.values["count"] == sign * (2**bits - 1)
    with pytest.raises(PredictionsError, match=rf"of 2\^{bits} or more in row 1 of count"):
        prediction_lines(SCHEMA, frame(FULL).assign(count=values(sign * 2.0**bits)))


@pytest.mark.parametrize("wrong", [float("inf"), float("-inf"), np.float32("inf")])
def test_an_infinite_long_costs_its_row_only(wrong: float) -> None:
    """It has no digits to lose: the tolerance decides about the batch."""
    lines = prediction_lines(SCHEMA, frame(FULL | {"count": wrong}, FULL | {"key": "AA-2"}))
    assert [line.refusal for line in lines] == ["not_a_number", None]


@pytest.mark.parametrize("value", [pd.Timedelta(1), np.timedelta64(5, "ns")])
def test_a_duration_fails_the_job(value: object) -> None:
    """It has no JSON, and is no integer."""
    with pytest.raises(PredictionsError, match=r"a [Tt]imedelta\w*, which JSON cannot express"):
        prediction_lines(SCHEMA, frame(FULL | {"nested": [value]}))


def test_rows_of_one_key_count_as_refused() -> None:
    """The load refuses each of them; five rows are named, and no value is quoted."""
    lines = prediction_lines(
        SCHEMA, frame(*[FULL] * 7, FULL | {"key": "AA-2"}, FULL | {"key": "", "flag": "?"})
    )
    check_refused_rows(lines, QuarantineTolerance(rows=8), model="m", batch_id=BATCH)
    with pytest.raises(PredictionsError) as raised:
        check_refused_rows(lines, QuarantineTolerance(), model="m", batch_id=BATCH)
    assert "8 of 9 rows were refused, and 0 may be: 7 duplicate_key, 1 empty_key; row 1: " in str(
        raised.value
    )
    assert "row 5: another row has its key. Correct" in str(raised.value)


def test_rows_that_cleaning_mends_are_delivered_and_not_refused() -> None:
    """The load cleans before it checks; Delta holds what the warehouse is to clean, no other unfit value."""
    unfit = (FULL | {"key": "AA-2", "share": 1e-131}, FULL | {"key": "AA-3", "share": math.nan})
    lines = prediction_lines(SCHEMA, frame(FULL, *unfit))
    rules = Cleaning((ColumnCleaning(column="share", minimum="0.000000001"),))
    parse_row = row_parser(SCHEMA, rules)
    assert refused_rows(lines).reasons == {"number_too_long": 1, "not_a_number": 1}
    assert refused_rows(lines, parse_row).reasons == {"not_a_number": 1}
    check_refused_rows(lines, QuarantineTolerance(rows=1), model="m", batch_id=BATCH, parse_row=parse_row)
    delta = delta_rows(SCHEMA, lines, BATCH)
    assert delta["share"].to_pylist()[1:] == [1e-131, None]
    assert delta["key"].to_pylist() == [FULL["key"], "AA-2", "AA-3"]
    dropped = row_parser(SCHEMA, Cleaning((ColumnCleaning(column="share", drop=True),)))
    assert refused_rows(lines, dropped).reasons == {}


@pytest.mark.parametrize("change", [lambda rows: rows.drop(columns="flag"), lambda rows: rows.assign(more=1)])
def test_other_columns_than_the_schemas_fail_the_job(change: Any) -> None:
    """A missing or additional column is the model's mistake, not every row's."""
    with pytest.raises(PredictionsError, match="predict returned the columns"):
        prediction_lines(SCHEMA, change(frame(FULL)))


@pytest.mark.parametrize(
    ("value", "what"),
    [
        ({"secret"}, "a set, which JSON cannot express"),
        ([{"a": {7: "secret"}}], "a mapping with a key of type int, and JSON has only strings as keys"),
        ({np.int64(7): 1}, "a mapping with a key of type int64, and JSON has only strings as keys"),
    ],
)
def test_a_value_that_json_does_not_know_fails_the_job(value: object, what: str) -> None:
    """Column and row are named, and the value is not quoted."""
    with pytest.raises(PredictionsError) as raised:
        prediction_lines(SCHEMA, frame(FULL, FULL | {"nested": value}))
    assert str(raised.value) == (
        f"Row 2 of what predict returned cannot be written. Column nested holds {what}. "
        "Convert it to a plain Python value in the model's predict function."
    )


def test_an_array_of_no_dimension_is_its_value() -> None:
    """NumPy returns one where a model reduces an array."""
    (line,) = prediction_lines(SCHEMA, frame(FULL | {"share": np.array(0.5)}))
    assert line.row is not None
    assert line.row.values["share"] == 0.5


WHERE: dict[str, Any] = {"model": "m", "partition": "2013-02-01", "batch_id": BATCH, "attempt": 2}


def long_line(size: int) -> PredictionLine:
    """Return a line of so many bytes."""
    return PredictionLine(b"x" * (size - 1) + b"\n", 0, None, None)


def test_no_part_has_more_than_32_megabytes() -> None:
    """By default, and uncompressed; a row that no part can hold fails the job and says which."""
    s3 = MemoryS3()
    parts = write_parts(ObjectStore(s3, "bucket"), [long_line(8_000_000)] * 5, **WHERE)
    assert [len(gzip.decompress(s3.objects[part.key])) for part in parts] == [32_000_000, 8_000_000]
    with pytest.raises(PredictionsError, match="Row 1 has 32000001 bytes"):
        write_parts(ObjectStore(MemoryS3(), "bucket"), [long_line(9), long_line(32_000_001)], **WHERE)


def test_a_part_that_is_there_is_not_overwritten() -> None:
    """The same rows again are welcome; others are those of another job run, whose manifest may name them."""
    store = ObjectStore(MemoryS3(), "bucket")
    first = write_parts(store, [long_line(9)], **WHERE)
    assert write_parts(store, [long_line(9)], **WHERE) == first
    with pytest.raises(PartConflictError, match=f"m/{BATCH}: .*attempt 2 .*Start the next attempt"):
        write_parts(store, [long_line(10)], **WHERE)
    assert gzip.decompress(store.get(first[0].key)) == b"x" * 8 + b"\n"


def test_parts_are_cut_by_size_and_lose_no_line() -> None:
    """No part has more uncompressed bytes than allowed, and together they are the lines in order."""
    lines = prediction_lines(SCHEMA, frame(*(FULL | {"key": f"AA-{number}"} for number in range(100))))
    s3 = MemoryS3()
    parts = write_parts(ObjectStore(s3, "bucket"), lines, **WHERE, part_bytes=10_000)
    texts = [gzip.decompress(s3.objects[part.key]) for part in parts]
    assert len(parts) > 2
    assert all(len(text) <= 10_000 for text in texts)
    assert [part.rows for part in parts] == [text.count(b"\n") for text in texts]
    assert b"".join(texts) == b"".join(line.content for line in lines)
    assert [part.key for part in parts] == sorted(s3.objects)
    assert parts == write_parts(ObjectStore(MemoryS3(), "bucket"), lines, **WHERE, part_bytes=10_000)


def test_a_batch_without_rows_has_one_empty_part() -> None:
    """So a later batch finds it."""
    s3 = MemoryS3()
    (part,) = write_parts(ObjectStore(s3, "bucket"), [], **WHERE)
    assert part.rows == 0
    assert gzip.decompress(s3.objects[part.key]) == b""
    assert delta_rows(SCHEMA, [], BATCH).num_rows == 0
