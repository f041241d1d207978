"""A registry outage fails a sensor's tick at once, however many models there are."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from mlpipe_dagster.pipeline.model_sensors import ServedModel
from mlpipe_dagster.publication.live_batches_sensor import live_batches_tick
from mlpipe_dagster.publication.projection_sensor import projection_tick
from mlpipe_dagster.regions.serving_regions_sensor import serving_regions_tick
from prediction_contract.errors import RegistryUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
MODELS = [
    ServedModel(
        name=f"model_{number}",
        partitions=dg.DailyPartitionsDefinition("2026-01-01"),
        items_life=timedelta(days=90),
    )
    for number in range(20)
]
SETTINGS: Any = SimpleNamespace(deployment=SimpleNamespace(home="us-east-1"), serving_regions=("eu-west-1",))


class SilentRegistry:
    """Fail and count every call."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.asked = 0

    def __getattr__(self, _: str) -> Callable[..., Any]:
        def ask(*_: Any, **__: Any) -> None:
            self.asked += 1
            raise self.error

        return ask


def live_batches(platform: Any, instance: dg.DagsterInstance) -> None:
    """Evaluate the sensor of live batches."""
    live_batches_tick(dg.build_sensor_context(instance=instance), platform, MODELS, NOW)


def serving_regions(platform: Any, instance: dg.DagsterInstance) -> None:
    """Evaluate the sensor of serving regions."""
    serving_regions_tick(instance, platform, MODELS, NOW)


def projection(platform: Any, instance: dg.DagsterInstance) -> None:
    """Evaluate the sensor of Snowflake's projection."""
    warehouse: Any = None
    projection_tick(dg.build_sensor_context(instance=instance), platform, warehouse, MODELS, NOW)


@pytest.mark.parametrize("look", [live_batches, serving_regions, projection])
@pytest.mark.parametrize(
    "error",
    [
        EndpointConnectionError(endpoint_url="https://dynamodb"),
        ClientError({"Error": {"Code": "AccessDeniedException"}}, "GetItem"),
        RegistryUnavailableError("DynamoDB throttles", remedy="Run the step again"),
    ],
)
def test_outage_fails_the_tick_at_the_first_call(look: Callable[..., None], error: Exception) -> None:
    """One call may use up its retries, and a tick has only sixty seconds."""
    registry = SilentRegistry(error)
    platform: Any = SimpleNamespace(settings=SETTINGS, registry=registry)
    with dg.DagsterInstance.ephemeral() as instance, pytest.raises(type(error)):
        look(platform, instance)
    assert registry.asked == 1
