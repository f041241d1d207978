"""The publication asset is tested on a real registry and the Snowflake stand-in."""

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
    """Materialize the publication of a partition, and return its metadata."""
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
    """Return the publications that Snowflake has."""
    with Warehouse(platform=small.platform).session() as session:
        rows = session._query(
            'SELECT "SEQUENCE", "BATCH_ID" FROM "PUBLICATIONS" WHERE "MODEL" = %s ORDER BY 1', (small.name,)
        )
    return [(int(sequence), str(batch_id)) for sequence, batch_id in rows]


def publisher(small: SmallModel) -> Publisher:
    """Return the publisher that the command line uses."""
    return Publisher(
        registry=small.platform.registry,
        deployment=small.platform.settings.deployment,
        declaration=small.declaration,
        clock=now,
    )


def request() -> ChangeRequest:
    """Return a change request of a person."""
    return ChangeRequest(request_id=uuid.uuid4().hex, actor="a person", reason="a test")


def test_older_batch_does_not_replace_newer_live_batch(small_model: SmallModel) -> None:
    """Publishing an older partition afterwards leaves the live batch and Snowflake unchanged."""
    older = small_model.verified_batch(partition="2013-01-31")
    newer = small_model.verified_batch()
    shown = materialized(small_model)
    assert (shown["outcome"], shown["live_batch_id"], shown["sequence"]) == ("live", newer, 1)

    shown = materialized(small_model, partition="2013-01-31")
    assert (shown["outcome"], shown["live_batch_id"]) == ("history", newer)
    assert shown["condition"] == "target_is_newer_than_live"
    assert small_model.record(older).release_state == ReleaseState.UNPUBLISHED
    assert projection(small_model) == [(1, newer)]


def test_publication_entry_describes_served_batch(small_model: SmallModel) -> None:
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
def test_done_file_replaced_after_load_is_not_published(
    small_model: SmallModel, content: bytes | None
) -> None:
    """A batch is published only if its done file is the one that was loaded and checked."""
    batch_id = small_model.verified_batch()
    replaced = small_model.manifest(batch_id, model_version="v2")
    small_model.platform.bucket.put(replaced.key, content or replaced.to_bytes())
    with pytest.raises(dg.Failure, match=rf"{batch_id}.*registered with"):
        materialized(small_model)
    assert publisher(small_model).pointer() is None


def test_publishing_live_batch_again_changes_nothing(small_model: SmallModel) -> None:
    """Materializing the same partition again leaves the registry and one entry in Snowflake unchanged."""
    batch_id, registry = small_model.verified_batch(), small_model.platform.registry

    def published() -> tuple[Any, ...]:
        assert materialized(small_model)["outcome"] == "live"
        pointer, entries = publisher(small_model).pointer(), registry.publications(small_model.name)
        return small_model.record(batch_id), pointer, entries

    first = published()
    assert published() == first
    assert projection(small_model) == [(1, batch_id)]


def test_unverified_batch_is_not_published(small_model: SmallModel) -> None:
    """Automatic and explicit publication both fail."""
    batch_id = small_model.registered_batch()
    for explicit in (False, True):
        with pytest.raises(dg.Failure, match="not verified"):
            materialized(small_model, batch_id=batch_id, explicit=explicit)
    assert small_model.platform.registry.publications(small_model.name) == []


def test_person_can_publish_during_a_hold(small_model: SmallModel) -> None:
    """During a hold automatic publication is skipped, and an explicit one goes live."""
    batch_id = small_model.verified_batch()
    assert publisher(small_model).hold(request(), held=True).outcome == PublicationOutcome.HELD
    assert materialized(small_model)["condition"] == "publication_is_not_held"
    assert materialized(small_model, explicit=True)["live_batch_id"] == batch_id
    assert publisher(small_model).hold(request(), held=False).outcome == PublicationOutcome.RELEASED


def test_rolled_back_batch_is_not_published_automatically(small_model: SmallModel) -> None:
    """Materializing the withdrawn batch keeps the earlier one live, also in Snowflake."""
    first = small_model.verified_batch(partition="2013-01-31")
    materialized(small_model, partition="2013-01-31")
    second = small_model.verified_batch()
    materialized(small_model)
    rolled = publisher(small_model).roll_back(request())
    assert (rolled.live_batch_id, rolled.sequence) == (first, 3)
    assert materialized(small_model, batch_id=second)["outcome"] == "history"
    entries = small_model.platform.registry.publications(small_model.name)
    assert entries[-1].serving == entries[0].serving
    # The materialization after the rollback also updated Snowflake's projection.
    assert projection(small_model) == [(1, first), (2, second), (3, first)]


def test_repeated_rollback_request_changes_nothing(small_model: SmallModel) -> None:
    """A rollback whose answer was lost can be sent again."""
    small_model.verified_batch(partition="2013-01-31")
    materialized(small_model, partition="2013-01-31")
    small_model.verified_batch()
    materialized(small_model)
    wish = request()
    target = publisher(small_model).roll_back(wish).live_batch_id
    again = publisher(small_model).roll_back(wish, target)
    assert (again.outcome, again.sequence) == (PublicationOutcome.UNCHANGED, 3)


def test_rollback_without_earlier_live_batch_is_refused(small_model: SmallModel) -> None:
    """The error says that there is no earlier live batch."""
    small_model.verified_batch()
    materialized(small_model)
    with pytest.raises(PublishingError, match="No earlier live batch"):
        publisher(small_model).roll_back(request())


def test_batch_that_expires_soon_is_not_published(small_model: SmallModel) -> None:
    """Publication is refused if the items expire within the required remaining life."""
    batch_id = small_model.verified_batch()
    late = Publisher(
        registry=small_model.platform.registry,
        deployment=small_model.platform.settings.deployment,
        declaration=small_model.declaration,
        clock=lambda: now() + timedelta(days=29, hours=12),
    )
    with pytest.raises(RuleViolationError, match="expire"):
        late.publish(batch_id, request(), "{}")
