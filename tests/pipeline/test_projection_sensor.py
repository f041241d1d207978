"""Snowflake's projection is kept in step by itself, and a lag is shown and alarmed."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from mlpipe_dagster.resources.warehouse import Warehouse
from mlpipe_dagster.sensors.projection import (
    ALARM_AFTER,
    COMPARE_ALL_AFTER,
    ProjectionLagsError,
    projection_tick,
)
from mlpipe_dagster.sensors.served_models import ServedModel
from tests.pipeline.small_model import SmallModel, now
from tests.pipeline.test_publication_asset import projection, publisher, request

if TYPE_CHECKING:
    import dagster as dg

pytestmark = pytest.mark.stack


class SilentWarehouse(Warehouse):
    """A fake at the edge: Snowflake does not answer."""

    def quick_session(self) -> Any:
        """Fail as the connector does."""
        raise ConnectionError("Snowflake does not answer")


def look(
    small: SmallModel, cursor: str | None = None, *, after: timedelta = timedelta(0), silent: bool = False
) -> dg.SensorResult:
    """Let the sensor look, some time from now."""
    model = ServedModel(name=small.name, partitions=small.partitions, items_life=timedelta(days=90))
    warehouse = (SilentWarehouse if silent else Warehouse)(platform=small.platform)
    return projection_tick(cursor, small.platform, warehouse, [model], now() + after)


def published(small: SmallModel, days: int) -> list[str]:
    """Publish a batch for each of some days as the command line does, without Snowflake."""
    batches = [small.verified_batch(partition=f"2013-02-{day + 1:02}") for day in range(days)]
    for batch_id in batches:
        publisher(small).publish(batch_id, request(), "{}")
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
    mended = look(small_model, done.cursor, after=COMPARE_ALL_AFTER + timedelta(minutes=1))
    assert projection(small_model) == list(enumerate(batches, start=1))
    (observed,) = mended.asset_events
    assert observed.metadata["first_missing_sequence"].value == 2


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
