"""Readers during a series of publications get no mixed batches, no errors and no older batch."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from tests.api.api_calls import ApiUnderTest
from tests.api.published_batches import PublishedModel

if TYPE_CHECKING:
    from tests.stack_runs import LocalStack

pytestmark = pytest.mark.stack
PUBLICATIONS = 50
CLIENTS = 8
ENTITIES = [f"e{number}" for number in range(5)]


@dataclass
class Client:
    """One execution environment with its reader.

    Attributes:
        api: The execution environment.
        model: The model to read.
        seen: The sequence and the values of each response.
    """

    api: ApiUnderTest
    model: str
    seen: list[tuple[int, set[int]]] = field(default_factory=list)

    def read_until(self, ended: threading.Event) -> None:
        """Read single predictions and batches in turn until the end, and once more after it."""
        last = False
        while not last:
            # The pause leaves the publisher time to work.
            last = ended.wait(0.05)
            point = self.api.prediction(self.model, ENTITIES[len(self.seen) % len(ENTITIES)])
            assert point.status == 200, self.api.last_line
            self.seen.append(
                (point.document["provenance"]["sequence"], {point.document["prediction"]["serial"]})
            )
            batch = self.api.batch_get(self.model, {"entity_ids": ENTITIES})
            assert batch.status == 200, self.api.last_line
            values = {entry["prediction"]["serial"] for entry in batch.document["predictions"]}
            self.seen.append((batch.document["provenance"]["sequence"], values))


def test_readers_see_one_batch_at_a_time(
    local_stack: LocalStack, api: ApiUnderTest, model: PublishedModel
) -> None:
    """During fifty publications each response has values of one batch, with and without a pointer cache."""

    def publish(number: int) -> None:
        model.publish(*(f'{{"flight":"{each}","serial":{number}}}' for each in ENTITIES))

    endpoint = local_stack.environment["AWS_ENDPOINT_URL"]
    publish(1)
    ended = threading.Event()
    clients = [
        Client(
            ApiUnderTest(
                api.issuer,
                {"AWS_ENDPOINT_URL": endpoint, "MLPIPE_POINTER_CACHE_SECONDS": str(number % 2)},
            ),
            model.name,
        )
        for number in range(CLIENTS)
    ]
    with ThreadPoolExecutor(CLIENTS) as pool:
        reading = [pool.submit(client.read_until, ended) for client in clients]
        try:
            for number in range(2, PUBLICATIONS + 1):
                publish(number)
        finally:
            ended.set()
        for each in reading:
            each.result(60)
    for client in clients:
        sequences = [sequence for sequence, _ in client.seen]
        assert sequences == sorted(sequences)
        # All values of the nth publication are n.
        assert [(sequence, values) for sequence, values in client.seen if values != {sequence}] == []
    assert len({sequence for client in clients for sequence, _ in client.seen}) > PUBLICATIONS // 10
    assert {client.seen[-1][0] for client in clients[::2]} == {PUBLICATIONS}
