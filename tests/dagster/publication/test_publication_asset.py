"""The publication asset on a real registry and the Snowflake stand-in."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import dagster as dg
import pytest

from mlpipe_dagster.publication.publication_asset import publication_asset
from mlpipe_dagster.publication.publisher import PublicationOutcome, Publisher, PublishingError
from mlpipe_dagster.resources.warehouse import Warehouse
from prediction_contract.errors import RuleViolationError
from prediction_contract.registry.records import ChangeRequest, ReleaseState
from prediction_contract.rows.checksums import RowTally
from prediction_contract.stores.serving_record import ServingRecord
from tests.dagster.small_model import PARTITION, SmallModel, now

pytestmark = pytest.mark.stack


def materialized(
    small: SmallModel,
    *,
    partition: str = PARTITION,
    instance: dg.DagsterInstance | None = None,
    **config: Any,
) -> dict[str, Any]:
    """Materialize the publication of a partition, and return what it shows."""
    result = dg.materialize(
        [publication_asset(small.declaration, small.partitions)],
        partition_key=partition,
        instance=instance,
        resources={"platform": small.platform, "warehouse": Warehouse(platform=small.platform)},
        run_config={"ops": {f"{small.name}__publication": {"config": config}}},
        tags={"dagster/partition": partition},
        raise_on_error=True,
    )
    (event,) = result.asset_materializations_for_node(f"{small.name}__publication")
    return {name: value.value for name, value in event.metadata.items()}


def projection(small: SmallModel) -> list[tuple[int, str]]:
    """Return what Snowflake knows of the publications."""
    with Warehouse(platform=small.platform).session() as session:
        rows = session._query(
            'SELECT "SEQUENCE", "BATCH_ID" FROM "PUBLICATIONS" WHERE "MODEL" = %s ORDER BY 1', (small.name,)
        )
    return [(int(sequence), str(batch_id)) for sequence, batch_id in rows]


def publisher(small: SmallModel) -> Publisher:
    """Return what the command line publishes with."""
    return Publisher(
        registry=small.platform.registry,
        deployment=small.platform.settings.deployment,
        declaration=small.declaration,
        clock=now,
    )


def request() -> ChangeRequest:
    """Return a person's wish."""
    return ChangeRequest(request_id=uuid.uuid4().hex, actor="a person", reason="a test")


def test_a_newer_batch_becomes_live_and_an_older_one_history(small_model: SmallModel) -> None:
    """The newest batch of the partition is taken; afterwards an older partition moves nothing backwards."""
    older = small_model.verified_batch(partition="2013-01-31")
    newer = small_model.verified_batch()
    shown = materialized(small_model)
    assert (shown["outcome"], shown["live_batch_id"], shown["sequence"]) == ("live", newer, 1)

    shown = materialized(small_model, partition="2013-01-31")
    assert (shown["outcome"], shown["live_batch_id"]) == ("history", newer)
    assert shown["condition"] == "target_is_newer_than_live"
    assert small_model.record(older).release_state == ReleaseState.UNPUBLISHED
    assert projection(small_model) == [(1, newer)]


def test_the_entry_says_how_the_batch_is_served(small_model: SmallModel) -> None:
    """Schema, model version and checksum come from the manifest; only accepted rows count."""
    small_model.verify(small_model.registered_batch(), quarantined=RowTally(rows=1, checksum=45))
    shown = materialized(small_model)
    assert (shown["dagster/row_count"], shown["rows_quarantined"]) == (2, 1)
    (entry,) = small_model.platform.registry.publications(small_model.name)
    assert entry.serving is not None
    serving = ServingRecord.from_json(entry.serving)
    assert (serving.row_count, serving.checksum, serving.model_version) == (2, "12345", "v1")
    assert serving.schema == small_model.declaration.prediction_schema


@pytest.mark.parametrize("content", [b"{", None])
def test_a_done_file_replaced_after_the_load_is_not_published(
    small_model: SmallModel, content: bytes | None
) -> None:
    """What is served is what was loaded and checked, or nothing."""
    batch_id = small_model.verified_batch()
    replaced = small_model.manifest(batch_id, model_version="v2")
    small_model.platform.bucket.put(replaced.key, content or replaced.to_bytes())
    with pytest.raises(dg.Failure, match=rf"{batch_id}.*registered with"):
        materialized(small_model)
    assert publisher(small_model).pointer() is None


def test_publishing_what_is_live_changes_nothing(small_model: SmallModel) -> None:
    """Materializing the same partition again leaves one entry, in the registry and in Snowflake."""
    batch_id = small_model.verified_batch()
    for _ in range(2):
        assert materialized(small_model)["outcome"] == "live"
    assert projection(small_model) == [(1, batch_id)]


def test_an_unverified_batch_is_not_published_by_anyone(small_model: SmallModel) -> None:
    """Neither automatically nor as a person's decision."""
    batch_id = small_model.registered_batch()
    for explicit in (False, True):
        with pytest.raises(dg.Failure, match="not verified"):
            materialized(small_model, batch_id=batch_id, explicit=explicit)
    assert small_model.platform.registry.publications(small_model.name) == []


def test_hold_makes_history_and_a_person_still_publishes(small_model: SmallModel) -> None:
    """While publication is held only an explicit one goes through; released, all is as before."""
    batch_id = small_model.verified_batch()
    assert publisher(small_model).hold(request(), held=True).outcome == PublicationOutcome.HELD
    assert materialized(small_model)["condition"] == "publication_is_not_held"
    assert materialized(small_model, explicit=True)["live_batch_id"] == batch_id
    assert publisher(small_model).hold(request(), held=False).outcome == PublicationOutcome.RELEASED


def test_a_rollback_returns_to_the_batch_before_and_keeps_it_there(small_model: SmallModel) -> None:
    """The withdrawn batch is not published again by itself, however often its partition is materialized."""
    first = small_model.verified_batch(partition="2013-01-31")
    materialized(small_model, partition="2013-01-31")
    second = small_model.verified_batch()
    materialized(small_model)
    rolled = publisher(small_model).roll_back(request())
    assert (rolled.live_batch_id, rolled.sequence) == (first, 3)
    assert materialized(small_model, batch_id=second)["outcome"] == "history"
    entries = small_model.platform.registry.publications(small_model.name)
    assert entries[-1].serving == entries[0].serving
    # The publication that followed also brought Snowflake's projection in step.
    assert projection(small_model) == [(1, first), (2, second), (3, first)]


def test_a_known_request_does_nothing_again(small_model: SmallModel) -> None:
    """A rollback whose answer was lost can be sent again."""
    small_model.verified_batch(partition="2013-01-31")
    materialized(small_model, partition="2013-01-31")
    small_model.verified_batch()
    materialized(small_model)
    wish = request()
    target = publisher(small_model).roll_back(wish).live_batch_id
    again = publisher(small_model).roll_back(wish, target)
    assert (again.outcome, again.sequence) == (PublicationOutcome.UNCHANGED, 3)


def test_there_is_nothing_to_roll_back_to_before_the_second_publication(small_model: SmallModel) -> None:
    """The error says so instead of guessing."""
    small_model.verified_batch()
    materialized(small_model)
    with pytest.raises(PublishingError, match="No earlier live batch"):
        publisher(small_model).roll_back(request())


def test_a_batch_whose_items_expire_soon_is_not_published(small_model: SmallModel) -> None:
    """Only a batch with enough life left becomes live."""
    batch_id = small_model.verified_batch()
    late = Publisher(
        registry=small_model.platform.registry,
        deployment=small_model.platform.settings.deployment,
        declaration=small_model.declaration,
        clock=lambda: now() + timedelta(days=29, hours=12),
    )
    with pytest.raises(RuleViolationError, match="expire"):
        late.publish(batch_id, request(), "{}")
