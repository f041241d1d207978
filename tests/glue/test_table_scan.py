"""Tests of scanning a table that responds in pages, throttles, and holds other batches."""

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
    """Responds to scans in three pages of two items, unless a function of the request's number raises."""

    def __init__(self, decide: Callable[[int], None] = lambda _number: None) -> None:
        self.requests: list[dict[str, Any]] = []
        self._decide = decide

    def scan(self, **request: Any) -> dict[str, Any]:
        """Respond as DynamoDB does."""
        self.requests.append(request)
        self._decide(len(self.requests))
        page = int(request.get("ExclusiveStartKey", {"page": 0})["page"])
        last = {} if page == 2 else {"LastEvaluatedKey": {"page": page + 1}}
        return {"Count": 2, "ConsumedCapacity": {"CapacityUnits": 128.0}, **last}


def throttled(_number: int) -> None:
    """Raise a throttling error."""
    answer: Any = {
        "Error": {"Code": "ThrottlingException"},
        "ResponseMetadata": {"HTTPStatusCode": 400},
    }
    raise ClientError(answer, "Scan")


def counted(monkeypatch: pytest.MonkeyPatch, table: PagedTable) -> SegmentCount:
    """Return the count of a table's segment."""
    monkeypatch.setattr(read_back, "bulk_dynamodb", lambda: table)
    return count_segment(TASK)


def test_scan_counts_all_pages_of_a_segment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Items and read units of all pages are summed, by consistent reads of this batch only."""
    table = PagedTable()
    assert counted(monkeypatch, table) == SegmentCount(items=6, read_units=384.0)
    for request in table.requests:
        assert request["ConsistentRead"]
        assert (request["Segment"], request["TotalSegments"], request["Select"]) == (1, 4, "COUNT")
        assert request["FilterExpression"] == "batch_id = :batch"
        assert request["ExpressionAttributeValues"] == {":batch": {"S": TASK.batch_id}}


def test_throttled_scan_continues_at_its_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """After throttling no page is counted twice and none is skipped."""
    monkeypatch.setattr(dynamodb_retries, "_LONGEST_PAUSE_SECONDS", 0.05)
    table = PagedTable(lambda number: throttled(number) if number % 3 else None)
    assert counted(monkeypatch, table).items == 6
    assert len(table.requests) == 9


def test_scan_fails_at_its_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the batch and the cause."""
    monkeypatch.setattr(read_back, "_SCAN_PATIENCE_SECONDS", 0.3)
    with pytest.raises(LoadFailedError, match=r"flight_delay/2013.* could not be scanned .*Throttling"):
        counted(monkeypatch, PagedTable(throttled))


def test_refused_scan_is_not_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that no retry can fix fails at once."""

    def deny(_number: int) -> None:
        raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": "m"}}, "Scan")

    table = PagedTable(deny)
    with pytest.raises(ClientError):
        counted(monkeypatch, table)
    assert len(table.requests) == 1
