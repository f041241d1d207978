"""The writer of the online table against a table that throttles, fails, and leaves items over."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError

from glue_scripts.errors import LoadFailedError
from glue_scripts.online_loader import REQUEST_ITEMS, OnlineWriter

if TYPE_CHECKING:
    from collections.abc import Callable

TABLE = "online"


class FakeTable:
    """Takes items as DynamoDB does; what is done to each request is decided by its number, from 1."""

    def __init__(self, decide: Callable[[int, list[Any]], Any] = lambda _number, _requests: None) -> None:
        self.items: dict[str, Any] = {}
        self.sizes: list[int] = []
        self._decide = decide
        self._lock = threading.Lock()

    def batch_write_item(self, *, RequestItems: dict[str, Any], ReturnConsumedCapacity: str) -> Any:  # noqa: N803  # boto3's names
        """Take a request, but for what the decision keeps back."""
        assert ReturnConsumedCapacity == "TOTAL"
        requests = RequestItems[TABLE]
        with self._lock:
            self.sizes.append(len(requests))
            left = self._decide(len(self.sizes), requests) or []
            for request in requests:
                if request not in left:
                    item = request["PutRequest"]["Item"]
                    self.items[item["entity_id"]["S"]] = item
        taken = len(requests) - len(left)
        return {
            "UnprocessedItems": {TABLE: left} if left else {},
            "ConsumedCapacity": [{"TableName": TABLE, "CapacityUnits": float(taken)}],
        }


def items(count: int) -> list[dict[str, Any]]:
    """Return items of different keys."""
    return [{"entity_id": {"S": f"E-{number}"}, "batch_id": {"S": "b"}} for number in range(count)]


def aws_error(code: str, status: int = 400) -> ClientError:
    """Return an error as boto3 raises it."""
    answer: Any = {"Error": {"Code": code, "Message": "m"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, "BatchWriteItem")


def writer(table: FakeTable, **options: Any) -> OnlineWriter:
    """Return a writer that does not really wait."""
    return OnlineWriter(table, TABLE, **{"sleep": lambda _seconds: None, **options})


def test_all_items_are_written_in_requests_of_25() -> None:
    """What is acknowledged is there, and DynamoDB's limit of a request is kept."""
    table = FakeTable()
    one = writer(table)
    assert one.write_items(iter(items(103))) == 103
    assert len(table.items) == 103
    assert max(table.sizes) == REQUEST_ITEMS
    assert len(table.sizes) == 5
    assert (one.counts.acknowledged, one.counts.retried, one.counts.write_units) == (103, 0, 103)


def test_what_is_left_over_is_sent_again_until_all_is_there() -> None:
    """Every other request leaves items over; none is lost, and the retries are counted."""
    table = FakeTable(lambda number, requests: requests[5:] if number % 2 else None)
    one = writer(table)
    assert one.write_items(items(200)) == 200
    assert len(table.items) == 200
    assert one.counts.retried > 0


@pytest.mark.parametrize(
    "error",
    [
        aws_error("ThrottlingException"),
        aws_error("ProvisionedThroughputExceededException"),
        aws_error("Strange", 503),
        EndpointConnectionError(endpoint_url="http://127.0.0.1"),
    ],
)
def test_passing_errors_are_retried(error: Exception) -> None:
    """Throttling, server errors and broken connections cost time and no item."""

    def fail_thrice(number: int, _requests: list[Any]) -> None:
        if number <= 3:
            raise error

    table = FakeTable(fail_thrice)
    assert writer(table).write_items(items(30)) == 30
    assert len(table.items) == 30


def test_items_that_are_never_taken_are_named_at_the_deadline() -> None:
    """The load fails loudly with the number and the first keys of what is missing."""
    stubborn = FakeTable(
        lambda _number, requests: [
            one for one in requests if one["PutRequest"]["Item"]["entity_id"]["S"] in {"E-3", "E-7"}
        ]
    )
    with pytest.raises(LoadFailedError, match=r"2 items of online were not acknowledged .*E-3, E-7"):
        writer(stubborn, patience_seconds=0.5, sleep=time.sleep).write_items(items(30))


@pytest.mark.parametrize("error", [aws_error("ValidationException"), NoCredentialsError()])
def test_a_refusal_is_not_retried(error: Exception) -> None:
    """What no retry can cure fails at once."""

    def fail(_number: int, _requests: list[Any]) -> None:
        raise error

    table = FakeTable(fail)
    with pytest.raises(LoadFailedError, match="10 items of online"):
        writer(table).write_items(items(10))
    assert len(table.sizes) == 1


def test_a_rate_is_not_exceeded() -> None:
    """At 250 items a second, 100 items take at least the time of the three requests before the last."""
    started = time.monotonic()
    writer(FakeTable(), items_per_second=250).write_items(items(100))
    assert time.monotonic() - started >= 0.29


def test_memory_does_not_grow_with_the_items() -> None:
    """Items are taken from their source only as fast as they are written."""
    taken = 0
    release = threading.Event()

    def source() -> Any:
        nonlocal taken
        for item in items(5000):
            taken += 1
            yield item

    def wait(_number: int, _requests: list[Any]) -> None:
        release.wait(20)

    thread = threading.Thread(target=lambda: writer(FakeTable(wait)).write_items(source()))
    thread.start()
    time.sleep(0.3)
    seen = taken
    release.set()
    thread.join(60)
    assert 0 < seen < 1000
    assert taken == 5000
