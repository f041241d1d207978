"""A backfill of ten days of both models through the running daemon, while applications go on reading."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import TYPE_CHECKING

import pytest

from infra.local.access_token import obtain_token, read_variables
from infra.local.demo.live_api import LiveApi
from prediction_contract.registry.records import LoadState, ReleaseState
from tests.end_to_end.development_stack import MODELS, DevelopmentStack, development_stack
from tests.stack_runs import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.slow, pytest.mark.stack, pytest.mark.timeout(1800)]
DAYS = [str(date(2013, 2, 1) + timedelta(days=number)) for number in range(10)]
# Flights and hours that every one of the days has.
ENTITIES = {"flight_delay": "AA-1141-JFK", "airport_congestion": "JFK-17"}
_BACKFILL_SECONDS = 1500

_LAUNCH = """
mutation Launch($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message }
  }
}
"""
_STATUS = """
query Status($id: String!) {
  partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill { status } }
}
"""


@dataclass
class Reader:
    """An application that asks for one entity again and again, and keeps what it was answered.

    Attributes:
        api: The API of a model.
        entity_id: The entity.
        seen: Partition and sequence of each answer, in order.
        troubles: Answers that are neither a prediction nor, before the first publication, 404.
    """

    api: LiveApi
    entity_id: str
    seen: list[tuple[str, int]] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)

    def read_until(self, ended: threading.Event) -> None:
        """Read until told to end."""
        while not ended.wait(0.1):
            answer = self.api.ask(self.entity_id)
            if answer.status == 200:
                origin = answer.document["provenance"]
                self.seen.append((origin["partition"], origin["sequence"]))
            elif answer.status != 404 or self.seen:
                self.troubles.append(f"{answer.status} {answer.body[:300]}")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevelopmentStack]:
    """A stack of these tests' own, under `make dev`, with both models trained."""
    with development_stack(tmp_path_factory.mktemp("backfill")) as running:
        running.train()
        yield running


def reader_of(stack: DevelopmentStack, model: str) -> Reader:
    """Return a reader of a model's predictions."""
    token = obtain_token(read_variables(stack.environment_file))
    api = LiveApi(stack.variables["MLPIPE_API_URL"].rstrip("/"), model, token)
    return Reader(api, ENTITIES[model])


def launch_backfill(stack: DevelopmentStack, model: str) -> str:
    """Launch a backfill of the ten days' predictions, as the UI does, and return its id."""
    params = {"assetSelection": [{"path": [model, "predictions"]}], "partitionNames": DAYS}
    answer = stack.dagster._ask(_LAUNCH, {"params": params})["launchPartitionBackfill"]
    assert answer["__typename"] == "LaunchBackfillSuccess", answer
    return answer["backfillId"]


def has_ended(stack: DevelopmentStack, backfill_id: str) -> bool:
    """Tell whether a backfill has succeeded; fail if it failed."""
    status = stack.dagster._ask(_STATUS, {"id": backfill_id})["partitionBackfillOrError"]["status"]
    assert status not in {"FAILED", "COMPLETED_FAILED", "CANCELED", "CANCELING", "FAILING"}
    return status == "COMPLETED_SUCCESS"


def are_settled(stack: DevelopmentStack, model: str) -> bool:
    """Tell whether every day has a verified batch and the last day is live."""
    verified = {
        batch.partition for batch in stack.registry.batches(model) if batch.load_state == LoadState.VERIFIED
    }
    pointer = stack.registry.pointer(model, stack.variables["AWS_REGION"])
    return verified == set(DAYS) and pointer is not None and pointer.partition == DAYS[-1]


@pytest.fixture(scope="module")
def readers(stack: DevelopmentStack) -> dict[str, Reader]:
    """What applications saw of each model while both were backfilled."""
    reading = {model: reader_of(stack, model) for model in MODELS}
    ended = threading.Event()
    threads = [threading.Thread(target=reader.read_until, args=(ended,)) for reader in reading.values()]
    for thread in threads:
        thread.start()
    try:
        backfills = [launch_backfill(stack, model) for model in MODELS]
        deadline = time.monotonic() + _BACKFILL_SECONDS
        for wanted in (
            lambda: all(has_ended(stack, backfill) for backfill in backfills),
            lambda: all(are_settled(stack, model) for model in MODELS),
        ):
            wait_until(wanted, seconds=deadline - time.monotonic(), what="the backfills' last day is live")
        # One more look of each, at what is live now.
        time.sleep(2)
    finally:
        ended.set()
        for thread in threads:
            thread.join(60)
    return reading


@pytest.mark.parametrize("model", MODELS)
def test_every_day_is_loaded_once_and_the_last_is_live(
    model: str, readers: dict[str, Reader], stack: DevelopmentStack
) -> None:
    """Ten days, ten batches, each by a single load; none but the newest is live."""
    assert readers[model].seen
    batches = stack.registry.batches(model)
    assert sorted(batch.partition for batch in batches) == DAYS
    assert {batch.load_attempts for batch in batches} == {1}
    assert [batch.partition for batch in batches if batch.release_state == ReleaseState.LIVE] == DAYS[-1:]


@pytest.mark.parametrize("model", MODELS)
def test_readers_see_no_gap_and_no_day_again(model: str, readers: dict[str, Reader]) -> None:
    """From the first publication on every read is answered, from days that only go forward."""
    reader = readers[model]
    assert reader.troubles == []
    assert reader.seen == sorted(reader.seen)
    assert reader.seen[-1][0] == DAYS[-1]
