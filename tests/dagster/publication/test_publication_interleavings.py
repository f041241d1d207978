"""The bad interleavings of publishers, on the real registry table: none moves readers by mistake."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from mlpipe_dagster.publication.publisher import PublicationOutcome, PublicationResult, Publisher
from prediction_contract.errors import RuleViolationError
from prediction_contract.registry import publication_rules, retention_rules
from prediction_contract.registry.load_rules import confirm_region
from prediction_contract.registry.records import ChangeRequest, LoadState, ReleaseState
from prediction_contract.registry.table import RegistryTable
from tests.dagster.small_model import SmallModel, now

pytestmark = pytest.mark.stack
HOME, FAR, FARTHER = "us-east-1", "eu-west-1", "ap-south-1"


def automatic() -> ChangeRequest:
    """Return what the pipeline asks for."""
    return ChangeRequest(request_id=uuid.uuid4().hex, actor="dagster run x", automatic=True)


def person() -> ChangeRequest:
    """Return a person's wish."""
    return ChangeRequest(request_id=uuid.uuid4().hex, actor="a person", reason="a test")


def publisher(small: SmallModel, registry: Any = None, regions: tuple[str, ...] = ()) -> Publisher:
    """Return a publisher, upon a registry of its own if one is given."""
    return Publisher(
        registry=registry or small.platform.registry,
        deployment=small.platform.settings.deployment,
        declaration=small.declaration,
        serving_regions=regions,
        clock=now,
    )


class LosingAnswers:
    """A fake at the edge: a DynamoDB client whose transactions happen, and whose answers are lost."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def transact_write_items(self, **arguments: Any) -> Any:
        """Carry it out and lose the answer."""
        self._client.transact_write_items(**arguments)
        raise ConnectionError("the answer was lost")


class Stalled:
    """A fake at the edge: a DynamoDB client that stalls before its first transaction until told to go on."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.has_read = threading.Event()
        self.may_go_on = threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def transact_write_items(self, **arguments: Any) -> Any:
        """Wait once, then carry it out."""
        self.has_read.set()
        assert self.may_go_on.wait(30)
        return self._client.transact_write_items(**arguments)


def upon(small: SmallModel, client: Any) -> RegistryTable:
    """Return the registry through another client."""
    return RegistryTable(client, small.platform.settings.deployment.registry_table)


def while_stalled(
    small: SmallModel,
    act: Callable[[Publisher], PublicationResult],
    meanwhile: Callable[[], Any],
) -> PublicationResult | Exception:
    """Let a publisher read, stall before it writes, let others act, and return what came of it."""
    client, outcome = Stalled(small.platform.client("dynamodb")), []

    def run() -> None:
        try:
            outcome.append(act(publisher(small, upon(small, client))))
        except Exception as error:  # noqa: BLE001  # handed to the test
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    assert client.has_read.wait(30)
    meanwhile()
    client.may_go_on.set()
    thread.join(60)
    assert len(outcome) == 1
    return outcome[0]


def two_published(small: SmallModel) -> tuple[str, str]:
    """Publish a batch, then a newer one, as the pipeline does."""
    first = small.verified_batch(partition="2013-01-31")
    second = small.verified_batch()
    for batch_id in (first, second):
        assert publisher(small).publish(batch_id, automatic(), "{}").outcome == PublicationOutcome.LIVE
    return first, second


def test_a_publisher_whose_answer_was_lost_retries_after_a_rollback(small_model: SmallModel) -> None:
    """Its publication happened and was rolled back: the retry must not bring the batch back."""
    first, second = small_model.verified_batch(partition="2013-01-31"), small_model.verified_batch()
    publisher(small_model).publish(first, automatic(), "{}")
    wish = automatic()
    losing = upon(small_model, LosingAnswers(small_model.platform.client("dynamodb")))
    with pytest.raises(ConnectionError):
        publisher(small_model, losing).publish(second, wish, "{}")
    assert publisher(small_model).roll_back(person()).live_batch_id == first
    retried = publisher(small_model).publish(second, wish, "{}")
    assert (retried.outcome, retried.live_batch_id) == (PublicationOutcome.UNCHANGED, first)
    # Nor does the same wish of another run, which does not know of the first.
    anew = publisher(small_model).publish(second, automatic(), "{}")
    assert (anew.outcome, anew.live_batch_id) == (PublicationOutcome.HISTORY, first)


def test_a_rollback_whose_answer_was_lost_is_repeated_after_a_newer_batch(small_model: SmallModel) -> None:
    """The repetition does not roll back once more."""
    first, _ = two_published(small_model)
    wish = person()
    losing = upon(small_model, LosingAnswers(small_model.platform.client("dynamodb")))
    with pytest.raises(ConnectionError):
        publisher(small_model, losing).roll_back(wish, first)
    soon = now() + timedelta(minutes=2)
    third = small_model.verified_batch(partition="2013-02-02", batch_id=f"{soon:%Y%m%dT%H%M%SZ}-00000000")
    assert publisher(small_model).publish(third, automatic(), "{}").outcome == PublicationOutcome.LIVE
    again = publisher(small_model).roll_back(wish, first)
    assert (again.outcome, again.live_batch_id) == (PublicationOutcome.UNCHANGED, third)


def test_of_two_publishers_of_one_batch_one_publishes(small_model: SmallModel) -> None:
    """Both are told that it is live, and there is one entry."""
    batch_id = small_model.verified_batch()
    barrier, found = threading.Barrier(2), []

    def run() -> None:
        barrier.wait(30)
        found.append(publisher(small_model).publish(batch_id, automatic(), "{}"))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [each.outcome for each in found] == [PublicationOutcome.LIVE, PublicationOutcome.LIVE]
    assert len(small_model.platform.registry.publications(small_model.name)) == 1


def test_of_two_publishers_the_older_batch_never_wins(small_model: SmallModel) -> None:
    """The one with the older batch had read first, and finds the newer one live when it writes."""
    older, newer = small_model.verified_batch(partition="2013-01-31"), small_model.verified_batch()
    outcome = while_stalled(
        small_model,
        lambda stalled: stalled.publish(older, automatic(), "{}"),
        lambda: publisher(small_model).publish(newer, automatic(), "{}"),
    )
    assert isinstance(outcome, PublicationResult)
    assert (outcome.outcome, outcome.live_batch_id) == (PublicationOutcome.HISTORY, newer)


def test_a_stalled_publisher_resumes_after_a_rollback(small_model: SmallModel) -> None:
    """What it meant to publish was in the works before the rollback: it becomes history."""
    first, _ = two_published(small_model)
    third = small_model.verified_batch(partition="2013-02-02", batch_id=small_model.batch_id("20261124"))
    outcome = while_stalled(
        small_model,
        lambda stalled: stalled.publish(third, automatic(), "{}"),
        lambda: publisher(small_model).roll_back(person()),
    )
    assert isinstance(outcome, PublicationResult)
    assert (outcome.outcome, outcome.live_batch_id) == (PublicationOutcome.HISTORY, first)
    assert outcome.condition == "target_was_minted_after_rollback"
    assert publisher(small_model).publish(third, person(), "{}").live_batch_id == third


def test_a_stalled_publisher_resumes_during_a_hold(small_model: SmallModel) -> None:
    """A hold that came in between counts."""
    batch_id = small_model.verified_batch()
    outcome = while_stalled(
        small_model,
        lambda stalled: stalled.publish(batch_id, automatic(), "{}"),
        lambda: publisher(small_model).hold(person(), held=True),
    )
    assert isinstance(outcome, PublicationResult)
    assert (outcome.outcome, outcome.live_batch_id) == (PublicationOutcome.HISTORY, None)


def retire(small: SmallModel, batch_id: str) -> None:
    """Retire a batch long after its retention is over."""
    small.platform.registry.carry_out(
        lambda: retention_rules.retire(
            small.record(batch_id),
            token="retention",
            run_id="retention",
            home_region=HOME,
            regions=(),
            projected_sequence=99,
            now=now() + timedelta(days=900),
        )
    )


def test_retention_that_was_quicker_stops_a_rollback(small_model: SmallModel) -> None:
    """The rollback had chosen its target before it was retired, and is refused instead of serving nothing."""
    first, second = two_published(small_model)
    third = small_model.verified_batch(partition="2013-02-02")
    publisher(small_model).publish(third, automatic(), "{}")
    outcome = while_stalled(
        small_model,
        lambda stalled: stalled.roll_back(person(), first),
        lambda: retire(small_model, first),
    )
    assert isinstance(outcome, RuleViolationError)
    assert outcome.condition in {"target_is_verified", "target_lives_long_enough"}
    assert publisher(small_model).pointer() == small_model.platform.registry.pointer(small_model.name, HOME)
    assert small_model.record(third).release_state == ReleaseState.LIVE
    assert small_model.record(second).release_state == ReleaseState.SUPERSEDED


def test_a_rollback_that_was_quicker_stops_retention(small_model: SmallModel) -> None:
    """What was restored is not retired, however old it is."""
    first, _ = two_published(small_model)
    third = small_model.verified_batch(partition="2013-02-02")
    publisher(small_model).publish(third, automatic(), "{}")
    publisher(small_model).roll_back(person(), first)
    with pytest.raises(RuleViolationError) as refused:
        retire(small_model, first)
    assert refused.value.condition == "batch_is_not_live"
    assert small_model.record(first).load_state == LoadState.VERIFIED


def test_a_rollback_moves_every_region_known_to_hold_its_target(small_model: SmallModel) -> None:
    """The region that holds it moves in the same transaction; the other stays, and follows later."""
    first, second = two_published(small_model)
    registry = small_model.platform.registry
    for batch_id, region in ((first, FAR), (second, FAR), (second, FARTHER)):
        registry.carry_out(
            lambda batch_id=batch_id, region=region: confirm_region(
                small_model.record(batch_id), region=region, attempt=1
            )
        )
    for region in (FAR, FARTHER):
        registry.carry_out(
            lambda region=region: publication_rules.follow_home(
                small_model.record(second),
                registry.live_pointers(small_model.name, home_region=HOME, regions=[region]),
                region=region,
                now=now(),
            )
        )
    rolled = publisher(small_model, regions=(FAR, FARTHER)).roll_back(person())
    assert rolled.live_batch_id == first
    pointers = {region: registry.pointer(small_model.name, region) for region in (HOME, FAR, FARTHER)}
    served = {region: (pointer.batch_id, pointer.sequence) for region, pointer in pointers.items() if pointer}
    assert served == {HOME: (first, 3), FAR: (first, 3), FARTHER: (second, 2)}
