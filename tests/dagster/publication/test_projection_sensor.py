"""Snowflake's projection is kept in step by itself, and a lag is shown and alarmed."""

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
    """A fake at the edge: Snowflake does not answer."""

    def quick_session(self) -> Any:
        """Fail as the connector does."""
        raise ConnectionError("Snowflake does not answer")


@pytest.fixture(scope="module", autouse=True)
def instance() -> Iterator[dg.DagsterInstance]:
    """An instance of this module's own; each test has another model."""
    with dg.DagsterInstance.ephemeral() as made:
        Looks.instance = made
        yield made


class Looks:
    """Where the sensor of this module's tests reports publications."""

    instance: dg.DagsterInstance


def look(
    small: SmallModel,
    cursor: str | None = None,
    *,
    after: timedelta = timedelta(0),
    silent: bool = False,
    beside: str | None = None,
) -> dg.SensorResult:
    """Let the sensor look, some time from now; another model may be served beside the small one."""
    models = [
        ServedModel(name=name, partitions=small.partitions, items_life=timedelta(days=90))
        for name in (beside, small.name)
        if name
    ]
    warehouse = (SilentWarehouse if silent else Warehouse)(platform=small.platform)
    context = dg.build_sensor_context(instance=Looks.instance, cursor=cursor)
    return projection_tick(context, small.platform, warehouse, models, now() + after)


def shown(small: SmallModel, partition: str | None = None) -> list[tuple[str, int, str]]:
    """Return batch, sequence and outcome of the publication's materializations, the oldest first."""
    wanted = dg.AssetRecordsFilter(
        dg.AssetKey([small.name, "publication"]), asset_partitions=[partition] if partition else None
    )
    records = Looks.instance.fetch_materializations(wanted, limit=100, ascending=True).records
    metadata = [record.asset_materialization.metadata for record in records if record.asset_materialization]
    return [
        (str(each["batch_id"].value), int(str(each["sequence"].value)), str(each["outcome"].value))
        for each in metadata
    ]


def published(small: SmallModel, days: int) -> list[str]:
    """Publish a batch for each of some days as the command line does, without Snowflake."""
    batches = [small.verified_batch(partition=f"2013-02-{day + 1:02}") for day in range(days)]
    for batch_id in batches:
        publisher(small).publish(batch_id, request(), small.serving)
    return batches


def test_publications_that_snowflake_lacks_are_projected(small_model: SmallModel) -> None:
    """The lag is shown beside the publication; the next tick does not ask Snowflake at all."""
    first, second = published(small_model, 2)
    done = look(small_model)
    assert projection(small_model) == [(1, first), (2, second)]
    (observed,) = done.asset_events
    assert observed.metadata["projected_again"].value == 2
    assert 0 <= int(str(observed.metadata["projection_lag_seconds"].value)) < 300
    assert look(small_model, done.cursor, silent=True).asset_events == []


def test_a_gap_below_the_newest_is_found_in_time(small_model: SmallModel) -> None:
    """Somebody deleted a row: some hours later everything is compared, and it is there again."""
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


def test_publications_by_a_person_show_in_dagster_once(small_model: SmallModel) -> None:
    """Each materializes its partition with who and why, also if the sensor loses its cursor."""
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
    (record, *_) = Looks.instance.fetch_materializations(key, limit=1).records
    assert record.asset_materialization is not None
    assert "`a person`: `a test`" in str(record.asset_materialization.description)
    assert record.asset_materialization.metadata["actor"].value == "a person"


def test_a_rollback_shows_both_partitions(small_model: SmallModel) -> None:
    """The newer partition's batch is withdrawn, and the older batch is live again and the newest event."""
    first, second = published(small_model, 2)
    cursor = look(small_model, after=SETTLED).cursor
    publisher(small_model).roll_back(request())
    look(small_model, cursor, after=SETTLED)
    assert shown(small_model, "2013-02-02") == [(second, 2, "live"), (second, 3, "withdrawn")]
    assert shown(small_model)[-1] == (first, 3, "live")


def test_old_history_is_not_reported(small_model: SmallModel) -> None:
    """Without a cursor the newest publication is shown, whatever its age, and nothing long before it."""
    published(small_model, 3)
    for after in (timedelta(0), RECENT_WITHIN * 2, RECENT_WITHIN * 2):
        look(small_model, after=after)
    assert [sequence for _, sequence, _ in shown(small_model)] == [3]


def test_a_hold_is_an_observation(small_model: SmallModel) -> None:
    """It changes nothing that readers see, and is shown once beside what is live."""
    published(small_model, 1)
    publisher(small_model).hold(request(), held=True)
    for _ in range(2):
        look(small_model, after=SETTLED)
    key = dg.AssetKey([small_model.name, "publication"])
    (record,) = Looks.instance.fetch_observations(key, limit=10).records
    observed = record.event_log_entry.asset_observation
    assert observed is not None
    assert (observed.partition, observed.metadata["outcome"].value) == ("2013-02-01", "held")
    assert len(shown(small_model)) == 1


def test_dagsters_own_publication_is_not_reported_again(small_model: SmallModel) -> None:
    """Its run has materialized it; that of a run which still works is left to the run."""
    batch_id = small_model.verified_batch()
    assert materialized(small_model, instance=Looks.instance)["sequence"] == 1
    look(small_model, after=SETTLED)
    assert shown(small_model) == [(batch_id, 1, "live")]

    later = small_model.verified_batch(partition="2013-02-02")
    run = Looks.instance.add_run(dg.DagsterRun(job_name="load", status=dg.DagsterRunStatus.STARTED))
    asked = ChangeRequest(request_id="r", actor=f"{RUN_ACTOR}{run.run_id}", automatic=True)
    publisher(small_model).publish(later, asked, small_model.serving)
    cursor = look(small_model, after=SETTLED).cursor
    assert len(shown(small_model)) == 1
    # It fails between the publication and its materialization: readers see the batch all the same.
    Looks.instance.report_run_failed(run)
    look(small_model, cursor, after=SETTLED)
    assert shown(small_model)[1:] == [(later, 2, "live")]


def test_a_late_report_does_not_hide_a_newer_publication(small_model: SmallModel) -> None:
    """A run materialized its own before the sensor reported a person's, which is then an observation."""
    (first,) = published(small_model, 1)
    second = small_model.verified_batch(partition="2013-02-02")
    materialized(small_model, partition="2013-02-02", instance=Looks.instance)
    for _ in range(2):
        look(small_model, after=SETTLED)
    assert shown(small_model) == [(second, 2, "live")]
    key = dg.AssetKey([small_model.name, "publication"])
    observations = [
        record.event_log_entry.asset_observation
        for record in Looks.instance.fetch_observations(key, limit=10).records
    ]
    (observed,) = [each for each in observations if each]
    assert (observed.partition, observed.metadata["batch_id"].value) == ("2013-02-01", first)


def test_a_failed_partition_is_green_once_its_batch_is_live(small_model: SmallModel) -> None:
    """A person publishes a batch whose run failed: Dagster's page no longer shows the failure."""
    batch_id = small_model.registered_batch()
    with pytest.raises(dg.Failure, match="not verified"):
        materialized(small_model, instance=Looks.instance)
    partitions = small_model.partitions
    key = publication_asset(small_model.declaration, partitions).key

    def has_failed() -> bool:
        status = get_and_update_asset_status_cache_value(Looks.instance, key, partitions)
        assert status is not None
        return PARTITION in status.deserialize_failed_partition_subsets(partitions).get_partition_keys()

    assert has_failed()
    publisher(small_model).publish(small_model.verify(batch_id), request(), small_model.serving)
    look(small_model, after=SETTLED)
    assert not has_failed()


def test_an_unreadable_model_stops_no_other(small_model: SmallModel) -> None:
    """Its trouble is told, first beside what was done and then by a failed tick; the others are shown."""
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


def test_a_silent_snowflake_keeps_nothing_from_dagster(small_model: SmallModel) -> None:
    """The tick that alarms has reported what Dagster did not show."""
    (batch_id,) = published(small_model, 1)
    with pytest.raises(ProjectionLagsError):
        look(small_model, after=ALARM_AFTER * 2, silent=True)
    assert shown(small_model) == [(batch_id, 1, "live")]


def test_a_silent_snowflake_is_asked_again_and_alarmed_in_the_end(small_model: SmallModel) -> None:
    """The tick skips at first, and fails once readers of both stores have seen different batches for long."""
    (batch_id,) = published(small_model, 1)
    skipped = look(small_model, silent=True)
    assert skipped.skip_reason is not None
    with pytest.raises(ProjectionLagsError, match=f"publication 1 of {small_model.name}"):
        look(small_model, skipped.cursor, after=ALARM_AFTER * 2, silent=True)
    look(small_model, skipped.cursor)
    assert projection(small_model) == [(1, batch_id)]


@pytest.mark.parametrize("cursor", [None, "", "nonsense", "[]", '{"sequences": 3, "compared_at": 0}'])
def test_a_lost_cursor_loses_nothing(small_model: SmallModel, cursor: str | None) -> None:
    """Everything is compared once more."""
    published(small_model, 1)
    look(small_model)
    assert look(small_model, cursor).asset_events == []
    assert len(projection(small_model)) == 1


def test_the_live_view_is_brought_in_step(small_model: SmallModel) -> None:
    """Whoever published could not reach Snowflake, and held publication afterwards."""
    batch_id = verified(small_model, PARTITION, WIDE)
    publisher(small_model).publish(batch_id, request(), serving(WIDE))
    publisher(small_model).hold(request(), held=True)
    look(small_model)
    assert live_columns(small_model) == WIDE_VIEW


def test_a_model_that_snowflake_refuses_stops_no_other(small_model: SmallModel) -> None:
    """Somebody dropped a column of its table: it is named, and the others are projected."""
    (batch_id,) = published(small_model, 1)
    other = SmallModel(small_model.platform, declaration(f"{small_model.name}b"))
    publisher(other).publish(verified(other, PARTITION), request(), serving(WIDE))
    done = look(small_model, beside=other.name)
    assert projection(small_model) == [(1, batch_id)]
    assert f"{other.name} cannot be examined" in str(done.skip_reason)
    with pytest.raises(ModelsUnreadableError, match=other.name):
        look(small_model, done.cursor, beside=other.name)
