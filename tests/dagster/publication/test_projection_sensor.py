"""The sensor keeps Snowflake's projection up to date, and reports or alarms any lag."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
from dagster._core.storage.partition_status_cache import get_and_update_asset_status_cache_value

from mlpipe_dagster.pipeline.model_sensors import ModelsUnreadableError, ServedModel
from mlpipe_dagster.publication.projection_sensor import (
    ALARM_AFTER,
    COMPARE_ALL_EVERY,
    ProjectionLagsError,
    projection_tick,
)
from mlpipe_dagster.publication.publication_asset import publication_asset
from mlpipe_dagster.publication.publication_events import RECENT_WITHIN, REPORT_GRACE
from mlpipe_dagster.publication.publisher import RUN_ACTOR
from mlpipe_dagster.resources.warehouse import Warehouse
from prediction_contract.registry.records import ChangeRequest
from tests.dagster.publication.test_publication_asset import materialized, projection, publisher, request
from tests.dagster.publication.test_warehouse_projection import (
    WIDE,
    WIDE_VIEW,
    live_columns,
    serving,
    verified,
)
from tests.dagster.small_model import PARTITION, SmallModel, declaration, now

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.stack


class SilentWarehouse(Warehouse):
    """Stand in for a Snowflake that does not answer."""

    def quick_session(self) -> Any:
        """Raise the connector's error."""
        raise ConnectionError("Snowflake does not answer")


@pytest.fixture(scope="module", autouse=True)
def instance() -> Iterator[dg.DagsterInstance]:
    """Make one instance for this module; each test uses another model."""
    with dg.DagsterInstance.ephemeral() as made:
        Shared.instance = made
        yield made


class Shared:
    """Hold the instance to which this module's sensor reports publications."""

    instance: dg.DagsterInstance


def look(
    small: SmallModel,
    cursor: str | None = None,
    *,
    after: timedelta = timedelta(0),
    silent: bool = False,
    beside: str | None = None,
) -> dg.SensorResult:
    """Run the sensor at some time from now, with another model beside the small one if named."""
    models = [
        ServedModel(name=name, partitions=small.partitions, items_life=timedelta(days=90))
        for name in (beside, small.name)
        if name
    ]
    warehouse = (SilentWarehouse if silent else Warehouse)(platform=small.platform)
    context = dg.build_sensor_context(instance=Shared.instance, cursor=cursor)
    return projection_tick(context, small.platform, warehouse, models, now() + after)


def shown(small: SmallModel, partition: str | None = None) -> list[tuple[str, int, str]]:
    """Return batch, sequence and outcome of the publication's materializations, oldest first."""
    wanted = dg.AssetRecordsFilter(
        dg.AssetKey([small.name, "publication"]), asset_partitions=[partition] if partition else None
    )
    records = Shared.instance.fetch_materializations(wanted, limit=100, ascending=True).records
    metadata = [record.asset_materialization.metadata for record in records if record.asset_materialization]
    return [
        (str(each["batch_id"].value), int(str(each["sequence"].value)), str(each["outcome"].value))
        for each in metadata
    ]


def published(small: SmallModel, days: int) -> list[str]:
    """Publish one batch for each of some days in the registry alone."""
    batches = [small.verified_batch(partition=f"2013-02-{day + 1:02}") for day in range(days)]
    for batch_id in batches:
        publisher(small).publish(batch_id, request(), small.serving)
    return batches


def test_missing_publications_are_projected(small_model: SmallModel) -> None:
    """The lag is shown at the publication, and the next tick does not query Snowflake."""
    first, second = published(small_model, 2)
    done = look(small_model)
    assert projection(small_model) == [(1, first), (2, second)]
    (observed,) = done.asset_events
    assert observed.metadata["projected_again"].value == 2
    assert 0 <= int(str(observed.metadata["projection_lag_seconds"].value)) < 300
    assert look(small_model, done.cursor, silent=True).asset_events == []


def test_gap_below_newest_publication_is_repaired(small_model: SmallModel) -> None:
    """A row deleted in Snowflake is restored by the next complete comparison some hours later."""
    batches = published(small_model, 3)
    done = look(small_model)
    with Warehouse(platform=small_model.platform).session() as session:
        session._query(
            'DELETE FROM "PUBLICATIONS" WHERE "MODEL" = %s AND "SEQUENCE" = 2', (small_model.name,)
        )
    look(small_model, done.cursor)
    assert [sequence for sequence, _ in projection(small_model)] == [1, 3]
    mended = look(small_model, done.cursor, after=COMPARE_ALL_EVERY + timedelta(minutes=1))
    assert projection(small_model) == list(enumerate(batches, start=1))
    (observed,) = mended.asset_events
    assert observed.metadata["first_missing_sequence"].value == 2


SETTLED = REPORT_GRACE + timedelta(seconds=5)


def test_publications_by_a_person_are_shown_once(small_model: SmallModel) -> None:
    """Each partition is materialized with actor and reason, once even if the cursor is lost."""
    first, second = published(small_model, 2)
    done = look(small_model)
    assert shown(small_model) == []
    done = look(small_model, done.cursor, after=SETTLED)
    assert shown(small_model) == [(first, 1, "live"), (second, 2, "live")]
    assert shown(small_model, "2013-02-02") == [(second, 2, "live")]
    for cursor in (done.cursor, None, "nonsense"):
        look(small_model, cursor, after=SETTLED)
    assert len(shown(small_model)) == 2
    key = dg.AssetKey([small_model.name, "publication"])
    (record, *_) = Shared.instance.fetch_materializations(key, limit=1).records
    assert record.asset_materialization is not None
    assert "`a person`: `a test`" in str(record.asset_materialization.description)
    assert record.asset_materialization.metadata["actor"].value == "a person"


def test_rollback_is_shown_for_both_partitions(small_model: SmallModel) -> None:
    """The newer partition's batch is withdrawn; the older batch is live again and the newest event."""
    first, second = published(small_model, 2)
    cursor = look(small_model, after=SETTLED).cursor
    publisher(small_model).roll_back(request())
    look(small_model, cursor, after=SETTLED)
    assert shown(small_model, "2013-02-02") == [(second, 2, "live"), (second, 3, "withdrawn")]
    assert shown(small_model)[-1] == (first, 3, "live")


def test_old_publications_are_not_reported(small_model: SmallModel) -> None:
    """Without a cursor the newest publication is reported whatever its age, but no old ones before it."""
    published(small_model, 3)
    for after in (timedelta(0), RECENT_WITHIN * 2, RECENT_WITHIN * 2):
        look(small_model, after=after)
    assert [sequence for _, sequence, _ in shown(small_model)] == [3]


def test_hold_is_shown_as_observation(small_model: SmallModel) -> None:
    """It is shown once with the live batch's partition and adds no materialization."""
    published(small_model, 1)
    publisher(small_model).hold(request(), held=True)
    for _ in range(2):
        look(small_model, after=SETTLED)
    key = dg.AssetKey([small_model.name, "publication"])
    (record,) = Shared.instance.fetch_observations(key, limit=10).records
    observed = record.event_log_entry.asset_observation
    assert observed is not None
    assert (observed.partition, observed.metadata["outcome"].value) == ("2013-02-01", "held")
    assert len(shown(small_model)) == 1


def test_publication_by_dagster_is_not_reported_again(small_model: SmallModel) -> None:
    """The sensor reports it only if its run ended without materializing it."""
    batch_id = small_model.verified_batch()
    assert materialized(small_model, instance=Shared.instance)["sequence"] == 1
    look(small_model, after=SETTLED)
    assert shown(small_model) == [(batch_id, 1, "live")]

    later = small_model.verified_batch(partition="2013-02-02")
    run = Shared.instance.add_run(dg.DagsterRun(job_name="load", status=dg.DagsterRunStatus.STARTED))
    asked = ChangeRequest(request_id="r", actor=f"{RUN_ACTOR}{run.run_id}", automatic=True)
    publisher(small_model).publish(later, asked, small_model.serving)
    cursor = look(small_model, after=SETTLED).cursor
    assert len(shown(small_model)) == 1
    # The run fails after publishing but before materializing, so readers already see the batch.
    Shared.instance.report_run_failed(run)
    look(small_model, cursor, after=SETTLED)
    assert shown(small_model)[1:] == [(later, 2, "live")]


def test_late_report_does_not_hide_newer_publication(small_model: SmallModel) -> None:
    """A person's older publication becomes an observation after a run has materialized a newer one."""
    (first,) = published(small_model, 1)
    second = small_model.verified_batch(partition="2013-02-02")
    materialized(small_model, partition="2013-02-02", instance=Shared.instance)
    for _ in range(2):
        look(small_model, after=SETTLED)
    assert shown(small_model) == [(second, 2, "live")]
    key = dg.AssetKey([small_model.name, "publication"])
    observations = [
        record.event_log_entry.asset_observation
        for record in Shared.instance.fetch_observations(key, limit=10).records
    ]
    (observed,) = [each for each in observations if each]
    assert (observed.partition, observed.metadata["batch_id"].value) == ("2013-02-01", first)


def test_failed_partition_recovers_once_its_batch_is_live(small_model: SmallModel) -> None:
    """Dagster no longer shows the partition as failed after a person has published its batch."""
    batch_id = small_model.registered_batch()
    with pytest.raises(dg.Failure, match="not verified"):
        materialized(small_model, instance=Shared.instance)
    partitions = small_model.partitions
    key = publication_asset(small_model.declaration, partitions).key

    def has_failed() -> bool:
        status = get_and_update_asset_status_cache_value(Shared.instance, key, partitions)
        assert status is not None
        return PARTITION in status.deserialize_failed_partition_subsets(partitions).get_partition_keys()

    assert has_failed()
    publisher(small_model).publish(small_model.verify(batch_id), request(), small_model.serving)
    look(small_model, after=SETTLED)
    assert not has_failed()


def test_unreadable_model_does_not_block_others(small_model: SmallModel) -> None:
    """It is named in the skip reason first and in a failed tick next; other models are projected."""
    (batch_id,) = published(small_model, 1)
    name, platform = f"{small_model.name}b", small_model.platform
    platform.client("dynamodb").put_item(
        TableName=platform.settings.deployment.registry_table,
        Item={
            "model": {"S": name},
            "record": {"S": f"live#{platform.settings.deployment.home}"},
            "sequence": {"S": "many"},
        },
    )
    done = look(small_model, after=SETTLED, beside=name)
    assert shown(small_model) == [(batch_id, 1, "live")]
    assert projection(small_model) == [(1, batch_id)]
    assert name in str(done.skip_reason)
    with pytest.raises(ModelsUnreadableError, match=name):
        look(small_model, done.cursor, after=SETTLED, beside=name)


def test_snowflake_outage_does_not_stop_reports_to_dagster(small_model: SmallModel) -> None:
    """The tick that raises the lag alarm has already reported the publication."""
    (batch_id,) = published(small_model, 1)
    with pytest.raises(ProjectionLagsError):
        look(small_model, after=ALARM_AFTER * 2, silent=True)
    assert shown(small_model) == [(batch_id, 1, "live")]


def test_snowflake_outage_is_retried_and_then_alarmed(small_model: SmallModel) -> None:
    """Ticks skip at first and fail once the lag is too long; the next one with Snowflake catches up."""
    (batch_id,) = published(small_model, 1)
    skipped = look(small_model, silent=True)
    assert skipped.skip_reason is not None
    with pytest.raises(ProjectionLagsError, match=f"publication 1 of {small_model.name}"):
        look(small_model, skipped.cursor, after=ALARM_AFTER * 2, silent=True)
    look(small_model, skipped.cursor)
    assert projection(small_model) == [(1, batch_id)]


@pytest.mark.parametrize("cursor", [None, "", "nonsense", "[]", '{"sequences": 3, "compared_at": 0}'])
def test_lost_cursor_causes_no_error_or_duplicate(small_model: SmallModel, cursor: str | None) -> None:
    """After a missing or malformed cursor no event is repeated, and Snowflake keeps one entry."""
    published(small_model, 1)
    look(small_model)
    assert look(small_model, cursor).asset_events == []
    assert len(projection(small_model)) == 1


def test_live_view_is_updated_during_a_hold(small_model: SmallModel) -> None:
    """The view gets the columns of a batch that was published without Snowflake and then held."""
    batch_id = verified(small_model, PARTITION, WIDE)
    publisher(small_model).publish(batch_id, request(), serving(WIDE))
    publisher(small_model).hold(request(), held=True)
    look(small_model)
    assert live_columns(small_model) == WIDE_VIEW


def test_model_refused_by_snowflake_does_not_block_others(small_model: SmallModel) -> None:
    """A model whose table lacks a column is named, and the others are projected."""
    (batch_id,) = published(small_model, 1)
    other = SmallModel(small_model.platform, declaration(f"{small_model.name}b"))
    publisher(other).publish(verified(other, PARTITION), request(), serving(WIDE))
    done = look(small_model, beside=other.name)
    assert projection(small_model) == [(1, batch_id)]
    assert f"{other.name} cannot be examined" in str(done.skip_reason)
    with pytest.raises(ModelsUnreadableError, match=other.name):
        look(small_model, done.cursor, beside=other.name)
