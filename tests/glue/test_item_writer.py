"""Tests of the online table's writer against a server that throttles, fails, or leaves items unprocessed."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import pytest

from glue_scripts.dynamodb import dynamodb_retries
from glue_scripts.dynamodb.item_writer import OnlineWriter
from glue_scripts.dynamodb.write_pace import Window
from glue_scripts.errors import LoadFailedError
from prediction_contract.limits import MAX_BATCH_WRITE_BYTES, MAX_BATCH_WRITES
from prediction_contract.rows.row_contract import row_contract
from prediction_contract.rows.schema import Column, ColumnType, Kind, PredictionSchema
from prediction_contract.stores.online_item_text import OnlineItemTexts
from tests.fakes.dynamodb_server import TABLE, DynamoDbServer, dynamodb_server, endpoint


def items(count: int, size: int = 0) -> list[tuple[str, str]]:
    """Return items with distinct keys, each with a text of that many characters."""
    return [
        (f"E-{number}", json.dumps({"entity_id": {"S": f"E-{number}"}, "text": {"S": "x" * size}}))
        for number in range(count)
    ]


def writer(server: DynamoDbServer, **options: Any) -> OnlineWriter:
    """Return a writer to a server."""
    return OnlineWriter(endpoint(server.url), TABLE, **options)


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dynamodb_retries, "_LONGEST_PAUSE_SECONDS", 0.1)


def test_all_items_are_written_in_requests_of_25() -> None:
    """Requests have 25 items, connections are reused, and the counts match what the table holds."""
    with dynamodb_server() as server:
        one = writer(server)
        assert one.write_items(iter(items(1003))) == 1003
        assert len(server.items) == 1003
        assert max(server.sizes) == MAX_BATCH_WRITES
        assert len(server.sizes) == 41
        assert server.connections < 20
        counts = one.counts
    assert (counts.acknowledged, counts.retried, counts.write_units) == (1003, 0, 1003)
    assert counts.seconds > 0


def test_requests_stay_within_dynamodbs_size_limit() -> None:
    """Two items of exactly the limit go into one request; with one more byte each has its own."""
    with dynamodb_server() as server:
        one = writer(server)
        one.write_items(items(2))
        room = MAX_BATCH_WRITE_BYTES - server.body_sizes[0]
        for excess in (0, 1):
            (first, text), second = items(2)
            filled = text.replace('"S": ""', f'"S": "{"x" * (room + excess)}"')
            assert one.write_items([(first, filled), second]) == 2
    assert server.sizes == [2, 2, 1, 1]
    assert server.body_sizes[1] == MAX_BATCH_WRITE_BYTES


ROWS_SCHEMA = PredictionSchema(
    (Column("entity_id", ColumnType(Kind.STRING), nullable=False), Column("more", ColumnType(Kind.JSON))),
    "entity_id",
)


def item_of_row(more: str) -> str:
    """Return the item of a valid row with a JSON value."""
    row = row_contract(ROWS_SCHEMA).accept(f'{{"entity_id":"E-0","more":{more}}}'.encode())
    return OnlineItemTexts(ROWS_SCHEMA, "20130201T060000Z-00000001", 1).text(row)


def test_rows_too_large_for_one_request_are_split() -> None:
    """Rows that grow when escaped, and exceed a request together, are written by several requests."""
    text = item_of_row('"' + "\\u0001" * 400_000 + '"')
    heavy = [(f"E-{number}", text.replace("E-0", f"E-{number}")) for number in range(7)]
    assert sum(len(text) for _, text in heavy) > MAX_BATCH_WRITE_BYTES
    with dynamodb_server() as server:
        assert writer(server).write_items(heavy) == 7
        assert len(server.items) == 7
        assert sorted(server.sizes) == [3, 4]


@pytest.mark.parametrize(
    "more",
    [
        f"[{','.join(['null'] * 204_000)}]",
        f"[{','.join(['true'] * 204_000)}]",
        '"' + "\\u0001" * 409_000 + '"',
    ],
    ids=["nulls", "booleans", "control characters"],
)
def test_largest_row_fits_into_a_request(more: str) -> None:
    """The values that grow most when encoded take less than a quarter of a request."""
    assert len(item_of_row(more).encode()) < MAX_BATCH_WRITE_BYTES // 4


def test_unprocessed_items_are_sent_again() -> None:
    """Items that DynamoDB leaves unprocessed are retried until all are written, and retries are counted."""
    with dynamodb_server(lambda number, puts: puts[5:] if number % 2 else None) as server:
        one = writer(server)
        assert one.write_items(items(200)) == 200
        assert len(server.items) == 200
        assert one.counts.retried > 0


@pytest.mark.parametrize(
    "trouble",
    [
        (400, "ThrottlingException"),
        (400, "ProvisionedThroughputExceededException"),
        (400, "ExpiredTokenException"),
        (503, "Strange"),
        (500, ""),
        "reset",
    ],
)
def test_transient_errors_are_retried(trouble: Any) -> None:
    """Throttling, expired tokens, server errors and broken connections lose no item."""
    with dynamodb_server(lambda number, _puts: trouble if number <= 5 else None) as server:
        assert writer(server).write_items(items(80)) == 80
        assert len(server.items) == 80


def test_late_response_is_retried() -> None:
    """A request without a response in time is sent again."""
    with dynamodb_server(lambda number, _puts: time.sleep(2) if number == 1 else None) as server:
        assert writer(server, answer_seconds=0.5).write_items(items(60)) == 60
        assert len(server.sizes) >= 4


def test_unreachable_server_fails_the_load() -> None:
    """If no connection succeeds before the deadline, the error names the missing items."""
    nobody = OnlineWriter(endpoint("http://127.0.0.1:1"), TABLE, patience_seconds=0.5)
    with pytest.raises(LoadFailedError, match=r"10 items of online were not ack.*no connection.*E-0, E-1"):
        nobody.write_items(items(10))


def test_items_unprocessed_at_the_deadline_are_named() -> None:
    """The load fails with the number and the first keys of the missing items."""
    stubborn = {"E-3", "E-7"}

    def keep_back(_number: int, puts: list[Any]) -> list[Any]:
        return [put for put in puts if put["PutRequest"]["Item"]["entity_id"]["S"] in stubborn]

    with (
        dynamodb_server(keep_back) as server,
        pytest.raises(LoadFailedError, match=r"2 items of online were not acknowledged .*E-3, E-7"),
    ):
        writer(server, patience_seconds=0.5).write_items(items(30))


def test_retry_pauses_have_jitter_and_double(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses are random up to a doubling limit, so throttled requests do not return at the same time."""
    spans: list[tuple[float, float]] = []

    def draw(low: float, high: float) -> float:
        spans.append((low, high))
        return 0.0

    monkeypatch.setattr(dynamodb_retries, "_LONGEST_PAUSE_SECONDS", 5.0)
    monkeypatch.setattr(dynamodb_retries.random, "uniform", draw)
    throttled = (400, "ThrottlingException")
    with dynamodb_server(lambda number, _puts: throttled if number <= 9 else None) as server:
        assert writer(server).write_items(items(20)) == 20
    assert spans == [(0, span) for span in (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0)]


def test_waiting_uses_no_cpu() -> None:
    """While it waits for a pause or a response, the writer sleeps."""

    def throttle_then_idle(number: int, _puts: list[Any]) -> Any:
        if number <= 4:
            return (400, "ThrottlingException")
        return time.sleep(1.5)

    with dynamodb_server(throttle_then_idle) as server:
        one = writer(server)
        before = time.thread_time()
        assert one.write_items(items(100)) == 100
        assert time.thread_time() - before < 0.5


@pytest.mark.parametrize("code", ["ValidationException", "AccessDeniedException"])
def test_refused_write_is_not_retried(code: str) -> None:
    """An error that no retry can fix fails at once with DynamoDB's code."""
    with dynamodb_server(lambda _number, _puts: (400, code)) as server:
        with pytest.raises(LoadFailedError, match=f"10 items of online were refused .{code}: m"):
            writer(server).write_items(items(10))
        assert len(server.sizes) == 1


@pytest.mark.parametrize("size", [0, 3000])
def test_write_cap_is_kept_and_used(size: int) -> None:
    """The writer stays within the cap and uses at least half of it."""
    rate, units = 400, 1000
    with dynamodb_server() as server:
        began = time.monotonic()
        one = writer(server, units_per_second=rate)
        count = units if size == 0 else units // 3
        assert one.write_items(items(count, size)) == count
        seconds = time.monotonic() - began
        total = sum(consumed for _, _, consumed in server.requests)
    assert total <= rate * seconds * 1.001
    assert total >= rate * seconds * 0.5
    assert one.counts.write_units == total


def test_write_cap_includes_retried_items() -> None:
    """Only consumed units count against the cap, also those of retried items."""
    with dynamodb_server(lambda number, puts: puts[3:] if number % 3 == 0 else None) as server:
        began = time.monotonic()
        one = writer(server, units_per_second=500)
        assert one.write_items(items(700)) == 700
        seconds = time.monotonic() - began
        total = sum(consumed for _, _, consumed in server.requests)
    assert total == 700
    assert total <= 500 * seconds * 1.001


def test_window_narrows_once_per_round_and_widens_again() -> None:
    """Requests that were in flight together narrow the window only once."""
    window = Window(32)
    numbers = [window.begin() for _ in range(4)]
    assert window.width == 4
    for number in numbers:
        window.narrow(number)
    assert window.width == 2
    for _ in range(200):
        window.widen()
    assert 15 <= window.width <= 32
    for _ in range(20):
        window.narrow(window.begin())
    assert window.width == 1


def test_throttling_reduces_concurrent_requests() -> None:
    """The writer reduces concurrent requests to what the table allows, and loses no item."""
    at_once, lock = [0], threading.Lock()

    def bear_two(_number: int, _puts: list[Any]) -> Any:
        with lock:
            at_once[0] += 1
            present = at_once[0]
        time.sleep(0.01)
        with lock:
            at_once[0] -= 1
        return (400, "ThrottlingException") if present > 2 else None

    with dynamodb_server(bear_two) as server:
        one = writer(server)
        assert one.write_items(items(3000)) == 3000
        assert len(server.items) == 3000
    # With a constant window most requests would be throttled.
    assert one.counts.retried < 3000


def test_memory_does_not_grow_with_the_items() -> None:
    """Items are taken from their source only as fast as they are written."""
    taken = 0
    release = threading.Event()

    def source() -> Any:
        nonlocal taken
        for item in items(5000):
            taken += 1
            yield item

    with dynamodb_server(lambda _number, _puts: release.wait(20) and None) as server:
        thread = threading.Thread(target=lambda: writer(server).write_items(source()))
        thread.start()
        time.sleep(0.5)
        seen = taken
        release.set()
        thread.join(60)
    assert 0 < seen < 1000
    assert taken == 5000
