"""Tests of the number and consistency of reads from the store."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from api_lambda.http.http_connections import HttpConnections
from api_lambda.settings import Settings
from api_lambda.store.item_reader import ItemReader
from api_lambda.store.live_batch import LiveBatch
from api_lambda.store.online_store import OnlineStore, UnknownEntityError
from api_lambda.store.publications import Publications
from tests.api.api_calls import environment
from tests.api.published_batches import FLIGHT, PublishedModel, new_model
from tests.fakes.item_readers import RecordingReader

if TYPE_CHECKING:
    from tests.stack_runs import LocalStack

pytestmark = pytest.mark.stack


@pytest.fixture
def reader(local_stack: LocalStack) -> RecordingReader:
    """Return a recording reader of the stack's DynamoDB."""
    settings = Settings.from_environment(
        environment(AWS_ENDPOINT_URL=local_stack.environment["AWS_ENDPOINT_URL"])
    )
    return RecordingReader(ItemReader(HttpConnections(), settings))


def soon() -> float:
    """Return a deadline that no test reaches."""
    return time.monotonic() + 20


def live_batch(reader: RecordingReader, model: PublishedModel) -> LiveBatch:
    """Return the live batch, which takes two reads."""
    return Publications(reader, model.deployment, pointer_seconds=60).live(model.name, soon())


def test_known_publication_is_not_read_again(reader: RecordingReader, model: PublishedModel) -> None:
    """A publication is read once, since it never changes; the pointer is read consistently each time."""
    batch_id = model.publish(FLIGHT)
    publications = Publications(reader, model.deployment, pointer_seconds=0)
    registry = model.deployment.registry_table
    assert publications.live(model.name, soon()).batch_id == batch_id
    assert reader.asked == [
        (registry, (model.name, "live#us-east-1"), True),
        (registry, (model.name, "publication#000000000001"), True),
    ]
    publications.live(model.name, soon())
    assert reader.asked[2:] == [(registry, (model.name, "live#us-east-1"), True)]


def test_pointer_is_cached_for_its_seconds(reader: RecordingReader, model: PublishedModel) -> None:
    """Within the cache time nothing is read; afterwards only the pointer is."""
    now = [1000.0]
    model.publish(FLIGHT)
    publications = Publications(reader, model.deployment, pointer_seconds=5, clock=lambda: now[0])
    for seconds, questions in ((0, 2), (4.9, 2), (0.2, 3)):
        now[0] += seconds
        publications.live(model.name, soon())
        assert len(reader.asked) == questions


def test_many_models_take_two_reads(reader: RecordingReader, model: PublishedModel) -> None:
    """Pointers are read together, then publications; cached ones are not read again."""
    now = [1000.0]
    publications = Publications(reader, model.deployment, pointer_seconds=5, clock=lambda: now[0])
    held, silent = (new_model(model.client, model.deployment) for _ in range(2))
    batches = {each.name: each.publish(FLIGHT) for each in (model, held)}
    held.hold()
    asked = [model.name, silent.name, held.name]

    def live() -> dict[str, str]:
        found = publications.live_of(asked, soon())
        return {name: each.batch_id for name, each in found.items() if isinstance(each, LiveBatch)}

    assert live() == batches
    # Pointers, publications, and for the held model its batch and the publication of that batch.
    assert len(reader.asked) == 4
    assert live() == batches
    assert publications.live(held.name, soon()).batch_id == batches[held.name]
    assert len(reader.asked) == 5
    now[0] += 6
    batches[model.name] = model.publish(FLIGHT, partition="2013-02-02")
    assert live() == batches
    assert [len(keys) for _, keys, _ in reader.asked[5:]] == [3, 1]


def test_missing_item_is_confirmed_by_consistent_read(reader: RecordingReader, model: PublishedModel) -> None:
    """An item that an eventually consistent read misses is looked up again consistently."""
    model.publish(FLIGHT)
    store, live = OnlineStore(reader, model.deployment), live_batch(reader, model)
    reader.lagging = True
    assert store.prediction(live, "AA-1141-JFK", soon()).row.key == "AA-1141-JFK"
    with pytest.raises(UnknownEntityError):
        store.prediction(live, "nobody", soon())
    assert [consistent for _, _, consistent in reader.asked[2:]] == [False, True, False, True]


def test_batch_get_takes_at_most_two_reads(reader: RecordingReader, model: PublishedModel) -> None:
    """One read finds all items, a consistent one confirms missing items, and duplicates are read once."""
    model.publish(*(f'{{"flight":"f{number}"}}' for number in range(99)))
    store, live = OnlineStore(reader, model.deployment), live_batch(reader, model)
    asked = [f"f{number}" for number in range(99)]
    assert list(store.predictions(live, [*asked, "f1"], soon())) == asked
    assert len(reader.asked) == 3
    assert set(store.predictions(live, [*asked, "nobody"], soon())) == set(asked)
    assert reader.asked[4] == (model.table, (f"nobody/{live.batch_id}",), True)
    reader.lagging = True
    assert set(store.predictions(live, asked, soon())) == set(asked)
    assert len(reader.asked) == 7


def test_readiness_is_cached_for_some_seconds(reader: RecordingReader, model: PublishedModel) -> None:
    """Frequent readiness checks read the store only once per cache time."""
    now = [1000.0]
    publications = Publications(reader, model.deployment, pointer_seconds=5, clock=lambda: now[0])
    for seconds, questions in ((0, 2), (4.9, 2), (0.2, 3)):
        now[0] += seconds
        publications.require_ready(soon())
        assert len(reader.asked) == questions


def test_request_reads_one_batch_during_publication(reader: RecordingReader, model: PublishedModel) -> None:
    """A request that resolved the pointer reads that batch, whatever is published meanwhile."""
    first = model.publish(FLIGHT)
    store, live = OnlineStore(reader, model.deployment), live_batch(reader, model)
    model.publish(FLIGHT, partition="2013-02-02")
    assert store.prediction(live, "AA-1141-JFK", soon()).batch_id == first
