"""Looking through a table that answers in pages, throttles, and holds other batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from glue_scripts.dynamodb import dynamodb_retries, read_back
from glue_scripts.dynamodb.read_back import ScanTask, SegmentCount, count_segment
from glue_scripts.errors import LoadFailedError

if TYPE_CHECKING:
    from collections.abc import Callable

TASK = ScanTask("online", "flight_delay", "20130201T060000Z-0123abcd", 1, 4)


class PagedTable:
    """Answers scans in three pages of two items, unless a test decides otherwise by the request's number."""

    def __init__(self, decide: Callable[[int], None] = lambda _number: None) -> None:
        self.requests: list[dict[str, Any]] = []
        self._decide = decide

    def scan(self, **request: Any) -> dict[str, Any]:
        """Answer as DynamoDB does."""
        self.requests.append(request)
        self._decide(len(self.requests))
        page = int(request.get("ExclusiveStartKey", {"page": 0})["page"])
        last = {} if page == 2 else {"LastEvaluatedKey": {"page": page + 1}}
        return {"Count": 2, "ConsumedCapacity": {"CapacityUnits": 128.0}, **last}


def throttled(_number: int) -> None:
    """Throttle."""
    answer: Any = {
        "Error": {"Code": "ThrottlingException"},
        "ResponseMetadata": {"HTTPStatusCode": 400},
    }
    raise ClientError(answer, "Scan")


def counted(monkeypatch: pytest.MonkeyPatch, table: PagedTable) -> SegmentCount:
    """Return what is counted in a table."""
    monkeypatch.setattr(read_back, "bulk_dynamodb", lambda: table)
    return count_segment(TASK)


def test_every_page_of_a_segment_is_counted_consistently(monkeypatch: pytest.MonkeyPatch) -> None:
    """Items and read units of all pages; only this batch's items count, those just written too."""
    table = PagedTable()
    assert counted(monkeypatch, table) == SegmentCount(items=6, read_units=384.0)
    for request in table.requests:
        assert request["ConsistentRead"]
        assert (request["Segment"], request["TotalSegments"], request["Select"]) == (1, 4, "COUNT")
        assert request["FilterExpression"] == "batch_id = :batch"
        assert request["ExpressionAttributeValues"] == {":batch": {"S": TASK.batch_id}}


def test_a_throttled_scan_goes_on_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """No page is counted twice and none left out."""
    monkeypatch.setattr(dynamodb_retries, "_LONGEST_PAUSE_SECONDS", 0.05)
    table = PagedTable(lambda number: throttled(number) if number % 3 else None)
    assert counted(monkeypatch, table).items == 6
    assert len(table.requests) == 9


def test_a_scan_that_is_never_answered_fails_at_its_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the batch and why."""
    monkeypatch.setattr(read_back, "_SCAN_PATIENCE_SECONDS", 0.3)
    with pytest.raises(LoadFailedError, match=r"flight_delay/2013.* could not be scanned .*Throttling"):
        counted(monkeypatch, PagedTable(throttled))


def test_a_refusal_to_scan_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """What no retry can cure fails at once."""

    def deny(_number: int) -> None:
        raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": "m"}}, "Scan")

    table = PagedTable(deny)
    with pytest.raises(ClientError):
        counted(monkeypatch, table)
    assert len(table.requests) == 1
