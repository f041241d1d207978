"""Tests of files as sources: formats, types, and errors about files that do not match."""

from __future__ import annotations

import gzip
import io
import json
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prediction_contract.jobs.model_inputs import Source
from sagemaker_scripts.sources.source_objects import SourceError, SourceMissingError
from tests.sagemaker.sources.source_reading import DAY, ENDINGS, bucket, file_of, orders, read

ALL_TYPES = {
    "name": "string",
    "visits": "long",
    "amount": "decimal(10,2)",
    "score": "double",
    "active": "boolean",
    "since": "date",
    "seen_at": "timestamp",
    "note": "json",
}
ROW = {
    "name": "Ada, Countess",
    "visits": 2**53 + 1,
    "amount": "12.30",
    "score": 0.25,
    "active": True,
    "since": "2013-01-31",
    "seen_at": "2013-02-02T23:30:00+01:00",
    "note": '{"a":1}',
}
READ = {
    **ROW,
    "amount": Decimal("12.30"),
    "since": date(2013, 1, 31),
    "seen_at": datetime(2013, 2, 2, 22, 30, tzinfo=UTC),
}
NULLS = dict.fromkeys(ALL_TYPES)


def source_of(ending: str, **changes: Any) -> Source:
    """Return a source with a column of each type, in the format of a file ending."""
    given: dict[str, Any] = {
        "format": ending.removesuffix(".gz"),
        "path": f"raw/dt={{date}}/*.{ending}",
        "columns": tuple(ALL_TYPES.items()),
    }
    return orders(**given | changes)


def arrow_rows(*rows: dict[str, Any]) -> bytes:
    """Return a Parquet file whose columns have other Arrow types of the same kinds."""
    schema = pa.schema(
        {
            "name": pa.dictionary(pa.int8(), pa.string()),
            "visits": pa.uint64(),
            "amount": pa.decimal256(40, 3),
            "score": pa.float32(),
            "active": pa.bool_(),
            "since": pa.date64(),
            "seen_at": pa.timestamp("ns", tz="America/New_York"),
            "note": pa.string(),
        }
    )
    return file_of([row if row["name"] is None else {**row, **READ} for row in rows], "parquet", schema)


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_type_is_read_from_every_format(ending: str) -> None:
    """Values keep all digits and their point in time, missing ones are null, and the file is recorded."""
    content = arrow_rows(ROW, NULLS) if ending == "parquet" else file_of([ROW, NULLS], ending)
    rows, found = read(bucket(**{f"raw/dt={DAY}/a.{ending}": content}), source_of(ending))
    assert rows.to_pylist() == [{**READ, "partition": DAY}, {**NULLS, "partition": DAY}]
    (recorded,) = found.reads
    document = recorded.to_document()
    assert (document["source"], document["size"]) == ("orders", len(content))
    assert document["key"] == f"raw/dt={DAY}/a.{ending}"
    assert document["etag"]


@pytest.mark.parametrize("ending", ENDINGS)
def test_empty_file_gives_no_rows_but_missing_file_fails(ending: str) -> None:
    """An empty file gives the declared columns without rows; only a partition without files is an error."""
    schema = pa.schema({name: pa.string() for name in ALL_TYPES})
    content = arrow_rows() if ending == "parquet" else file_of([], ending, schema)
    rows, _ = read(bucket(**{f"raw/dt={DAY}/a.{ending}": content}), source_of(ending))
    assert rows.num_rows == 0
    assert rows.column_names == [*ALL_TYPES, "partition"]
    assert str(rows.schema.field("amount").type) == "decimal128(10, 2)"
    if ending == "csv":
        rows, _ = read(bucket(**{f"raw/dt={DAY}/a.csv": b""}), source_of(ending))
        assert rows.num_rows == 0
    with pytest.raises(SourceMissingError, match=rf"orders has no data for {DAY} at s3://data/raw/dt={DAY}/"):
        read(bucket(**{f"raw/dt=2013-02-02/a.{ending}": content}), source_of(ending))


@pytest.mark.parametrize("ending", ENDINGS)
def test_missing_column_is_named(ending: str) -> None:
    """A declared column that a file lacks is an error, not a column of nulls."""
    content = file_of([{name: value for name, value in ROW.items() if name != "since"}], ending)
    with pytest.raises(
        SourceError, match=rf"s3://data/raw/dt={DAY}/a\..* has no column since, which is decl"
    ):
        read(bucket(**{f"raw/dt={DAY}/a.{ending}": content}), source_of(ending))


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("visits", "many-secret"),
        ("visits", 1.5),
        ("amount", "1.234"),
        ("score", "high-secret"),
        ("active", "perhaps"),
        ("since", "31.1.2013"),
        ("seen_at", "yesterday"),
        ("amount", True),
    ],
)
def test_invalid_value_is_located_but_not_quoted(ending: str, column: str, value: Any) -> None:
    """The error names file, column and row, but not the value, which may be sensitive."""
    texts = {name: str(each) for name, each in ROW.items()} if ending == "csv" else ROW
    content = file_of([texts] * 4 + [{**texts, column: str(value) if ending == "csv" else value}], ending)
    where = rf"a\.{ending} of source orders, column {column}, row 5"
    complaint = f"{where}: its value is not a valid {ALL_TYPES[column][:4]}"
    with pytest.raises(SourceError, match=complaint) as refused:
        read(bucket(**{f"raw/dt={DAY}/a.{ending}": content}), source_of(ending))
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("values", "declared", "complaint"),
    [
        (pa.array(["1"]), "long", "it is string, but declared as long"),
        (pa.array([True]), "long", "it is bool, but declared as long"),
        (pa.array([1]), "string", "it is int64, but declared as string"),
        (pa.array([1.0, 1.5]), "long", "row 2: its value is not a valid long"),
        (pa.array([2.0**53 - 1, 2.0**53]), "long", "row 2: its value is not a valid long"),
        (pa.array([1, 10**9]), "decimal(10,2)", "row 2: its value is not a valid decimal"),
        (pa.array([2**53, 2**53 + 1]), "double", "row 2: its value is not a valid double"),
        (pa.array([datetime(2013, 2, 1, 5)]), "date", "row 1: its value is not a valid date"),  # noqa: DTZ001
        (
            pa.array([1.5, 1234567.8], pa.float32()),
            "decimal(10,2)",
            "row 2: its value is not a valid decimal",
        ),
        (pa.array([0.5, 1e-77]), "decimal(10,2)", "row 2: its value is not a valid decimal"),
        # Arrow would read these two as 0.57 and 0.23.
        (pa.array([0, 2944600]), "decimal(38,38)", "row 2: its value is not a valid decimal"),
        (
            pa.array([Decimal("0.5"), Decimal("8640.0")]),
            "decimal(38,38)",
            "row 2: its value is not a valid decimal",
        ),
        (pa.array([[1.5], [float("nan")]]), "json", "row 2: its value is not a valid json"),
    ],
)
def test_parquet_values_unlike_declared_type_are_refused(
    values: pa.Array, declared: str, complaint: str
) -> None:
    """A Parquet column of another kind, or a value that conversion would change, is refused."""
    content = file_of(pa.table({"x": values}).to_pylist(), "parquet", pa.schema({"x": values.type}))
    store = bucket(**{f"raw/orders/dt={DAY}/a.parquet": content})
    with pytest.raises(SourceError, match=f"column x.*{complaint}"):
        read(store, orders(columns=(("x", declared),)))


def test_naive_time_is_utc_and_whole_float_is_long() -> None:
    """Times without a zone are UTC and whole floats are integers, as pandas and Spark write them."""
    moment = datetime(2013, 2, 1, 5)  # noqa: DTZ001
    content = file_of([{"at": moment, "n": 3.0}, {"at": None, "n": float("nan")}], "parquet")
    store = bucket(**{f"raw/orders/dt={DAY}/a.parquet": content})
    rows, _ = read(store, orders(columns=(("at", "timestamp"), ("n", "long"))))
    assert rows["at"].to_pylist() == [moment.replace(tzinfo=UTC), None]
    assert rows["n"].to_pylist() == [3, None]


@pytest.mark.parametrize("given", [pa.timestamp("ms"), pa.float64(), pa.float32(), pa.string()])
def test_column_without_values_gets_declared_type(given: pa.DataType) -> None:
    """A column with only nulls or no rows is accepted whatever its type in the file."""
    declared = {"timestamp": "date", "double": "decimal(10,2)", "float": "decimal(10,2)", "string": "string"}
    for rows in ([{"x": None}], []):
        content = file_of(rows, "parquet", pa.schema({"x": given}))
        store = bucket(**{f"raw/orders/dt={DAY}/a.parquet": content})
        kind = declared[str(given).partition("[")[0]]
        found, _ = read(store, orders(columns=(("x", kind),)))
        assert found["x"].to_pylist() == [None] * len(rows)


def test_midnight_times_are_read_as_dates() -> None:
    """Timestamps at midnight are accepted for a date column, also beside a null."""
    days = pa.array([datetime(2013, 2, 1), None], pa.timestamp("ns"))  # noqa: DTZ001
    content = file_of([{"x": each} for each in days.to_pylist()], "parquet", pa.schema({"x": days.type}))
    store = bucket(**{f"raw/orders/dt={DAY}/a.parquet": content})
    assert read(store, orders(columns=(("x", "date"),)))[0]["x"].to_pylist() == [date(2013, 2, 1), None]


@pytest.mark.parametrize(
    ("ending", "content", "complaint"),
    [
        ("parquet", b"PAR1 no parquet", "cannot be read: it is damaged"),
        ("csv.gz", b"no gzip", "cannot be read: it is damaged"),
        ("csv.gz", gzip.compress(b"a\n1\n" * 1000, mtime=0)[:30], "cannot be read: it is damaged"),
        ("csv", b"name\n\xff\n", "cannot be read: it is damaged"),
        ("csv", b"name,visits\na,1\nb,2,secret\n", "Row 2 of .* has 3 fields, but the header has 2"),
        ("jsonl", b'{"name": "a"}\n{"name": secret}\n', "Line 2 of .* is not a JSON object"),
        ("jsonl", b'{"name": "a"}\n[1]\n', "Line 2 of .* is not a JSON object"),
        ("jsonl", b'{"name": "a"}\n{"name": ' + b"[" * 100_000 + b"}", "Line 2 of .* is not a JSON object"),
        (
            "jsonl",
            b'{"name": "a"}\n{"name": "\xff"}\n',
            "column name, row 2: its value is not a valid string",
        ),
        ("jsonl", b'{"name": "a", "name": "b"}\n', "a line names a member twice"),
    ],
)
def test_damaged_file_is_named_but_not_quoted(ending: str, content: bytes, complaint: str) -> None:
    """The error names the file, and the row or line if known, without quoting its content."""
    store = bucket(**{f"raw/dt={DAY}/a.{ending}": content})
    with pytest.raises(SourceError, match=complaint) as refused:
        read(store, source_of(ending, columns=(("name", "string"),)))
    assert f"s3://data/raw/dt={DAY}/a.{ending}" in str(refused.value)
    assert "secret" not in str(refused.value)


def test_json_lines_keep_digits_and_ignore_undeclared_members() -> None:
    """Decimals keep all their digits, and undeclared members may have any type in any line."""
    lines = [
        b'{"amount": 12345678901234567890.12, "note": {"b": [1, 2.5]}, "other": 1}',
        b'{"amount": "7", "note": null, "other": "text"}',
        b"",
        b'{"amount": 1e2, "note": "{\\"as\\": \\"it is\\"}", "other": [1]}',
    ]
    store = bucket(**{f"raw/dt={DAY}/a.jsonl": b"\n".join(lines)})
    rows, _ = read(store, source_of("jsonl", columns=(("amount", "decimal(22,2)"), ("note", "json"))))
    assert rows["amount"].to_pylist() == [Decimal("12345678901234567890.12"), Decimal(7), Decimal(100)]
    assert rows["note"].to_pylist() == ['{"b":[1,2.5]}', None, '{"as": "it is"}']
    store = bucket(**{f"raw/dt={DAY}/a.jsonl": b'{"name": "a", "other": 1}\n{"name": "b", "other": "x"}'})
    assert read(store, source_of("jsonl", columns=(("name", "string"),)))[0]["name"].to_pylist() == ["a", "b"]


@pytest.mark.parametrize(
    ("declared", "line", "complaint"),
    [
        ("decimal(10,2)", b"[2]", "Line 2 of .* is not a JSON object"),
        ("decimal(10,2)", b"null", "Line 2 of .* is not a JSON object"),
        ("decimal(10,2)", b'{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "Line 2 of .* is not a JSON"),
        ("decimal(10,2)", b'{"x": ' + b"1" * 5000 + b"}", "Line 2 of .* is not a JSON object"),
        ("json", b'{"x": {"y": [NaN]}}', "Line 2 of .* is not a JSON object"),
        ("json", b'{"x": {"y": [1e400]}}', "a number that is too large"),
        ("long", b'{"x": 9223372036854775808}', "column x, row 2: its value is not a valid long"),
    ],
)
def test_json_line_accepted_only_by_python_is_refused(declared: str, line: bytes, complaint: str) -> None:
    """Lines read one by one are refused if they are not strict JSON objects with valid values."""
    store = bucket(**{f"raw/dt={DAY}/a.jsonl": b'{"x": 1}\n' + line})
    with pytest.raises(SourceError, match=complaint):
        read(store, source_of("jsonl", columns=(("x", declared),)))


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
@pytest.mark.parametrize("text", ["1e-77", "1e-999999999", "1e999999999", "0." + "0" * 76 + "1", "1e-40"])
def test_decimal_with_too_many_places_is_refused(ending: str, text: str) -> None:
    """Arrow would read the first text as 0 and crash on the second."""
    content = f'{{"x": {text}}}' if ending == "jsonl" else f"x\n{text}\n"
    store = bucket(**{f"raw/dt={DAY}/a.{ending}": content.encode()})
    with pytest.raises(SourceError, match="column x, row 1: its value is not a valid decimal"):
        read(store, source_of(ending, columns=(("x", "decimal(10,2)"),)))


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_decimal_with_too_many_digits_is_refused(ending: str) -> None:
    """Arrow would read this number as 3556156208584271448.6."""
    text = "191424487938062457451738980.530987643377635377"
    content = f'{{"x": {text}}}' if ending == "jsonl" else f"x\n{text}\n"
    store = bucket(**{f"raw/dt={DAY}/a.{ending}": content.encode()})
    with pytest.raises(SourceError, match="column x, row 1: its value is not a valid decimal"):
        read(store, source_of(ending, columns=(("x", "decimal(38,19)"),)))


def test_only_written_infinity_is_infinite() -> None:
    """A CSV number that is too large for a double is refused instead of becoming infinite."""
    source = source_of("csv", columns=(("x", "double"),))
    rows, _ = read(bucket(**{f"raw/dt={DAY}/a.csv": b"x\n-inf\nInfinity\n1e300\n"}), source)
    assert rows["x"].to_pylist() == [float("-inf"), float("inf"), 1e300]
    with pytest.raises(SourceError, match="column x, row 2: its value is not a valid double"):
        read(bucket(**{f"raw/dt={DAY}/a.csv": b"x\n1\n1e400\n"}), source)


@pytest.mark.parametrize(
    ("ending", "content"), [("jsonl.gz", b'{"name": "a"}\n' * 100), ("csv.gz", b"name\n" + b"abcde\n" * 200)]
)
def test_text_file_too_large_unpacked_is_refused(
    ending: str, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit applies to unpacked bytes, because a small archive can unpack to any size."""
    monkeypatch.setattr("sagemaker_scripts.sources.text_files.LARGEST_TEXT_FILE", 1000)
    store = bucket(**{f"raw/dt={DAY}/a.{ending}": gzip.compress(content)})
    with pytest.raises(SourceError, match=rf"a\.{ending} of source orders has more than 1000 bytes unpacked"):
        read(store, source_of(ending, columns=(("name", "string"),)))


def test_json_lines_are_read_across_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines may span blocks, and errors count lines from the beginning of the file."""
    monkeypatch.setattr("sagemaker_scripts.sources.json_line_files._BLOCK", 40)
    names = ["a" * length for length in (1, 60, 0, 200, 3)]
    lines = [json.dumps({"name": name, "amount": "1.10"}).encode() for name in names]
    source = source_of("jsonl", columns=(("name", "string"), ("amount", "decimal(10,2)")))
    key = f"raw/dt={DAY}/a.jsonl"
    shown, _ = read(bucket(**{key: b"\n".join(lines)}), source)
    assert shown["name"].to_pylist() == names
    faulty = b"\n".join([*lines, b"[1]", *lines])
    with pytest.raises(SourceError, match=r"Line 6 of .*a\.jsonl of source orders is not a JSON object"):
        read(bucket(**{key: faulty}), source)
    misfit = b"\n".join([*lines, b'{"name": "x", "amount": "1.101"}'])
    with pytest.raises(SourceError, match=r"a\.jsonl of source orders, column amount, row 6: "):
        read(bucket(**{key: misfit}), source)
    with pytest.raises(SourceError, match=r"a\.jsonl of source orders has no column since"):
        read(bucket(**{key: b"\n".join(lines)}), source_of("jsonl", columns=(("since", "date"),)))
    late = b"\n".join([*lines, b'{"since": "2013-01-31"}'])
    shown, _ = read(bucket(**{key: late}), source_of("jsonl", columns=(("since", "date"),)))
    assert shown["since"].null_count == len(lines)


def test_overlong_json_line_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line above the limit is refused, because a whole line is held in memory."""
    monkeypatch.setattr("sagemaker_scripts.sources.json_line_files._BLOCK", 40)
    monkeypatch.setattr("sagemaker_scripts.sources.json_line_files.LONGEST_LINE", 100)
    content = json.dumps({"name": "a" * 500}).encode()
    with pytest.raises(SourceError, match="has a line of more than 100 bytes"):
        read(bucket(**{f"raw/dt={DAY}/a.jsonl": content}), source_of("jsonl", columns=(("name", "string"),)))


def test_path_with_many_wildcards_is_matched_quickly() -> None:
    """A `*` matches text without a slash, and matching a long key does not take minutes."""
    found = file_of([{"x": 1}], "parquet")
    keys = [f"raw/{'_' * 900}", "raw/a_b_c_d.parquet", "raw/a_b_c/d.parquet", "raw/a_b_c.parquet"]
    source = orders(columns=(), path="raw/*_*_*_*.parquet")
    rows, read_of = read(bucket(**dict.fromkeys(keys, found)), source)
    assert (rows.num_rows, [each.key for each in read_of.reads]) == (1, ["raw/a_b_c_d.parquet"])


def test_csv_distinguishes_empty_text_from_null() -> None:
    """A quoted empty field is a text and an unquoted one is null; NA is a text in a string column."""
    content = b'name,visits\n"",1\n,NA\nNA,\n'
    rows, _ = read(
        bucket(**{f"raw/dt={DAY}/a.csv": content}),
        source_of("csv", columns=(("name", "string"), ("visits", "long"))),
    )
    assert rows["name"].to_pylist() == ["", None, "NA"]
    assert rows["visits"].to_pylist() == [1, None, None]


def test_file_changed_while_read_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """All rows of a file must come from the one version that the index records."""
    monkeypatch.setattr("sagemaker_scripts.sources.source_objects._CHUNK", 100)
    store = bucket(**{f"raw/orders/dt={DAY}/a.parquet": file_of([{"x": "a" * 200}] * 50, "parquet")})
    get = store.client.get_object
    replaced = file_of([{"x": "b" * 200}] * 50, "parquet")

    def get_and_replace(**request: Any) -> Any:
        answer = get(**request)
        store.client.objects[request["Key"]] = replaced
        return answer

    monkeypatch.setattr(store.client, "get_object", get_and_replace)
    with pytest.raises(SourceError, match="was overwritten or deleted while it was read"):
        read(store, orders(columns=(("x", "string"),)))


def test_undeclared_columns_come_from_the_files() -> None:
    """Without declared columns, files are read as they are; files that disagree are refused by name."""
    store = bucket(
        **{
            "raw/orders/dt=2013-02-02/a.parquet": file_of([{"x": 1, "only_null": None}], "parquet"),
            f"raw/orders/dt={DAY}/a.parquet": file_of([{"x": 2, "only_null": "a"}], "parquet"),
        }
    )
    source = orders(columns=(), history=1)
    rows, _ = read(store, source)
    assert rows.to_pylist() == [
        {"x": 1, "only_null": None, "partition": "2013-02-02"},
        {"x": 2, "only_null": "a", "partition": DAY},
    ]
    store.client.objects[f"raw/orders/dt={DAY}/a.parquet"] = file_of([{"x": "2", "y": 1}], "parquet")
    complaint = rf"dt=2013-02-02/a.parquet has x as int64, but .*dt={DAY}/a.parquet has x as large_string"
    with pytest.raises(SourceError, match=complaint):
        read(store, source)


def test_null_column_does_not_hide_type_conflict() -> None:
    """If the first file has only nulls, the two other files that disagree are named."""
    files = {"a": [{"x": None}], "b": [{"x": 1}], "c": [{"x": "text"}]}
    store = bucket(
        **{f"raw/orders/dt={DAY}/{name}.parquet": file_of(rows, "parquet") for name, rows in files.items()}
    )
    with pytest.raises(
        SourceError, match=r"b\.parquet has x as int64, but .*c\.parquet has x as large_string"
    ):
        read(store, orders(columns=()))


@pytest.mark.parametrize("columns", [(), (("x", "long"),)])
def test_duplicate_parquet_column_is_refused(columns: tuple[tuple[str, str], ...]) -> None:
    """A Parquet file with two columns of one name is refused as ambiguous."""
    sink = io.BytesIO()
    pq.write_table(pa.table([[1], [2]], names=["x", "x"]), sink)
    store = bucket(**{f"raw/orders/dt={DAY}/a.parquet": sink.getvalue()})
    with pytest.raises(SourceError, match=r"a\.parquet of source orders has more than one column x"):
        read(store, orders(columns=columns))


@pytest.mark.parametrize(
    ("columns", "complaint"),
    [((), "texts that are not UTF-8"), ((("x", "string"),), "row 1: its value is not a valid")],
)
def test_parquet_text_that_is_not_utf8_is_refused(
    columns: tuple[tuple[str, str], ...], complaint: str
) -> None:
    """Parquet does not check the encoding of text, and a model would fail on it later."""
    offsets, content = pa.py_buffer(bytes([0, 0, 0, 0, 1, 0, 0, 0])), pa.py_buffer(b"\xff")
    text = pa.StringArray.from_buffers(1, offsets, content)
    sink = io.BytesIO()
    pq.write_table(pa.table({"x": text}), sink)
    store = bucket(**{f"raw/orders/dt={DAY}/a.parquet": sink.getvalue()})
    with pytest.raises(SourceError, match=complaint):
        read(store, orders(columns=columns))


@pytest.mark.parametrize("ending", ["csv", "csv.gz"])
def test_duplicate_csv_column_is_refused_if_declared(ending: str) -> None:
    """A declared column must not occur twice in a CSV header; an undeclared one may."""

    def found(content: bytes) -> list[Any]:
        packed = gzip.compress(content) if ending == "csv.gz" else content
        store = bucket(**{f"raw/dt={DAY}/a.{ending}": packed})
        rows, _ = read(store, source_of(ending, columns=(("x", "long"),)))
        return list(rows["x"].to_pylist())

    assert found(b"y,x,y\n1,2,3\n") == [2]
    with pytest.raises(SourceError, match=rf"a\.{ending} of source orders has more than one column x"):
        found(b'\xef\xbb\xbf"x",y,x\n1,2,3\n')
