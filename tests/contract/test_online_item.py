"""Tests of rows as DynamoDB items and as written lines."""

from __future__ import annotations

import json
import math
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from boto3.dynamodb.types import TypeDeserializer
from hypothesis import given

from prediction_contract.rows.checksums import refused_checksum
from prediction_contract.rows.prediction_line import prediction_line
from prediction_contract.rows.row_contract import row_contract
from prediction_contract.stores.online_item import DamagedItemError, OnlineItems
from prediction_contract.text.canonical_json import parse_json
from tests.contract.prediction_rows import FULL_SCHEMA, ROWS, json_text

BATCH = "20130201T060000Z-0123abcd"
CONTRACT = row_contract(FULL_SCHEMA)
ITEMS = OnlineItems(FULL_SCHEMA)


def as_dynamodb_returns(attribute: dict[str, Any]) -> dict[str, Any]:
    """Return an attribute with numbers as DynamoDB spells them: plain digits without trailing zeros."""
    ((kind, value),) = attribute.items()
    if kind == "N":
        text = format(Decimal(value), "f")
        return {"N": text.rstrip("0").rstrip(".") if "." in text else text}
    if kind == "L":
        return {"L": [as_dynamodb_returns(element) for element in value]}
    if kind == "M":
        return {"M": {name: as_dynamodb_returns(member) for name, member in value.items()}}
    return attribute


@given(ROWS)
def test_row_survives_item_and_answer(row: dict[str, Any]) -> None:
    """A row that is stored as an item and rendered as JSON keeps all values and its checksum."""
    accepted = CONTRACT.accept(json_text(row).encode())
    item = ITEMS.build(accepted, BATCH, 1_700_000_000)
    stored = ITEMS.read({name: as_dynamodb_returns(json.loads(json.dumps(item[name]))) for name in item})
    assert stored.row == accepted
    assert stored.row.values == accepted.values
    assert stored.is_intact
    assert (stored.batch_id, stored.expires_at) == (BATCH, 1_700_000_000)
    answer = ITEMS.render_json(stored.row)
    document = parse_json(answer.encode())
    assert isinstance(document, dict)
    assert list(document) == list(FULL_SCHEMA.names)
    assert CONTRACT.accept(answer.encode()) == accepted


@given(ROWS)
def test_boto3_reads_the_same_values(row: dict[str, Any]) -> None:
    """AWS's own deserialiser reads the same numbers and texts from an item."""
    accepted = CONTRACT.accept(json_text(row).encode())
    item = ITEMS.build(accepted, BATCH, 1)
    read = {name: TypeDeserializer().deserialize(value) for name, value in item.items()}
    assert read["entity_id"] == accepted.key
    assert read["row_checksum"] == accepted.checksum
    for name in ("carrier", "seats", "fare", "serial", "late", "reasons"):
        assert read.get(name) == accepted.values[name]


def test_numbers_keep_every_digit() -> None:
    """Large integers, decimals and doubles are stored and rendered without rounding."""
    line = (
        '{"flight":"A","seats":9007199254740993,"serial":99999999999999999999999999999999999999,'
        '"fare":1.50,"probability":0.1,"reasons":{"deep":[12345678901234567890.1234567890,null]}}'
    )
    item = ITEMS.build(CONTRACT.accept(line.encode()), BATCH, 1)
    assert item["fare"] == {"N": "1.5"}
    assert ITEMS.render_json(ITEMS.read(item).row) == (
        '{"flight":"A","carrier":null,"seats":9007199254740993,"fare":1.5,'
        '"serial":99999999999999999999999999999999999999,"probability":0.1,"late":null,"day":null,'
        '"departs":null,"reasons":{"deep":[12345678901234567890.123456789,null]}}'
    )


def test_altered_value_is_detected() -> None:
    """An item whose value changed in the store no longer matches its checksum."""
    item = ITEMS.build(CONTRACT.accept(b'{"flight":"A","seats":5}'), BATCH, 1)
    item["seats"] = {"N": "6"}
    assert not ITEMS.read(item).is_intact


def test_unknown_attributes_are_ignored() -> None:
    """Attributes that replication adds, and nulls, do not change the row that is read."""
    row = CONTRACT.accept(b'{"flight":"A","seats":5}')
    item = ITEMS.build(row, BATCH, 1) | {"aws:rep:updatetime": {"N": "1"}, "carrier": {"NULL": True}}
    assert ITEMS.read(item).row == row


@pytest.mark.parametrize(
    "change",
    [
        {"entity_id": None},
        {"batch_id": None},
        {"batch_id": {"S": "x"}},
        {"row_checksum": None},
        {"expires_at": {"N": "x"}},
        {"seats": {"S": "5"}},
        {"seats": {"SS": ["5"]}},
        {"departs": {"S": "soon"}},
    ],
)
def test_damaged_items_are_refused(change: dict[str, dict[str, Any] | None]) -> None:
    """A damaged item is refused, and the error says to load the batch again."""
    item: dict[str, Any] = ITEMS.build(CONTRACT.accept(b'{"flight":"A","seats":5}'), BATCH, 1) | change
    with pytest.raises(DamagedItemError, match="load the batch again"):
        ITEMS.read({name: value for name, value in item.items() if value is not None})


def test_written_lines_are_accepted_with_their_checksum() -> None:
    """A line written from Python values is accepted as the same row, and states its checksum."""
    values = {
        "flight": "Zürich-1",
        "seats": 2**53 + 1,
        "fare": Decimal("1.50"),
        "probability": 0.1,
        "day": date(2013, 2, 1),
        "departs": datetime(2013, 2, 1, 5, tzinfo=UTC),
        "late": True,
        "carrier": None,
        "reasons": {"scores": (0.25, None)},
    }
    line = prediction_line(CONTRACT, values)
    row = CONTRACT.accept(line.content)
    assert (line.refusal, line.checksum, line.row) == (None, row.checksum, row)
    assert json.loads(line.content)["row_checksum"] == row.checksum
    assert {name: row.values[name] for name in values if name != "reasons"} == {
        name: value for name, value in values.items() if name != "reasons"
    }


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (math.nan, "not_a_number"),
        (-math.inf, "not_a_number"),
        (Decimal("NaN"), "not_a_number"),
        ("x", "wrong_type"),
        pytest.param(10**5000, "number_too_long", id="thousands of digits"),
        ([0.5, 0.25], "wrong_type"),
    ],
)
def test_unstorable_values_are_written_for_the_quarantine(value: object, reason: str) -> None:
    """A value that no store can hold is still written, with one checksum for producer and loader."""
    line = prediction_line(CONTRACT, {"flight": "A", "probability": value})
    assert (line.refusal, line.row) == (reason, None)
    assert line.checksum == refused_checksum(line.content)
    assert b"row_checksum" not in line.content


@pytest.mark.parametrize("stated", [None, CONTRACT.accept(b'{"flight":"A"}').checksum])
def test_given_checksum_is_not_written_twice(stated: int | None) -> None:
    """A row that was read from a batch with its checksum can be written again and is accepted."""
    line = prediction_line(CONTRACT, {"flight": "A", "row_checksum": stated})
    assert CONTRACT.accept(line.content) == line.row


@pytest.mark.parametrize("value", [{"A"}, np.longdouble(1)])
def test_value_without_json_form_is_refused(value: object) -> None:
    """A value that JSON cannot express without loss raises an error that names the column."""
    with pytest.raises(TypeError, match=r"^column flight holds a \w+, which JSON cannot express$"):
        prediction_line(CONTRACT, {"flight": value})
