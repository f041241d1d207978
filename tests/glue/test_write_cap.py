"""The write cap of a whole job is kept within a tenth and used, with any number of parts and executors."""

from __future__ import annotations

import heapq
import json
import math
import time
from bisect import bisect_left
from dataclasses import dataclass, field
from itertools import accumulate
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from glue_scripts.dynamodb import item_writer
from glue_scripts.dynamodb.concurrent_requests import FinishedRequest
from glue_scripts.dynamodb.item_writer import OnlineWriter
from glue_scripts.engine import ProcessEngine
from tests.fakes.dynamodb_server import TABLE, dynamodb_server, endpoint

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fakes.dynamodb_server import DynamoDbServer

_ANSWER = json.dumps({"UnprocessedItems": {}, "ConsumedCapacity": [{"CapacityUnits": 0.0}]})
_STRETCH_SECONDS = 5.0


def items(count: int, size: int) -> list[tuple[str, str]]:
    """Return items with distinct keys, each with a text of that many characters."""
    return [
        (f"E-{number}", json.dumps({"entity_id": {"S": f"E-{number}"}, "text": {"S": "x" * size}}))
        for number in range(count)
    ]


@dataclass
class VirtualTable:
    """DynamoDB with a simulated clock, so that consumption is exact on any machine.

    Attributes:
        latency: Seconds from a request to its response.
        decide: Returns whether the request of this number is throttled.
        stall: Returns how long the writer's process stalls at the request of this number.
        now: The simulated time.
        consumed: The consumed units with their times.
    """

    latency: float
    decide: Callable[[int], bool] = lambda _number: False
    stall: Callable[[int], float] = lambda _number: 0.0
    now: float = 0.0
    consumed: list[tuple[float, float]] = field(default_factory=list)
    _numbers: int = 0
    _in_flight_until: list[tuple[float, int, FinishedRequest[Any]]] = field(default_factory=list)

    @property
    def in_flight(self) -> int:
        """As `ConcurrentRequests`."""
        return len(self._in_flight_until)

    def begin(self, request: Any, _operation: str, body: bytes) -> None:
        """As `ConcurrentRequests`."""
        self._numbers += 1
        self.now += 50e-6 + self.stall(self._numbers)
        puts = json.loads(body)["RequestItems"][TABLE]
        units = sum(math.ceil(len(json.dumps(put["PutRequest"]["Item"])) / 1024) for put in puts)
        if self.decide(self._numbers):
            error = b'{"__type": "x#ThrottlingException", "message": "m"}'
            finished = FinishedRequest(request, 400, error)
        else:
            self.consumed.append((self.now, units))
            finished = FinishedRequest(request, 200, _ANSWER.replace("0.0", str(units)).encode())
        heapq.heappush(self._in_flight_until, (self.now + self.latency, self._numbers, finished))

    def wait_finished(self, timeout: float) -> list[FinishedRequest[Any]]:
        """As `ConcurrentRequests`."""
        if not self._in_flight_until or self._in_flight_until[0][0] > self.now + timeout:
            self.now += timeout
            return []
        self.now = max(self.now, self._in_flight_until[0][0])
        finished = []
        while self._in_flight_until and self._in_flight_until[0][0] <= self.now:
            finished.append(heapq.heappop(self._in_flight_until)[2])
        return finished

    def close(self) -> None:
        """As `ConcurrentRequests`."""

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds

    def write(self, parts: list[list[tuple[str, str]]], units_per_second: float) -> None:
        """Write parts one after another, each with a new writer, as a job's process does."""
        clock = SimpleNamespace(monotonic=lambda: self.now, sleep=self.sleep)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(item_writer, "time", clock)
            patch.setattr(item_writer, "ConcurrentRequests", lambda *_arguments, **_options: self)
            for part in parts:
                writer = OnlineWriter(endpoint("http://nowhere"), TABLE, units_per_second=units_per_second)
                assert writer.write_items(part) == len(part)


def check_cap(tables: list[VirtualTable], cap: float) -> None:
    """Check that any few seconds exceed the cap by at most a tenth, and that the cap is used."""
    consumed = sorted(each for table in tables for each in table.consumed)
    moments = [moment for moment, _ in consumed]
    sums = [0.0, *accumulate(units for _, units in consumed)]
    for first, begin in enumerate(moments):
        last = bisect_left(moments, begin + _STRETCH_SECONDS)
        assert sums[last] - sums[first] <= 1.1 * cap * _STRETCH_SECONDS
    seconds = max(table.now for table in tables)
    assert 0.9 * cap * seconds <= sums[-1] <= 1.1 * cap * seconds


@pytest.mark.parametrize(
    ("cap", "size", "latency"),
    [(40, 0, 0.005), (400, 0, 0.02), (400, 0, 0.5), (400, 3000, 0.02), (4000, 0, 0.05), (4000, 20_000, 0.02)],
)
def test_one_process_keeps_the_cap_and_uses_it(cap: int, size: int, latency: float) -> None:
    """The cap is kept and used with low and high caps, small and large items, and short and long latency."""
    table = VirtualTable(latency)
    rows = items(cap * 12 // (1 + size // 1000), size)
    table.write([rows], cap)
    check_cap([table], cap)


@pytest.mark.parametrize("rows", [1, 7, 25, 60])
def test_many_small_parts_keep_the_cap(rows: int) -> None:
    """The units of a part are waited for before the process begins the next part."""
    table = VirtualTable(0.001)
    table.write([items(rows, 0)] * (2400 // rows), 200)
    check_cap([table], 200)


def test_throttling_and_stalls_keep_the_cap() -> None:
    """A process that stalled does not catch up with a burst, and throttled requests count nothing."""
    table = VirtualTable(
        0.02,
        decide=lambda number: number % 7 == 0,
        stall=lambda number: 0.03 if number % 20 == 0 else 0.0,
    )
    table.write([items(4000, 0)], 300)
    check_cap([table], 300)


@pytest.mark.parametrize("executors", [2, 5])
def test_executors_together_keep_the_cap(executors: int) -> None:
    """Executors that run in parallel with equal shares keep the cap together."""
    tables = [VirtualTable(0.02) for _ in range(executors)]
    for table in tables:
        table.write([items(500, 0)] * 4, 1000 / executors)
    check_cap(tables, 1000)


def _write_timed(task: tuple[str, int, float]) -> tuple[float, float, int]:
    """Write a part to a real server; return its start, its end and the units it used."""
    url, number, rate = task
    rows = [(f"{number}-{key}", text.replace('"E-', f'"{number}-E-')) for key, text in items(40, 0)]
    began = time.monotonic()
    writer = OnlineWriter(endpoint(url), TABLE, units_per_second=rate)
    writer.write_items(rows)
    return began, time.monotonic(), writer.counts.write_units


def test_processes_keep_the_cap_on_a_real_server() -> None:
    """On a real clock, the server's consumed units never exceed the cap for the time of the writes.

    This holds on a slow machine too, because lost time is never made up for.
    """
    cap, processes = 120.0, 2
    with dynamodb_server() as server:
        tasks = [(server.url, number, cap / processes) for number in range(8)]
        timed = list(ProcessEngine(processes).run(_write_timed, tasks))
        consumed = _consumed(server)
    assert consumed == sum(units for _, _, units in timed) == len(server.items) == 320
    seconds = max(end for _, end, _ in timed) - min(began for began, _, _ in timed)
    assert consumed <= cap * seconds * 1.001


def _consumed(server: DynamoDbServer) -> float:
    return sum(units for _, _, units in server.requests)
