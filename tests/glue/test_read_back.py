"""Tests of reading items back from a table that throttles, fails, or leaves keys unprocessed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from glue_scripts.dynamodb import dynamodb_retries, read_back
from glue_scripts.errors import LoadFailedError
from glue_scripts.files.part_lines import PartSource
from prediction_contract.manifests.manifest import JsonPart
from tests.contract.prediction_rows import FULL_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Callable

TABLE = "online"
PART = JsonPart("part", 3, 1, "ab" * 32)
SOURCE = PartSource("flight_delay", "20130201T060000Z-0123abcd", "bucket", PART, FULL_SCHEMA)


class FakeTable:
    """Returns each requested item, except those that a function of the request's number holds back."""

    def __init__(self, decide: Callable[[int, list[Any]], list[Any]]) -> None:
        self.requests = 0
        self._decide = decide

    def batch_get_item(self, *, RequestItems: dict[str, Any]) -> Any:  # noqa: N803  # boto3's names
        """Respond as DynamoDB does."""
        keys = RequestItems[TABLE]["Keys"]
        assert RequestItems[TABLE]["ConsistentRead"]
        self.requests += 1
        left = self._decide(self.requests, keys)
        unprocessed = {TABLE: {"Keys": left, "ConsistentRead": True}} if left else {}
        return {
            "Responses": {TABLE: [key for key in keys if key not in left]},
            "UnprocessedKeys": unprocessed,
        }


def read(monkeypatch: pytest.MonkeyPatch, table: FakeTable, keys: list[str]) -> list[str]:
    """Return the keys of the items that were read."""
    monkeypatch.setattr(read_back, "bulk_dynamodb", lambda: table)
    return [item["entity_id"]["S"] for item in read_back._read_items(SOURCE, TABLE, keys)]


def throttle(code: str, status: int = 400) -> ClientError:
    """Return an error as boto3 raises it."""
    answer: Any = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, "BatchGetItem")


def test_unprocessed_keys_are_requested_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that DynamoDB left unprocessed is not taken for a missing row."""
    table = FakeTable(lambda number, keys: keys[1:] if number < 3 else [])
    assert sorted(read(monkeypatch, table, ["a", "b", "c"])) == ["a", "b", "c"]
    assert table.requests == 3


@pytest.mark.parametrize(
    "error",
    [
        throttle("ThrottlingException"),
        throttle("ProvisionedThroughputExceededException"),
        throttle("Strange", 503),
        EndpointConnectionError(endpoint_url="http://127.0.0.1"),
    ],
)
def test_throttled_reads_are_retried_beyond_botocore(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Throttling that outlasts the AWS client's own retries does not fail the load."""

    def fail_seven_times(number: int, _keys: list[Any]) -> list[Any]:
        if number <= 7:
            raise error
        return []

    monkeypatch.setattr(dynamodb_retries, "_LONGEST_PAUSE_SECONDS", 0.05)
    assert read(monkeypatch, FakeTable(fail_seven_times), ["a"]) == ["a"]


def test_keys_unread_at_the_deadline_fail_the_load(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error has the batch, the number of unread keys and the cause."""
    monkeypatch.setattr(read_back, "_READ_PATIENCE_SECONDS", 0.3)
    with pytest.raises(LoadFailedError, match=r"flight_delay/2013.* 2 keys within .*UnprocessedKeys"):
        read(monkeypatch, FakeTable(lambda _number, keys: keys), ["a", "b"])


def test_refused_read_is_not_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that no retry can fix fails at once."""

    def deny(_number: int, _keys: list[Any]) -> list[Any]:
        raise throttle("AccessDeniedException")

    table = FakeTable(deny)
    with pytest.raises(ClientError):
        read(monkeypatch, table, ["a"])
    assert table.requests == 1


def test_read_pauses_have_jitter_and_double(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses are random up to a doubling limit, so throttled requests do not return at the same time."""
    spans: list[float] = []

    def draw(low: float, high: float) -> float:
        assert low == 0
        spans.append(high)
        return high / 2

    slept: list[float] = []
    monkeypatch.setattr(dynamodb_retries.random, "uniform", draw)
    patience = dynamodb_retries.Patience(60, slept.append)
    assert all(patience.wait() for _ in range(10))
    assert spans == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]
    assert slept == [span / 2 for span in spans]
    assert not dynamodb_retries.Patience(0.04, slept.append).wait()
