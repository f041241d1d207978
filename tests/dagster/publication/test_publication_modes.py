"""Publication modes decide whether the pipeline, a person or no one may make a batch live."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from mlpipe_dagster.publication.publisher import PublicationOutcome, PublishingError
from prediction_contract.errors import RuleViolationError
from prediction_contract.registry.automatic_publication import record_checks
from prediction_contract.registry.records import ChangeRequest, ReleaseState
from tests.dagster.loaded_model import COLUMNS, LoadedModel, rows
from tests.dagster.publication.test_publication_asset import materialized, publisher, request
from tests.dagster.small_model import SmallModel, declaration

if TYPE_CHECKING:
    from mlpipe_dagster.resources.platform import Platform

pytestmark = pytest.mark.stack


def model_in_mode(platform: Platform, mode: str) -> SmallModel:
    """Return a new model with a publication mode."""
    return SmallModel(platform, declaration(f"m{uuid.uuid4().hex[:12]}", publication={"mode": mode}))


def automatic() -> ChangeRequest:
    """Return a change request of the pipeline."""
    return ChangeRequest(request_id=uuid.uuid4().hex, actor="dagster run x", automatic=True)


def test_manual_mode_waits_for_a_person(platform: Platform) -> None:
    """The pipeline leaves the batch waiting with the command to run; `explicit` publishes it."""
    model = model_in_mode(platform, "manual")
    batch_id = model.verified_batch()
    waiting = materialized(model)
    assert (waiting["outcome"], waiting["condition"]) == ("waiting", "publication_is_automatic")
    assert f"mlpipe publish {model.name} {batch_id}" in waiting["reason"]
    assert "live_batch_id" not in waiting
    assert materialized(model, batch_id=batch_id, explicit=True)["live_batch_id"] == batch_id
    assert materialized(model)["outcome"] == "live"


def test_shadow_mode_never_publishes(platform: Platform) -> None:
    """The pipeline skips the batch, and a person gets an error that names the mode."""
    model = model_in_mode(platform, "shadow")
    batch_id = model.verified_batch()
    assert materialized(model)["condition"] == "model_is_not_in_shadow"
    with pytest.raises(dg.Failure, match="`shadow`"):
        materialized(model, batch_id=batch_id, explicit=True)
    with pytest.raises(PublishingError, match="`shadow`"):
        publisher(model).publish(batch_id, request(), "{}")
    assert model.platform.registry.publications(model.name) == []
    assert model.record(batch_id).release_state == ReleaseState.UNPUBLISHED


@pytest.mark.parametrize("mode", ["auto", "manual", "shadow"])
@pytest.mark.parametrize("wish", [automatic, request])
def test_unverified_batch_is_refused_in_every_mode(platform: Platform, mode: str, wish: Any) -> None:
    """Neither the pipeline nor a person can publish it."""
    model = model_in_mode(platform, mode)
    batch_id = model.registered_batch()
    with pytest.raises(RuleViolationError) as refused:
        publisher(model).publish(batch_id, wish(), "{}")
    assert refused.value.condition == "target_is_verified"
    assert publisher(model).pointer() is None


def test_batch_that_failed_its_checks_needs_a_person(platform: Platform) -> None:
    """Automatic publication fails with the reason and the command; an explicit one goes live."""
    model = model_with_a_rule(platform)
    bad = model.loaded_batch(rows(range(100)))
    for _ in range(2):
        with pytest.raises(
            dg.Failure,
            match=r"failed its checks: score is outside the range.* 50 in 49 of 100.*mlpipe publish",
        ):
            materialized(model)
    assert publisher(model).pointer() is None
    assert model.record(bad).checked_attempt == 1
    assert materialized(model, batch_id=bad, explicit=True)["live_batch_id"] == bad
    # A later automatic materialization leaves the batch live.
    assert materialized(model)["outcome"] == "live"


def test_failed_checks_in_registry_stop_automatic_publication(small_model: SmallModel) -> None:
    """The registry keeps the faults until the next check passes; a person can publish despite them."""
    batch_id, other = small_model.verified_batch(partition="2013-01-31"), small_model.verified_batch()
    for failed in (batch_id, other):
        check(small_model, failed, ["score is too high"])
        with pytest.raises(PublishingError, match="score is too high"):
            publisher(small_model).publish(failed, automatic(), "{}")
    check(small_model, batch_id, [])
    assert publisher(small_model).publish(batch_id, automatic(), "{}").outcome == PublicationOutcome.LIVE
    assert publisher(small_model).publish(other, request(), "{}").live_batch_id == other


def check(small: SmallModel, batch_id: str, faults: list[str]) -> None:
    """Record the result of a batch's checks in the registry."""
    small.platform.registry.carry_out(lambda: record_checks(small.record(batch_id), attempt=1, faults=faults))


def model_with_a_rule(platform: Platform) -> LoadedModel:
    """Return a model whose score must not exceed 50."""
    rules = {"columns": [{"column": "score", "maximum": 50}]}
    return LoadedModel(platform, declaration(f"m{uuid.uuid4().hex[:12]}", columns=COLUMNS, quality=rules))
