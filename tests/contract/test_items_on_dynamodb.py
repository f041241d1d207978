"""Tests that rows stored as items through DynamoDB's API are read back unchanged."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from prediction_contract.errors import InvalidRowError
from prediction_contract.limits import MAX_ITEM_BYTES
from prediction_contract.rows.row_contract import row_contract
from prediction_contract.stores.online_item import BATCH_ATTRIBUTE, KEY_ATTRIBUTE, OnlineItems
from tests.contract.prediction_rows import FULL_SCHEMA, ROWS, json_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from prediction_contract.rows.row_contract import Row

pytestmark = pytest.mark.stack

BATCH = "20130201T060000Z-0123abcd"
EXPIRES_AT = 4_000_000_000
CONTRACT = row_contract(FULL_SCHEMA)
ITEMS = OnlineItems(FULL_SCHEMA)
_ITEMS_A_CALL = 25
_WRITE_SECONDS = 60


class OnlineTable:
    """A table with the online table's keys, accessed with boto3's low-level client."""

    def __init__(self, client: Any, name: str) -> None:
        self._client = client
        self._name = name

    def write(self, rows: Sequence[Row]) -> None:
        """Write the rows as items, 25 per call, until DynamoDB has accepted all."""
        deadline = time.monotonic() + _WRITE_SECONDS
        waiting = [{"PutRequest": {"Item": ITEMS.build(row, BATCH, EXPIRES_AT)}} for row in rows]
        while waiting:
            assert time.monotonic() < deadline
            answer = self._client.batch_write_item(RequestItems={self._name: waiting[:_ITEMS_A_CALL]})
            waiting = waiting[_ITEMS_A_CALL:] + answer["UnprocessedItems"].get(self._name, [])

    def read(self, key: str) -> dict[str, Any]:
        """Return the item of a key."""
        names = {KEY_ATTRIBUTE: {"S": key}, BATCH_ATTRIBUTE: {"S": BATCH}}
        return self._client.get_item(TableName=self._name, Key=names, ConsistentRead=True)["Item"]


@pytest.fixture(scope="module")
def online_table(aws_client: Callable[[str], Any]) -> Iterator[OnlineTable]:
    """An empty online table."""
    client, name = aws_client("dynamodb"), f"online-{uuid.uuid4().hex[:8]}"
    keys = {KEY_ATTRIBUTE: "HASH", BATCH_ATTRIBUTE: "RANGE"}
    client.create_table(
        TableName=name,
        KeySchema=[{"AttributeName": key, "KeyType": kind} for key, kind in keys.items()],
        AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in keys],
        BillingMode="PAY_PER_REQUEST",
    )
    client.get_waiter("table_exists").wait(TableName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    yield OnlineTable(client, name)
    client.delete_table(TableName=name)


def assert_survives(table: OnlineTable, rows: Sequence[Row]) -> None:
    """Write the rows, and assert that they are read back with the same values, types and checksums."""
    table.write(rows)
    for row in rows:
        stored = ITEMS.read(table.read(row.key))
        assert stored.row == row
        assert stored.row.values == row.values
        assert {name: type(value) for name, value in stored.row.values.items()} == {
            name: type(value) for name, value in row.values.items()
        }
        assert stored.is_intact
        assert (stored.batch_id, stored.expires_at, stored.row_checksum) == (BATCH, EXPIRES_AT, row.checksum)
        assert CONTRACT.accept(ITEMS.render_json(stored.row).encode()) == row


@settings(
    max_examples=12,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)
@given(batch=st.lists(ROWS, min_size=30, max_size=60, unique_by=lambda row: row["flight"]))
def test_every_row_survives_dynamodb(online_table: OnlineTable, batch: list[dict[str, Any]]) -> None:
    """Rows of all column types are read back equal, with their checksums."""
    assert_survives(online_table, [CONTRACT.accept(json_text(row).encode()) for row in batch])


@pytest.mark.parametrize(
    "members",
    [
        '"probability":1e125,"serial":99999999999999999999999999999999999999,"seats":-9223372036854775808',
        '"probability":-1e-130,"fare":-0.0000000001,"seats":9223372036854775807',
        '"probability":-0.0,"fare":0.00,"carrier":""',
        '"reasons":[9.9999999999999999999999999999999999999E+125,1E-130,-1E-130]',
        f'"reasons":{"[" * 31}{"]" * 31}',
        '"reasons":' + '{"a":' * 30 + '[1,null,"",true]' + "}" * 30,
        '"reasons":{"a b":{"c.d":{"#e":{":f":1}}},"select":"\\u0001","\\u2028":null}',
        '"departs":"0001-01-01T00:00:00Z","day":"9999-12-31","late":false',
    ],
)
def test_values_at_the_limits_survive_dynamodb(online_table: OnlineTable, members: str) -> None:
    """DynamoDB stores every value at the contract's limits without loss."""
    key = f"limit-{uuid.uuid4().hex}"
    assert_survives(online_table, [CONTRACT.accept(f'{{"flight":"{key}",{members}}}'.encode())])


def test_keys_at_the_limit_survive_dynamodb(online_table: OnlineTable) -> None:
    """Keys of 2,048 bytes are stored, and similar keys, for example in another case, stay distinct."""
    keys = [
        "k" * 2048,
        "é" * 1024,
        "Zürich",
        "Zu\\u0308rich",
        "zürich",
        "a",
        "a ",
        "a\\u0001",
        "a\\u200b",
        "😀",
    ]
    assert_survives(online_table, [CONTRACT.accept(f'{{"flight":"{key}"}}'.encode()) for key in keys])


@pytest.mark.parametrize("shape", ["text", "numbers", "members"])
def test_largest_accepted_row_is_stored(online_table: OnlineTable, shape: str) -> None:
    """DynamoDB accepts the largest row that the contract accepts, whatever the row consists of."""

    def line(size: int) -> bytes:
        values = {
            "text": lambda: f'"carrier":"{"x" * size}"',
            "numbers": lambda: f'"reasons":[{",".join(str(10**37 + number) for number in range(size))}]',
            "members": lambda: (
                f'"reasons":{{{",".join(f"{chr(34)}m{n}{chr(34)}:[null]" for n in range(size))}}}'
            ),
        }
        return f'{{"flight":"{shape}",{values[shape]()}}}'.encode()

    low, high = 1, MAX_ITEM_BYTES if shape == "text" else MAX_ITEM_BYTES // 8
    while high - low > 1:
        middle = (low + high) // 2
        try:
            CONTRACT.accept(line(middle))
            low = middle
        except InvalidRowError:
            high = middle
    assert_survives(online_table, [CONTRACT.accept(line(low))])
