"""Tests of cleaning: cleaned rows, the stored schema and refused rules."""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prediction_contract.cleaning.cleaning_rules import NO_CLEANING, Cleaning, recorded_cleaning
from prediction_contract.cleaning.column_cleaning import ColumnCleaning, InvalidCleaningError
from prediction_contract.cleaning.row_cleaning import delta_values, row_parser
from prediction_contract.errors import InvalidRowError, SchemaError
from prediction_contract.rows.checksums import refused_checksum
from prediction_contract.rows.prediction_line import prediction_line
from prediction_contract.rows.row_contract import Row, row_contract
from prediction_contract.rows.schema import ColumnType, PredictionSchema
from prediction_contract.stores.online_item import OnlineItems
from prediction_contract.stores.online_item_text import OnlineItemTexts
from prediction_contract.stores.warehouse_load import selected_columns
from tests.contract.prediction_rows import FULL_SCHEMA, column
from tests.fakes.foreign_documents import refusals

BATCH = "20130201T060000Z-0123abcd"


def rule(name: str, **members: Any) -> ColumnCleaning:
    """Return a cleaning rule for one column."""
    return ColumnCleaning(column=name, **members)


def cleaned(line: str, *rules: ColumnCleaning, schema: PredictionSchema = FULL_SCHEMA) -> dict[str, Any]:
    """Return the cleaned row of a line as a JSON object."""
    return json.loads(row_parser(schema, Cleaning(rules))(line.encode()).canonical)


def one_column(kind: str) -> PredictionSchema:
    """Return a schema with a key and one column of this type."""
    return PredictionSchema((column("flight", "string", nullable=False), column("value", kind)), "flight")


@pytest.mark.parametrize(
    ("members", "line", "stored"),
    [
        ({"column": "carrier", "trim": True}, '"carrier":" \\t\\u00a0AA\\r\\n"', {"carrier": "\u00a0AA"}),
        ({"column": "carrier", "rename": "airline"}, '"carrier":"AA"', {"airline": "AA"}),
        ({"column": "carrier", "drop": True}, '"carrier":"AA"', {}),
        ({"column": "carrier", "default": "it's \\ null"}, '"carrier":null', {"carrier": "it's \\ null"}),
        ({"column": "carrier", "default": "XX"}, '"carrier":""', {"carrier": ""}),
        ({"column": "seats", "default": "0"}, "", {"seats": 0}),
        ({"column": "seats", "minimum": "1", "maximum": "9"}, '"seats":-7', {"seats": 1}),
        ({"column": "seats", "minimum": "1", "maximum": "9"}, '"seats":10', {"seats": 9}),
        ({"column": "seats", "minimum": "1", "maximum": "9"}, '"seats":null', {}),
        ({"column": "probability", "maximum": "0.95"}, '"probability":0.951', {"probability": 0.95}),
        ({"column": "late", "default": "false", "rename": "delayed"}, "", {"delayed": False}),
        (
            {
                "column": "carrier",
                "trim": True,
                "cast": "long",
                "default": "7",
                "maximum": "5",
                "rename": "n",
            },
            '"carrier":" 12 "',
            {"n": 5},
        ),
        (
            {
                "column": "carrier",
                "trim": True,
                "cast": "long",
                "default": "7",
                "maximum": "5",
                "rename": "n",
            },
            '"carrier":null',
            {"n": 5},
        ),
    ],
)
def test_cleaning_steps_apply_in_order(members: dict[str, Any], line: str, stored: dict[str, Any]) -> None:
    """A column is trimmed, cast, given its default, clamped and renamed, in this order."""
    members = dict(members)
    text = f'{{"flight":"F"{"," if line else ""}{line}}}'
    assert cleaned(text, rule(members.pop("column"), **members)) == {"flight": "F", **stored}


@pytest.mark.parametrize(
    ("source", "target", "value", "stored"),
    [
        ("string", "long", '"-9223372036854775808"', -(2**63)),
        ("string", "decimal(7,2)", '"12.5"', 12.5),
        ("string", "double", '"1e-3"', 0.001),
        ("string", "boolean", '"true"', True),
        ("string", "date", '"2013-02-01"', "2013-02-01"),
        ("string", "timestamp", '"2013-02-01T05:00:00+00:00"', "2013-02-01T05:00:00.000000Z"),
        ("long", "string", "12", "12"),
        ("long", "decimal(4,2)", "12", 12),
        ("long", "double", "9007199254740992", 2.0**53),
        ("decimal(7,2)", "long", "12.00", 12),
        ("decimal(7,2)", "decimal(3,1)", "12.50", 12.5),
        ("decimal(7,2)", "double", "0.1", 0.1),
        ("boolean", "string", "false", "false"),
        ("boolean", "long", "true", 1),
        ("date", "string", '"2013-02-01"', "2013-02-01"),
        ("date", "timestamp", '"2013-02-01"', "2013-02-01T00:00:00.000000Z"),
        ("timestamp", "date", '"2013-02-01T23:30:00-05:00"', "2013-02-02"),
    ],
)
def test_value_is_cast(source: str, target: str, value: str, stored: object) -> None:
    """A cast keeps the value, and a timestamp becomes its day in UTC."""
    found = cleaned(
        f'{{"flight":"F","value":{value}}}', rule("value", cast=target), schema=one_column(source)
    )
    assert found == {"flight": "F", "value": stored}


@pytest.mark.parametrize(
    ("source", "target", "value", "reason"),
    [
        ("string", "long", '"12 "', "wrong_type"),
        ("string", "long", '"+12"', "wrong_type"),
        ("string", "long", '""', "wrong_type"),
        ("string", "long", '"1.5"', "wrong_type"),
        ("string", "long", '"9223372036854775808"', "out_of_range"),
        ("string", "decimal(3,1)", '"12.55"', "out_of_range"),
        ("string", "double", '"NaN"', "wrong_type"),
        ("string", "boolean", '"True"', "wrong_type"),
        ("string", "date", '"2013-02-30"', "wrong_type"),
        ("string", "timestamp", '"2013-02-01T05:00:00+02:00"', "wrong_type"),
        ("long", "double", "9007199254740993", "wrong_type"),
        ("long", "decimal(2,1)", "12", "out_of_range"),
        ("decimal(7,2)", "long", "12.50", "wrong_type"),
        ("decimal(7,2)", "decimal(7,1)", "12.55", "out_of_range"),
    ],
)
def test_lossy_cast_is_refused(source: str, target: str, value: str, reason: str) -> None:
    """A cast never rounds or truncates, and no default or bound rescues a row whose cast fails."""
    rules = [rule("value", cast=target)]
    if target == "long":
        rules = [rule("value", cast=target, default="1", minimum="0", maximum="2")]
    with pytest.raises(InvalidRowError) as caught:
        cleaned(f'{{"flight":"F","value":{value}}}', *rules, schema=one_column(source))
    assert (caught.value.reason, caught.value.column) == (reason, "value")


def test_cleaned_row_keeps_checksum_of_written_row() -> None:
    """A cleaned row keeps the checksum of the row as written, and its item detects altered values."""
    rules = Cleaning((rule("flight", trim=True, rename="number"), rule("seats", maximum="100")))
    schema = rules.stored_schema(FULL_SCHEMA)
    assert (schema.key, schema.names[0]) == ("number", "number")
    line = b'{"flight":" F ","seats":300}'
    written = row_contract(FULL_SCHEMA).accept(line)
    row = row_parser(FULL_SCHEMA, rules)(line)
    plain = row_contract(schema).accept(b'{"number":"F","seats":100}')
    assert (row, row.key) == (plain, "F")
    assert (row.checksum, row.stored_checksum) == (written.checksum, plain.checksum)
    item = OnlineItems(schema).build(row, BATCH, 1)
    assert json.loads(OnlineItemTexts(schema, BATCH, 1).text(row)) == item
    stored = OnlineItems(schema).read(item)
    assert (stored.row, stored.row_checksum, stored.is_intact) == (plain, written.checksum, True)
    altered = OnlineItems(schema).read(item | {"seats": {"N": "101"}})
    assert not altered.is_intact


BOUNDED = Cleaning(
    (
        rule("flight", trim=True),
        rule("bounded", minimum="1e-9", maximum="0.9"),
        rule("given", default="0.5", minimum="-2"),
        rule("left_out", drop=True),
        rule("named", rename="other"),
    )
)
BOUNDED_SCHEMA = PredictionSchema(
    (
        column("flight", "string", nullable=False),
        column("bounded", "double"),
        column("given", "double", nullable=False),
        column("left_out", "double"),
        column("named", "double"),
    ),
    "flight",
)
_NUMBERS = st.none() | st.floats() | st.integers() | st.sampled_from([1e-129, 1e-131, 1e125, 1e126, -1e-310])


def stored_by_the_warehouse(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """Return what SQLite selects from Delta's values with the SQL of a load."""
    names = BOUNDED_SCHEMA.names
    selected = ", ".join(selected_columns(BOUNDED_SCHEMA, BOUNDED, "S"))
    # SQLite has other syntax for casts and no REGEXP_REPLACE.
    statement = re.sub("('[^']*')::[A-Z]+", r"CAST(\1 AS REAL)", selected)
    statement = re.sub("REGEXP_REPLACE[(](S.[^,]*), .*?, ''[)]", r"trimmed(\1)", statement)
    with closing(sqlite3.connect(":memory:")) as database:
        database.create_function("trimmed", 1, lambda text: text.strip(" \t\n\v\f\r"))
        database.execute(f"CREATE TABLE D ({', '.join(names)})")
        database.executemany(
            f"INSERT INTO D VALUES ({', '.join('?' * len(names))})",
            [[row.get(name) for name in names] for row in rows],
        )
        return database.execute(f"SELECT {statement} FROM D S WHERE S.flight IS NOT NULL").fetchall()


@given(
    st.fixed_dictionaries(
        {
            "flight": st.text("AB \t", max_size=3) | st.just("A" + " " * 3000),
            "bounded": _NUMBERS,
            "given": _NUMBERS,
            "left_out": _NUMBERS | st.text(max_size=3) | st.lists(st.floats(), max_size=2),
            "named": _NUMBERS,
        }
    )
)
def test_all_stores_clean_rows_alike(values: dict[str, Any]) -> None:
    """JSON, Delta, warehouse and online item agree on a cleaned row's values and checksum."""
    written = row_contract(BOUNDED_SCHEMA)
    line = prediction_line(written, values)
    delta = delta_values(BOUNDED_SCHEMA, line.content) if line.row is None else dict(line.row.values)
    judged: Row | InvalidRowError
    try:
        judged = row_parser(BOUNDED_SCHEMA, BOUNDED)(line.content.rstrip())
    except InvalidRowError as error:
        judged = error
    # The load uses this checksum to leave a refused row out of the warehouse.
    assert judged.checksum == line.checksum
    if isinstance(judged, InvalidRowError):
        return
    row = judged
    stored = BOUNDED.stored_schema(BOUNDED_SCHEMA)
    (found,) = stored_by_the_warehouse([delta])
    assert found == tuple(row.values[name] for name in stored.names)
    item = OnlineItems(stored).build(row, BATCH, 1)
    assert json.loads(OnlineItemTexts(stored, BATCH, 1).text(row)) == item
    read = OnlineItems(stored).read(item)
    assert (read.row.values, read.row_checksum, read.is_intact) == (row.values, line.checksum, True)


@pytest.mark.parametrize(
    ("line", "stored"),
    [
        ('"bounded":1e-131', {"bounded": 1e-9}),
        ('"bounded":1e-129', {"bounded": 1e-9}),
        ('"bounded":-1e300,"given":null', {"bounded": 1e-9}),
        ('"bounded":1e300', {"bounded": 0.9}),
        ('"left_out":NaN', {}),
        ('"left_out":"no number"', {}),
        ('"left_out":{"a":[Infinity]}', {}),
        ('"given":1e-131', None),
        ('"bounded":1e-400', None),
        ('"bounded":NaN', None),
        ('"named":1e-131', None),
        ('"left_out":NaN,"unknown":1', None),
        ('"left_out":NaN,"row_checksum":1', None),
    ],
)
def test_clamped_and_dropped_values_do_not_refuse_a_row(line: str, stored: dict[str, Any] | None) -> None:
    """Invalid values that a rule clamps or drops do not refuse a row, but remaining ones do."""
    text = f'{{"flight":"F",{line}}}'
    if stored is None:
        with pytest.raises(InvalidRowError) as caught:
            cleaned(text, *BOUNDED.rules, schema=BOUNDED_SCHEMA)
        assert caught.value.checksum == refused_checksum(text.encode())
    else:
        found = cleaned(text, *BOUNDED.rules, schema=BOUNDED_SCHEMA)
        assert found == {"flight": "F", "given": 0.5, **stored}


def test_rules_round_trip_as_text_and_argument() -> None:
    """Rules survive the registry's text and a job's argument, and malformed ones are refused."""
    rules = Cleaning(
        (rule("carrier", default="it's \u2708 -- {}"), rule("seats", cast="double", minimum="-1.50"))
    )
    assert Cleaning.parse(rules.to_text()) == rules
    argument = rules.to_argument()
    assert argument is not None
    assert argument.isascii()
    assert not set(argument) & set("\"' {}")
    assert Cleaning.from_argument(argument) == rules
    assert (NO_CLEANING.to_text(), NO_CLEANING.to_argument()) == ("{}", None)
    for kept in (None, "{}"):
        assert recorded_cleaning(kept).stored_schema(FULL_SCHEMA) is FULL_SCHEMA
    for broken in ("[", "[]", '{"columns":[{"colour":"red"}]}'):
        with pytest.raises(SchemaError):
            Cleaning.parse(broken)
    with pytest.raises(SchemaError):
        Cleaning.from_argument("e30=e")


@pytest.mark.parametrize(
    ("members", "member", "what"),
    [
        ({"column": "colour", "drop": True}, "column", "colour is not a column"),
        ({"column": "carrier"}, "column", "carrier has a cleaning rule that does nothing"),
        ({"column": "flight", "drop": True}, "drop", "flight is the key, which cannot be dropped"),
        ({"column": "carrier", "drop": True, "trim": True}, "drop", "nothing else can be done to it"),
        ({"column": "flight", "default": "F"}, "default", "flight is the key, which has no default"),
        ({"column": "flight", "cast": "long"}, "cast", "flight is the key, which has no cast"),
        ({"column": "seats", "trim": True}, "trim", "seats is a long, but only a string can be trimmed"),
        (
            {"column": "seats", "cast": "number"},
            "cast",
            "seats cannot be cast: 'number' is not a column type",
        ),
        ({"column": "seats", "cast": "long"}, "cast", "can be cast to string, decimal, double, not to long"),
        ({"column": "probability", "cast": "decimal(7,2)"}, "cast", "can be cast to nothing"),
        ({"column": "carrier", "minimum": "1"}, "minimum", "carrier is a string, not a number"),
        ({"column": "seats", "minimum": "1.5"}, "minimum", "seats has the minimum '1.5'"),
        ({"column": "seats", "minimum": "5", "maximum": "4"}, "minimum", "5 but the smaller maximum 4"),
        (
            {"column": "seats", "default": "none"},
            "default",
            "seats has the default 'none', which is not a number such as -12.5",
        ),
        ({"column": "reasons", "default": "{}"}, "default", "reasons has the default '{}'"),
        ({"column": "late", "default": "1"}, "default", "which is neither true nor false"),
    ],
)
def test_unsuitable_rule_is_refused(members: dict[str, Any], member: str, what: str) -> None:
    """A rule that does not fit its column is refused, and the error names the rule and its member."""
    members = dict(members)
    rules = Cleaning((rule("day", rename="date"), rule(members.pop("column"), **members)))
    with pytest.raises(InvalidCleaningError) as caught:
        rules.stored_schema(FULL_SCHEMA)
    assert (caught.value.rule, caught.value.member) == (1, member)
    assert what in caught.value.what


@pytest.mark.parametrize("name", ["seats", "row_checksum", "stored_checksum", "Air line"])
def test_invalid_new_name_is_refused(name: str) -> None:
    """A column cannot be renamed to a taken, reserved or malformed name."""
    with pytest.raises(SchemaError):
        Cleaning((rule("carrier", rename=name),)).stored_schema(FULL_SCHEMA)


def test_columns_may_take_each_others_names() -> None:
    """Renamed columns may swap names, because only the final names must be unique."""
    rules = Cleaning((rule("carrier", rename="day"), rule("day", rename="carrier")))
    schema = rules.stored_schema(FULL_SCHEMA)
    assert schema.columns[1].type == ColumnType.parse("string")
    assert schema.names[1] == "day"


def test_malformed_rules_are_reported_plainly() -> None:
    """Malformed cleaning rules in a batch's record are refused with a readable message."""
    whole = {"columns": [{"column": "carrier", "trim": True}]}
    messages = refusals(lambda content: Cleaning.parse(content.decode(errors="replace")), whole, SchemaError)
    # Six of the 53 documents are valid rules, for example `{}` and rules of another column.
    assert len(messages) == 47
    with pytest.raises(SchemaError, match="trim is a text, not true or false"):
        Cleaning.parse('{"columns": [{"column": "carrier", "trim": "yes"}]}')
