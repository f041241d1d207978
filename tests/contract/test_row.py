"""Tests of the rows that the stores can hold."""

from __future__ import annotations

import json
import random
import unicodedata
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prediction_contract.errors import InvalidRowError
from prediction_contract.rows.checksums import refused_checksum
from prediction_contract.rows.row_contract import REASONS, RowContract, row_contract
from prediction_contract.rows.schema import PredictionSchema
from tests.contract.prediction_rows import FULL_SCHEMA, KEYS, ROWS, column, json_text

CONTRACT = row_contract(FULL_SCHEMA)


def line_with(**members: str) -> bytes:
    """Return a line with a key and these members, given as JSON text."""
    return (
        "{" + ",".join([f'"{name}":{text}' for name, text in {"flight": '"AA"', **members}.items()]) + "}"
    ).encode()


@given(ROWS)
def test_storable_rows_are_accepted(row: dict[str, Any]) -> None:
    """Every storable value is accepted unchanged, in any order of members; an absent value is None."""
    accepted = CONTRACT.accept(json_text(row).encode() + b"\n")
    parsers = {"day": date.fromisoformat, "departs": datetime.fromisoformat}
    for name in FULL_SCHEMA.names:
        written = row.get(name)
        assert accepted.values[name] == (parsers[name](written) if written and name in parsers else written)
    members = list(row.items())
    random.Random(1).shuffle(members)
    assert CONTRACT.accept(json_text(dict(members)).encode()) == accepted


@given(ROWS, st.data())
def test_checksum_changes_with_each_value(row: dict[str, Any], data: st.DataObject) -> None:
    """Changing, adding or dropping a value changes the checksum; null and absent values are equal."""
    accepted = CONTRACT.accept(json_text(row).encode())
    changed = dict(row)
    name = data.draw(st.sampled_from(["flight", "carrier", "seats", "late", "serial"]))
    replacement = {"flight": "x", "carrier": "y", "seats": 1, "late": True, "serial": 10**37 + 1}[name]
    changed[name] = replacement if row.get(name) != replacement else None if name != "flight" else "z"
    assert CONTRACT.accept(json_text(changed).encode()).checksum != accepted.checksum
    full = {name: row.get(name) for name in FULL_SCHEMA.names}
    assert CONTRACT.accept(json_text(full).encode()).checksum == accepted.checksum


@pytest.mark.parametrize(
    ("name", "spellings"),
    [
        ("fare", ["1.50", "1.5", "15e-1"]),
        ("probability", ["0.5", "5e-1", "0.50"]),
        ("probability", ["0.0", "-0.0", "0", "-0"]),
        ("probability", ["9007199254740993", "9007199254740992.0"]),
        ("seats", ["100", "1e2", "100.0"]),
        (
            "departs",
            ['"2013-02-01T05:00:00Z"', '"2013-02-01T00:00:00.000-05:00"', '"2013-02-01T05:00:00.000000000Z"'],
        ),
        ("reasons", ['{"a":1.0,"b":2}', '{"b":2.00,"a":1}']),
        ("reasons", ["1e60", "1" + "0" * 60]),
        ("carrier", ['"\\u00e9"', '"é"']),
    ],
)
def test_equal_values_have_one_checksum(name: str, spellings: list[str]) -> None:
    """Spellings that are equal under the declared type have the same checksum."""
    assert len({CONTRACT.accept(line_with(**{name: spelling})).checksum for spelling in spellings}) == 1


def test_composed_and_decomposed_keys_are_two_entities() -> None:
    """Keys are compared by code point: NFC and NFD forms stay apart."""
    forms = [unicodedata.normalize(form, "Zürich") for form in ("NFC", "NFD")]
    rows = [CONTRACT.accept(json.dumps({"flight": form}).encode()) for form in forms]
    assert [row.key for row in rows] == forms
    assert rows[0] != rows[1]


@pytest.mark.parametrize(
    ("line", "reason", "at_fault"),
    [
        (b'{"flight":"AA","seats":1', "unparsable", None),
        (b"", "unparsable", None),
        (b'{"flight":"\xff"}', "unparsable", None),
        (b'{"flight":"\\ud800"}', "unparsable", None),
        (b"[1]", "not_an_object", None),
        (b'"AA"', "not_an_object", None),
        (b'{"flight":"AA","flight":"BB"}', "duplicate_name", None),
        (b'{"seats":1}', "missing_key", "flight"),
        (b'{"flight":null}', "missing_key", "flight"),
        (b'{"flight":""}', "empty_key", "flight"),
        (b'{"flight":7}', "wrong_type", "flight"),
        (json.dumps({"flight": "é" * 1025}).encode(), "key_too_long", "flight"),
        (line_with(other="1"), "unknown_column", "'other'"),
        (line_with(batch_id='"x"'), "unknown_column", "'batch_id'"),
        (line_with(probability="NaN"), "not_a_number", None),
        (line_with(probability="-Infinity"), "not_a_number", None),
        (line_with(probability='"0.5"'), "wrong_type", "probability"),
        (line_with(probability="true"), "wrong_type", "probability"),
        (line_with(probability="1e126"), "number_too_long", "probability"),
        (line_with(probability="1e-131"), "number_too_long", "probability"),
        (line_with(probability="1e-400"), "number_too_long", "probability"),
        (line_with(probability="1e400"), "number_too_long", "probability"),
        (line_with(probability="7" * 50), "number_too_long", "probability"),
        (line_with(probability="0." + "7" * 50), "number_too_long", "probability"),
        (line_with(seats="9223372036854775808"), "out_of_range", "seats"),
        (line_with(seats="1.5"), "wrong_type", "seats"),
        (line_with(seats="1" * 50), "number_too_long", "seats"),
        (line_with(seats="1e9999999999999999999999"), "number_too_long", "seats"),
        (line_with(seats="1" * 5000), "number_too_long", None),
        (line_with(fare="0.12345678901"), "out_of_range", "fare"),
        (line_with(fare="1e28"), "out_of_range", "fare"),
        (line_with(fare="1e-50"), "out_of_range", "fare"),
        (line_with(serial="1" * 39), "number_too_long", "serial"),
        (line_with(late="1"), "wrong_type", "late"),
        (line_with(day='"2013-02-29"'), "wrong_type", "day"),
        (line_with(day='"20130201"'), "wrong_type", "day"),
        (line_with(day='"2013-W05-5"'), "wrong_type", "day"),
        (line_with(departs='"2013-02-01T05:00:00"'), "wrong_type", "departs"),
        (line_with(departs='"2013-02-01T05:00:00.1234567Z"'), "wrong_type", "departs"),
        (line_with(departs='"0001-01-01T00:00:00+01:00"'), "wrong_type", "departs"),
        (line_with(departs='"2013-02-01T05:00:00+00:60"'), "wrong_type", "departs"),
        (line_with(departs='"2016-12-31T23:59:60Z"'), "wrong_type", "departs"),
        (line_with(departs='"2013-02-01T05:00:00Z\\n"'), "wrong_type", "departs"),
        (line_with(departs="1359694800"), "wrong_type", "departs"),
        (line_with(reasons="[" * 32 + "]" * 32), "too_deep", "reasons"),
        (line_with(reasons="[" * 100_000), "too_deep", None),
        (line_with(reasons='{"":1}'), "empty_name", "reasons"),
        (line_with(flight='"A\\u0000"'), "nul_character", "flight"),
        (line_with(carrier='"\\u0000"'), "nul_character", "carrier"),
        (line_with(reasons='{"a":["\\u0000"]}'), "nul_character", "reasons"),
        (line_with(reasons='{"\\u0000":1}'), "nul_character", "reasons"),
        (line_with(reasons="[0." + "1" * 39 + "]"), "number_too_long", "reasons"),
        (line_with(reasons='{"' + "é" * 32_768 + '":1}'), "value_too_large", "reasons"),
        (line_with(carrier='"' + "x" * 500_000 + '"'), "value_too_large", None),
        (line_with(reasons="[" + ",".join(["1.5"] * 120_000) + "]"), "value_too_large", None),
        (b" " * (5 * 1024 * 1024), "value_too_large", None),
        (b"[" + b"1," * 420_000, "value_too_large", None),
        (line_with(row_checksum="1"), "checksum_mismatch", None),
        (line_with(row_checksum='"x"'), "checksum_mismatch", None),
    ],
)
def test_refusals_have_stable_reasons(line: bytes, reason: str, at_fault: str | None) -> None:
    """A row that a store cannot hold is refused with the reason that the quarantine counts by."""
    with pytest.raises(InvalidRowError) as refusal:
        CONTRACT.accept(line)
    assert (refusal.value.reason, refusal.value.column) == (reason, at_fault)
    assert reason in REASONS


@pytest.mark.parametrize(
    "line",
    [
        line_with(probability="1e125", serial="9" * 38, seats="-9223372036854775808"),
        line_with(probability="1e-130"),
        line_with(reasons='{"x' + "é" * 32_767 + '":1}'),
        line_with(reasons="[" * 31 + "]" * 31),
        line_with(carrier='"' + "x" * 409_000 + '"'),
        line_with(carrier='""'),
        line_with(carrier='"\\\\u0000\\u0001"', reasons='"\\\\u0000"'),
        json.dumps({"flight": "é" * 1024}).encode(),
    ],
)
def test_values_at_the_limits_are_accepted(line: bytes) -> None:
    """A value exactly at a store's limit is accepted."""
    assert CONTRACT.accept(line).key


def test_item_limit_counts_names_and_own_attributes() -> None:
    """The 400 KB limit includes attribute names and the attributes that the platform adds."""
    assert CONTRACT.accept(line_with(carrier=f'"{"x" * 409_450}"'))
    with pytest.raises(InvalidRowError, match="bytes"):
        CONTRACT.accept(line_with(carrier=f'"{"x" * 409_590}"'))


def test_required_columns_need_a_value() -> None:
    """A row without a value for a required column is refused."""
    contract = RowContract(
        PredictionSchema((column("id", "string", nullable=False), column("n", "long", nullable=False)), "id")
    )
    for line in (b'{"id":"a"}', b'{"id":"a","n":null}'):
        with pytest.raises(InvalidRowError) as refusal:
            contract.accept(line)
        assert (refusal.value.reason, refusal.value.column) == ("null_not_allowed", "n")


def test_decimal_of_fraction_digits_only_holds_less_than_one() -> None:
    """A `decimal(2,2)` column accepts 0.25 and refuses 1."""
    contract = RowContract(
        PredictionSchema((column("id", "string", nullable=False), column("n", "decimal(2,2)")), "id")
    )
    assert contract.accept(b'{"id":"a","n":0.250}').values["n"] == Decimal("0.25")
    with pytest.raises(InvalidRowError):
        contract.accept(b'{"id":"a","n":1}')


def test_timestamps_become_utc() -> None:
    """A timestamp with an offset is converted to UTC."""
    row = CONTRACT.accept(line_with(departs='"2013-02-01T00:30:00.5-05:00"'))
    assert row.values["departs"] == datetime(2013, 2, 1, 5, 30, 0, 500_000, tzinfo=UTC)
    assert b'"departs":"2013-02-01T05:30:00.500000Z"' in row.canonical


@given(st.binary())
def test_any_bytes_are_accepted_or_refused_with_a_known_reason(line: bytes) -> None:
    """Any bytes are accepted or refused with a known reason; no other exception is raised."""
    reason = None
    try:
        CONTRACT.accept(line)
    except InvalidRowError as refusal:
        reason = refusal.reason
    assert reason is None or reason in REASONS


@given(KEYS)
def test_refused_checksum_ignores_the_line_ending(text: str) -> None:
    """The checksum of a refused line does not depend on its line ending."""
    line = b"x" + text.encode().rstrip(b"\r\n")
    assert refused_checksum(line) == refused_checksum(line + b"\n") == refused_checksum(line + b"\r\n")
