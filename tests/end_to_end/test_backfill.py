"""A backfill of ten days of both models by the running daemon, while applications keep reading."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING

import pytest

from infra.local.access_token import obtain_token, read_variables
from infra.local.demo.live_api import LiveApi
from prediction_contract.registry.records import LoadState, ReleaseState
from tests.end_to_end.development_stack import MODELS, DevelopmentStack, development_stack
from tests.stack_runs import PROJECT_ROOT, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.drill, pytest.mark.stack, pytest.mark.timeout(3000)]
DAYS = [str(date(2013, 2, 1) + timedelta(days=number)) for number in range(10)]
# Entities that exist on each of the days.
ENTITIES = {"flight_delay": "AA-1141-JFK", "airport_congestion": "JFK-17"}
_BACKFILL_SECONDS = 2400
# How long an instance of the API caches the live pointer.
_POINTER_SECONDS = 5

_LAUNCH = """
mutation Launch($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message }
  }
}
"""


@dataclass(frozen=True)
class Reading:
    """One response.

    Attributes:
        asked_at: When the request was sent, in seconds of the monotonic clock.
        answered_at: When the response came.
        partition: The day of its batch.
        sequence: The sequence of its publication.
    """

    asked_at: float
    answered_at: float
    partition: str
    sequence: int


@dataclass
class Reader:
    """An application that requests one entity repeatedly and keeps the responses.

    Attributes:
        api: The API of a model.
        entity_id: The entity.
        seen: The responses in order.
        troubles: Responses other than a prediction, or 404 before the first publication.
    """

    api: LiveApi
    entity_id: str
    seen: list[Reading] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)

    def read_until(self, ended: threading.Event) -> None:
        """Read until the event is set."""
        while not ended.wait(0.1):
            asked_at = time.monotonic()
            answer = self.api.ask(self.entity_id)
            if answer.status == 200:
                origin = answer.document["provenance"]
                reading = Reading(asked_at, time.monotonic(), origin["partition"], origin["sequence"])
                self.seen.append(reading)
            elif answer.status != 404 or self.seen:
                self.troubles.append(f"{answer.status} {answer.body[:300]}")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevelopmentStack]:
    """Run a new stack under `make dev`, with both models trained and the days prepared."""
    with development_stack(tmp_path_factory.mktemp("backfill")) as running:
        running.train()
        running.prepare(DAYS[0], DAYS[-1])
        yield running


def reader_of(stack: DevelopmentStack, model: str) -> Reader:
    """Return a reader of a model's predictions."""
    token = obtain_token(read_variables(stack.environment_file))
    api = LiveApi(stack.variables["MLPIPE_API_URL"].rstrip("/"), model, token)
    return Reader(api, ENTITIES[model])


def launch_from_page(stack: DevelopmentStack, model: str) -> None:
    """Launch a backfill of ten days' predictions through GraphQL, as Dagster's page does."""
    params = {"assetSelection": [{"path": [model, "predictions"]}], "partitionNames": DAYS}
    answer = stack.dagster._ask(_LAUNCH, {"params": params})["launchPartitionBackfill"]
    assert answer["__typename"] == "LaunchBackfillSuccess", answer


def launch_from_shell(stack: DevelopmentStack, model: str) -> None:
    """Launch a backfill of ten days with `dagster job backfill`."""
    days = ("--from", DAYS[0], "--to", DAYS[-1], "--noprompt")
    workspace = ("--workspace", str(PROJECT_ROOT / "workspace.yaml"))
    said = stack.command("dagster", "job", "backfill", "-j", f"{model}_score", *days, *workspace)
    assert "Launched backfill job" in said


def is_backfilled(stack: DevelopmentStack, model: str) -> bool:
    """Return whether each day has a verified batch and the last day is live."""
    verified = {
        batch.partition for batch in stack.registry.batches(model) if batch.load_state == LoadState.VERIFIED
    }
    pointer = stack.registry.pointer(model, stack.variables["AWS_REGION"])
    return verified == set(DAYS) and pointer is not None and pointer.partition == DAYS[-1]


@pytest.fixture(scope="module")
def readers(stack: DevelopmentStack) -> dict[str, Reader]:
    """Return the readers' responses for each model during both backfills."""
    reading = {model: reader_of(stack, model) for model in MODELS}
    ended = threading.Event()
    threads = [threading.Thread(target=reader.read_until, args=(ended,)) for reader in reading.values()]
    for thread in threads:
        thread.start()
    try:
        launch_from_page(stack, "flight_delay")
        launch_from_shell(stack, "airport_congestion")
        for model in MODELS:
            wait_until(
                partial(is_backfilled, stack, model),
                seconds=_BACKFILL_SECONDS,
                what=f"{DAYS[-1]} of {model} live",
            )
        # Lets each reader see the last publication.
        time.sleep(_POINTER_SECONDS + 1)
    finally:
        ended.set()
        for thread in threads:
            thread.join(60)
    return reading


@pytest.mark.parametrize("model", MODELS)
def test_each_day_is_loaded_once_and_the_last_is_live(
    model: str, readers: dict[str, Reader], stack: DevelopmentStack
) -> None:
    """Ten days give ten batches with a single load each, and only the newest is live."""
    assert readers[model].seen
    batches = list(stack.registry.batches(model))
    assert sorted(batch.partition for batch in batches) == DAYS
    assert {batch.load_attempts for batch in batches} == {1}
    assert [batch.partition for batch in batches if batch.release_state == ReleaseState.LIVE] == DAYS[-1:]


@pytest.mark.parametrize("model", MODELS)
def test_readers_see_no_errors_and_no_older_day(model: str, readers: dict[str, Reader]) -> None:
    """After the first publication each read succeeds, and no older day is served again.

    Instances of the API may see a publication at different times, up to the pointer cache's duration apart.
    """
    reader = readers[model]
    assert reader.troubles == []
    assert {reading.partition for reading in reader.seen} <= set(DAYS)
    order = [(reading.sequence, reading.partition) for reading in reader.seen]
    assert sorted(order, key=itemgetter(0)) == sorted(order, key=itemgetter(1))
    newest = 0
    known = iter(reader.seen)
    served = next(known)
    for reading in reader.seen:
        while served.answered_at < reading.asked_at - _POINTER_SECONDS:
            newest = max(newest, served.sequence)
            served = next(known)
        assert reading.sequence >= newest
    assert reader.seen[-1].partition == DAYS[-1]
