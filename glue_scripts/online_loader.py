"""Writes items into the online table: acknowledged, or named as missing."""

from __future__ import annotations

import threading
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

from botocore.exceptions import BotoCoreError, ClientError

from glue_scripts.dynamodb_retries import Patience, passing_reason
from glue_scripts.errors import LoadFailedError
from prediction_contract.online_item import KEY_ATTRIBUTE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

Item: TypeAlias = "dict[str, dict[str, Any]]"

# DynamoDB's own limit of a request.
REQUEST_ITEMS = 25
THREADS = 8
_NAMED_KEYS = 5


@dataclass(slots=True)
class WriteCounts:
    """What a writer has done so far.

    Attributes:
        acknowledged: Items that DynamoDB took.
        retried: Items sent more than once, each time counted.
        write_units: Write units that DynamoDB says were consumed, rounded up.
    """

    acknowledged: int = 0
    retried: int = 0
    write_units: int = 0


@dataclass(slots=True)
class Pace:
    """Keeps a stream of items below a rate, over all threads of a writer.

    Attributes:
        items_per_second: The rate; None for no limit.
    """

    items_per_second: float | None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _free_at: float = 0.0

    def wait(self, items: int) -> None:
        """Wait until so many items may be sent."""
        if self.items_per_second is None:
            return
        with self._lock:
            now = time.monotonic()
            start = max(now, self._free_at)
            self._free_at = start + items / self.items_per_second
        time.sleep(start - now)


class OnlineWriter:
    """Writes items with many requests in flight; what DynamoDB leaves over is sent again with full jitter.

    Args:
        dynamodb: A boto3 client that does not retry by itself.
        table: The online table's name.
        items_per_second: The most to send; None for no limit.
        patience_seconds: How long an item is tried before the load fails.
        sleep: Waits; tests pass their own.
    """

    def __init__(
        self,
        dynamodb: Any,
        table: str,
        *,
        items_per_second: float | None = None,
        patience_seconds: float = 300.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._dynamodb = dynamodb
        self._table = table
        self._pace = Pace(items_per_second)
        self._patience_seconds = patience_seconds
        self._sleep = sleep
        self._lock = threading.Lock()
        self._write_units = 0.0
        self._retried = 0
        self._acknowledged = 0

    @property
    def counts(self) -> WriteCounts:
        """What was done so far."""
        return WriteCounts(self._acknowledged, self._retried, round(self._write_units + 0.5 - 1e-9))

    def write_items(self, items: Iterable[Item]) -> int:
        """Write items of different keys and return how many were acknowledged: all of them.

        Raises:
            LoadFailedError: Some were not acknowledged in time, or DynamoDB refuses them; it names the first.
        """
        before = self._acknowledged
        with ThreadPoolExecutor(THREADS, thread_name_prefix="online-writer") as pool:
            in_flight: deque[Future[None]] = deque()
            try:
                for batch in _batches(items):
                    # As many waiting as working, so that memory does not grow with the part.
                    if len(in_flight) >= 2 * THREADS:
                        in_flight.popleft().result()
                    in_flight.append(pool.submit(self._write_batch, batch))
                while in_flight:
                    in_flight.popleft().result()
            finally:
                for future in in_flight:
                    future.cancel()
        return self._acknowledged - before

    def _write_batch(self, items: list[Item]) -> None:
        left = [{"PutRequest": {"Item": item}} for item in items]
        self._pace.wait(len(left))
        patience = Patience(self._patience_seconds, self._sleep)
        while True:
            sent = len(left)
            left, why = self._send(left)
            with self._lock:
                self._acknowledged += sent - len(left)
                self._retried += len(left)
            if not left:
                return
            if not patience.wait():
                what = f"not acknowledged within {self._patience_seconds:.0f} s ({why})"
                self._fail(left, what, "Look at the table's throttling and its write rate")
            self._pace.wait(len(left))

    def _send(self, requests: list[Any]) -> tuple[list[Any], str]:
        """Send a request once; return what is to be sent again, and why."""
        try:
            answer = self._dynamodb.batch_write_item(
                RequestItems={self._table: requests}, ReturnConsumedCapacity="TOTAL"
            )
        except (ClientError, BotoCoreError) as error:
            reason = passing_reason(error)
            if reason is None:
                self._fail(
                    requests, f"refused ({error})"[:500], "Look at the table and the job's rights", error
                )
            return requests, reason
        with self._lock:
            self._write_units += sum(one["CapacityUnits"] for one in answer.get("ConsumedCapacity", []))
        return answer.get("UnprocessedItems", {}).get(self._table, []), "UnprocessedItems"

    def _fail(self, requests: list[Any], what: str, remedy: str, cause: Exception | None = None) -> NoReturn:
        keys = [request["PutRequest"]["Item"][KEY_ATTRIBUTE]["S"][:80] for request in requests]
        more = f" and {len(keys) - _NAMED_KEYS} more" if len(keys) > _NAMED_KEYS else ""
        raise LoadFailedError(
            f"{len(keys)} items of {self._table} were {what}: {', '.join(keys[:_NAMED_KEYS])}{more}",
            remedy=f"{remedy}, then load the batch again",
        ) from cause


def _batches(items: Iterable[Item]) -> Iterator[list[Item]]:
    iterator = iter(items)
    while batch := list(islice(iterator, REQUEST_ITEMS)):
        yield batch
