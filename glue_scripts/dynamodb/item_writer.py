"""Writes items into the online table. Fails if DynamoDB does not acknowledge all of them in time."""

from __future__ import annotations

import heapq
import json
import time
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

from glue_scripts.dynamodb.concurrent_requests import ANSWER_SECONDS, ConcurrentRequests
from glue_scripts.dynamodb.dynamodb_retries import is_transient, jittered_pause
from glue_scripts.dynamodb.write_pace import Pace, Window
from glue_scripts.errors import LoadFailedError
from prediction_contract.limits import MAX_BATCH_WRITE_BYTES, MAX_BATCH_WRITES
from prediction_contract.stores.online_item import KEY_ATTRIBUTE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from glue_scripts.dynamodb.concurrent_requests import FinishedRequest
    from glue_scripts.dynamodb.dynamodb_endpoint import DynamoDbEndpoint

# The entity id, and the item in DynamoDB's JSON.
WrittenItem: TypeAlias = "tuple[str, str]"

_UNIT_BYTES = 1024
# A character of an item's text takes at most four bytes of UTF-8.
_UNIT_WIRE_BYTES = 4 * _UNIT_BYTES
_NAMED_KEYS = 5
_OK = 200
_TICK_SECONDS = 1.0
# A request takes at most this share of a second's units, so that a low rate is not spent in bursts.
_REQUEST_SHARE = 0.1


@dataclass(slots=True)
class WriteCounts:
    """What a writer has done so far.

    Attributes:
        acknowledged: How many items DynamoDB acknowledged.
        retried: How many times an item was sent again.
        write_units: The write units that DynamoDB reported as consumed, rounded up.
        seconds: How long writing took.
    """

    acknowledged: int = 0
    retried: int = 0
    write_units: int = 0
    seconds: float = 0.0


@dataclass(slots=True)
class _Request:
    """Items that are sent in one request."""

    items: list[WrittenItem]
    deadline: float
    units: float
    number: int = 0
    tries: int = 0


class OnlineWriter:
    """Writes items with many requests in flight, and sends unprocessed items again with full jitter.

    Args:
        endpoint: The DynamoDB endpoint.
        table: The online table's name.
        units_per_second: The most write units to consume; None for no limit.
        patience_seconds: How long an item is tried before the load fails.
        answer_seconds: How long DynamoDB may take to answer before a request is sent again.
    """

    def __init__(
        self,
        endpoint: DynamoDbEndpoint,
        table: str,
        *,
        units_per_second: float | None = None,
        patience_seconds: float = 300.0,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        self._endpoint = endpoint
        self._table = table
        self._head = f'{{"ReturnConsumedCapacity":"TOTAL","RequestItems":{{{json.dumps(table)}:['
        self._pace = Pace(units_per_second, time.monotonic)
        share = MAX_BATCH_WRITES if units_per_second is None else units_per_second * _REQUEST_SHARE
        self._request_items = max(1, min(MAX_BATCH_WRITES, int(share)))
        self._patience_seconds = patience_seconds
        self._answer_seconds = answer_seconds
        self._window = Window()
        self._retries: list[tuple[float, int, _Request]] = []
        self._order = count()
        self._write_units = 0.0
        self._counts = WriteCounts()

    @property
    def counts(self) -> WriteCounts:
        """The counts so far."""
        self._counts.write_units = round(self._write_units + 0.5 - 1e-9)
        return self._counts

    def write_items(self, items: Iterable[WrittenItem]) -> int:
        """Write items with unique keys; return their number once all are acknowledged.

        Raises:
            LoadFailedError: Items were not acknowledged in time or were refused; the message names the first.
        """
        before, began = self._counts.acknowledged, time.monotonic()
        fresh = self._requests(items)
        upcoming = next(fresh, None)
        requests: ConcurrentRequests[_Request] = ConcurrentRequests(
            self._endpoint, answer_seconds=self._answer_seconds
        )
        try:
            while upcoming or requests.in_flight or self._retries:
                pause = self._pace.wait_seconds()
                while pause <= 0 and requests.in_flight < self._window.width:
                    request = self._due_retry()
                    if request is None:
                        request, upcoming = upcoming, next(fresh, None) if upcoming else None
                    if request is None:
                        break
                    self._begin(requests, request)
                    pause = self._pace.wait_seconds()
                has_room = requests.in_flight < self._window.width
                for finished in requests.wait_finished(self._longest_wait(pause, has_room=has_room)):
                    self._settle(finished)
            # The next part's writer starts with a fresh pace, so the units spent here are waited for.
            time.sleep(self._pace.wait_seconds())
        finally:
            requests.close()
            self._counts.seconds += time.monotonic() - began
        return self._counts.acknowledged - before

    def _requests(self, items: Iterable[WrittenItem]) -> Iterator[_Request]:
        """Yield requests lazily, each with as many items as one request may hold."""
        gathered: list[WrittenItem] = []
        for item in items:
            gathered.append(item)
            if len(gathered) == self._request_items:
                yield from self._sendable(gathered)
                gathered = []
        if gathered:
            yield from self._sendable(gathered)

    def _sendable(self, items: list[WrittenItem]) -> Iterator[_Request]:
        """Yield one request for the items, or split them in halves until each request is small enough.

        One item always fits: an item's size limit is a fraction of a request's.
        """
        request = self._request(items)
        # Ordinary rows are far below the limit, so their requests are not measured.
        is_surely_small = request.units * _UNIT_WIRE_BYTES < MAX_BATCH_WRITE_BYTES // 2
        if is_surely_small or len(items) == 1 or len(self._body(items)) <= MAX_BATCH_WRITE_BYTES:
            yield request
            return
        middle = len(items) // 2
        yield from self._sendable(items[:middle])
        yield from self._sendable(items[middle:])

    def _request(self, items: list[WrittenItem]) -> _Request:
        # An item never takes more units than its text suggests; DynamoDB's answer corrects the estimate.
        units = sum([1 + len(text) // _UNIT_BYTES for _, text in items])
        return _Request(items, time.monotonic() + self._patience_seconds, units)

    def _due_retry(self) -> _Request | None:
        """Return a request that is due to be sent again, if any."""
        if self._retries and self._retries[0][0] <= time.monotonic():
            return heapq.heappop(self._retries)[2]
        return None

    def _longest_wait(self, pause: float, *, has_room: bool) -> float:
        """Return how many seconds the writer can wait for answers before it has something else to do."""
        if pause > 0:
            return min(_TICK_SECONDS, pause)
        if self._retries and has_room:
            return min(_TICK_SECONDS, max(0.0, self._retries[0][0] - time.monotonic()))
        return _TICK_SECONDS

    def _begin(self, requests: ConcurrentRequests[_Request], request: _Request) -> None:
        request.number = self._window.begin()
        self._pace.spend(request.units)
        requests.begin(request, "BatchWriteItem", self._body(request.items))

    def _body(self, items: list[WrittenItem]) -> bytes:
        puts = '}},{"PutRequest":{"Item":'.join([text for _, text in items])
        return f'{self._head}{{"PutRequest":{{"Item":{puts}}}}}]}}}}'.encode()

    def _settle(self, finished: FinishedRequest[_Request]) -> None:
        """Count the acknowledged items, and set the others aside to be sent again."""
        request = finished.request
        if finished.failure is not None:
            self._retry_later(request, request.items, finished.failure)
            return
        if finished.status != _OK:
            code, message = _error(finished.body)
            if not is_transient(code, finished.status):
                what = f"refused ({code}: {message})"[:500]
                self._fail(request.items, what, "Check the table and the job's permissions")
            self._pace.correct(-request.units)
            self._window.narrow(request.number)
            self._retry_later(request, request.items, code or str(finished.status))
            return
        try:
            answer = json.loads(finished.body)
            units = sum(one["CapacityUnits"] for one in answer.get("ConsumedCapacity") or [])
            left = [
                put["PutRequest"]["Item"][KEY_ATTRIBUTE]["S"]
                for put in answer.get("UnprocessedItems", {}).get(self._table, [])
            ]
        except (ValueError, KeyError, TypeError, AttributeError):
            self._retry_later(request, request.items, "an answer that is not DynamoDB's")
            return
        self._write_units += units
        self._pace.correct(units - request.units)
        if not left:
            self._counts.acknowledged += len(request.items)
            self._window.widen()
            return
        keys = set(left)
        items = [item for item in request.items if item[0] in keys]
        self._counts.acknowledged += len(request.items) - len(items)
        self._window.narrow(request.number)
        self._retry_later(request, items, "UnprocessedItems")

    def _retry_later(self, request: _Request, items: list[WrittenItem], why: str) -> None:
        """Set items aside to be sent again; fail if their time is up."""
        self._counts.retried += len(items)
        now = time.monotonic()
        pause = jittered_pause(request.tries)
        if now + pause > request.deadline:
            what = f"not acknowledged within {self._patience_seconds:.0f} s ({why})"
            self._fail(items, what, "Check the table's throttling and its write rate")
        again = self._request(items)
        again.deadline, again.tries = request.deadline, request.tries + 1
        heapq.heappush(self._retries, (now + pause, next(self._order), again))

    def _fail(self, items: list[WrittenItem], what: str, remedy: str) -> NoReturn:
        keys = [key[:80] for key, _ in items]
        more = f" and {len(keys) - _NAMED_KEYS} more" if len(keys) > _NAMED_KEYS else ""
        raise LoadFailedError(
            f"{len(keys)} items of {self._table} were {what}: {', '.join(keys[:_NAMED_KEYS])}{more}",
            remedy=f"{remedy}, then load the batch again",
        )


def _error(body: bytes) -> tuple[str, str]:
    """Return the code and message of DynamoDB's error."""
    try:
        document: Any = json.loads(body)
        code = str(document.get("__type", "")).rpartition("#")[2]
        return code, str(document.get("message") or document.get("Message") or "")
    except (ValueError, AttributeError):
        return "", body[:200].decode(errors="replace")
