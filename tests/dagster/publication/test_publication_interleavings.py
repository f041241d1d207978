"""Concurrent publishers, rollbacks and retention on the real registry never move readers by mistake."""

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
    """Return a change request of the pipeline."""
    return ChangeRequest(request_id=uuid.uuid4().hex, actor="dagster run x", automatic=True)


def person() -> ChangeRequest:
    """Return a change request of a person."""
    return ChangeRequest(request_id=uuid.uuid4().hex, actor="a person", reason="a test")


def publisher(small: SmallModel, registry: Any = None, regions: tuple[str, ...] = ()) -> Publisher:
    """Return a publisher that uses the given registry, or else the platform's."""
    return Publisher(
        registry=registry or small.platform.registry,
        deployment=small.platform.settings.deployment,
        declaration=small.declaration,
        serving_regions=regions,
        clock=now,
    )


class LosingAnswers:
    """A DynamoDB client whose transactions succeed but whose answers are lost."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def transact_write_items(self, **arguments: Any) -> Any:
        """Carry out the transaction, then fail as if the answer were lost."""
        self._client.transact_write_items(**arguments)
        raise ConnectionError("the answer was lost")


class Stalled:
    """A DynamoDB client that blocks its transactions until `may_go_on` is set."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.has_read = threading.Event()
        self.may_go_on = threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def transact_write_items(self, **arguments: Any) -> Any:
        """Wait for `may_go_on`, then carry out the transaction."""
        self.has_read.set()
        assert self.may_go_on.wait(30)
        return self._client.transact_write_items(**arguments)


def registry_with_client(small: SmallModel, client: Any) -> RegistryTable:
    """Return the registry with another DynamoDB client."""
    return RegistryTable(client, small.platform.settings.deployment.registry_table)


def while_stalled(
    small: SmallModel,
    act: Callable[[Publisher], PublicationResult],
    meanwhile: Callable[[], Any],
) -> PublicationResult | Exception:
    """Run `meanwhile` between a publisher's read and its write, and return the publisher's outcome."""
    client, outcome = Stalled(small.platform.client("dynamodb")), []

    def run() -> None:
        try:
            outcome.append(act(publisher(small, registry_with_client(small, client))))
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
    """Publish a batch and then a newer one, as the pipeline does."""
    first = small.verified_batch(partition="2013-01-31")
    second = small.verified_batch()
    for batch_id in (first, second):
        assert publisher(small).publish(batch_id, automatic(), "{}").outcome == PublicationOutcome.LIVE
    return first, second


def test_retry_after_lost_answer_does_not_undo_rollback(small_model: SmallModel) -> None:
    """A publication that was rolled back is not repeated by its own retry or another automatic request."""
    first, second = small_model.verified_batch(partition="2013-01-31"), small_model.verified_batch()
    publisher(small_model).publish(first, automatic(), "{}")
    wish = automatic()
    losing = registry_with_client(small_model, LosingAnswers(small_model.platform.client("dynamodb")))
    with pytest.raises(ConnectionError):
        publisher(small_model, losing).publish(second, wish, "{}")
    assert publisher(small_model).roll_back(person()).live_batch_id == first
    retried = publisher(small_model).publish(second, wish, "{}")
    assert (retried.outcome, retried.live_batch_id) == (PublicationOutcome.UNCHANGED, first)
    # Another run's automatic request, with a new id, does not publish it either.
    anew = publisher(small_model).publish(second, automatic(), "{}")
    assert (anew.outcome, anew.live_batch_id) == (PublicationOutcome.HISTORY, first)


def test_repeated_rollback_does_not_replace_newer_batch(small_model: SmallModel) -> None:
    """Repeating a rollback whose answer was lost does not roll back a second time."""
    first, _ = two_published(small_model)
    wish = person()
    losing = registry_with_client(small_model, LosingAnswers(small_model.platform.client("dynamodb")))
    with pytest.raises(ConnectionError):
        publisher(small_model, losing).roll_back(wish, first)
    soon = now() + timedelta(minutes=2)
    third = small_model.verified_batch(partition="2013-02-02", batch_id=f"{soon:%Y%m%dT%H%M%SZ}-00000000")
    assert publisher(small_model).publish(third, automatic(), "{}").outcome == PublicationOutcome.LIVE
    again = publisher(small_model).roll_back(wish, first)
    assert (again.outcome, again.live_batch_id) == (PublicationOutcome.UNCHANGED, third)


def test_concurrent_publishers_of_one_batch_make_one_entry(small_model: SmallModel) -> None:
    """Both get the outcome live."""
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


def test_concurrent_publisher_of_older_batch_loses(small_model: SmallModel) -> None:
    """A publisher that read before the newer batch went live does not replace it."""
    older, newer = small_model.verified_batch(partition="2013-01-31"), small_model.verified_batch()
    outcome = while_stalled(
        small_model,
        lambda stalled: stalled.publish(older, automatic(), "{}"),
        lambda: publisher(small_model).publish(newer, automatic(), "{}"),
    )
    assert isinstance(outcome, PublicationResult)
    assert (outcome.outcome, outcome.live_batch_id) == (PublicationOutcome.HISTORY, newer)


def test_automatic_publication_delayed_past_a_rollback_is_skipped(small_model: SmallModel) -> None:
    """A batch created before the rollback is not published automatically; a person can still publish it."""
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


def test_automatic_publication_delayed_into_a_hold_is_skipped(small_model: SmallModel) -> None:
    """A hold set between the publisher's read and write prevents the publication."""
    batch_id = small_model.verified_batch()
    outcome = while_stalled(
        small_model,
        lambda stalled: stalled.publish(batch_id, automatic(), "{}"),
        lambda: publisher(small_model).hold(person(), held=True),
    )
    assert isinstance(outcome, PublicationResult)
    assert (outcome.outcome, outcome.live_batch_id) == (PublicationOutcome.HISTORY, None)


def retire(small: SmallModel, batch_id: str) -> None:
    """Retire a batch 900 days from now."""
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


def test_rollback_to_batch_retired_meanwhile_is_refused(small_model: SmallModel) -> None:
    """The live batch stays live instead of being replaced by deleted data."""
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


def test_batch_restored_by_rollback_is_not_retired(small_model: SmallModel) -> None:
    """It is live again, so its age no longer matters."""
    first, _ = two_published(small_model)
    third = small_model.verified_batch(partition="2013-02-02")
    publisher(small_model).publish(third, automatic(), "{}")
    publisher(small_model).roll_back(person(), first)
    with pytest.raises(RuleViolationError) as refused:
        retire(small_model, first)
    assert refused.value.condition == "batch_is_not_live"
    assert small_model.record(first).load_state == LoadState.VERIFIED


def test_rollback_moves_regions_that_hold_the_target(small_model: SmallModel) -> None:
    """A region verified for the target moves with home; another one keeps its batch."""
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
