"""The sensor of Snowflake's projection: publications that it lacks are projected, and the lag is shown."""

# No postponed annotations: Dagster compares the context's annotation itself.
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import dagster as dg

from mlpipe_dagster.asset_names import PUBLICATION, asset_key
from mlpipe_dagster.resources.platform import Platform
from mlpipe_dagster.resources.warehouse import Warehouse
from mlpipe_dagster.sensors.served_models import ServedModel
from mlpipe_dagster.warehouse_projection import WarehouseSession
from prediction_contract.moments import parse_moment
from prediction_contract.registry.records import PublicationEntry
from prediction_contract.registry.table import RegistryTable

# Asking Snowflake wakes its warehouse, which costs: nothing is asked that was found in step, but for this.
COMPARE_ALL_AFTER = timedelta(hours=6)
ALARM_AFTER = timedelta(minutes=15)


class ProjectionLagsError(Exception):
    """Snowflake shows an earlier publication than the API, for longer than is normal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectionCursor:
    """What was found in step: each model's newest sequence, and when all were compared.

    Attributes:
        sequences: By model.
        compared_at: Seconds since 1970.
    """

    sequences: dict[str, int]
    compared_at: float = 0.0

    @classmethod
    def parse(cls, text: str | None) -> "ProjectionCursor":
        """Return the cursor of a sensor's text; one of another form counts as none."""
        try:
            document = json.loads(text or "{}")
            return cls(
                sequences={str(model): int(number) for model, number in document["sequences"].items()},
                compared_at=float(document["compared_at"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            return cls(sequences={})

    def text(self) -> str:
        """Return the cursor as a sensor keeps it."""
        return json.dumps({"sequences": self.sequences, "compared_at": self.compared_at})


def newest_sequences(registry: RegistryTable, models: Iterable[ServedModel], home: str) -> dict[str, int]:
    """Return the newest publication of each model that has any."""
    pointers = ((model.name, registry.pointer(model.name, home)) for model in models)
    return {name: pointer.sequence for name, pointer in pointers if pointer and pointer.sequence}


def project_gaps(
    session: WarehouseSession, registry: RegistryTable, newest: dict[str, int]
) -> dict[str, list[PublicationEntry]]:
    """Project what Snowflake lacks of these models; return the entries that were missing, by model."""
    there = session.projected_count()
    closed = {}
    for model, sequence in newest.items():
        # Numbers may be left out after a restore of the registry, so a difference is only a reason to look.
        if there.get(model) == (sequence, sequence):
            continue
        missing = session.missing_publications(model, registry.publications(model))
        if missing:
            session.project(model, missing)
            closed[model] = missing
    return closed


def lag_observation(model: str, missing: list[PublicationEntry], now: datetime) -> dg.AssetObservation:
    """Return how far the projection was behind, as an event of the model's publication."""
    lag = now - parse_moment(missing[0].published_at)
    return dg.AssetObservation(
        asset_key=asset_key(model, PUBLICATION),
        description="Snowflake's projection was behind and is in step again",
        metadata={
            "projected_again": len(missing),
            "first_missing_sequence": missing[0].sequence,
            "newest_sequence": missing[-1].sequence,
            "projection_lag_seconds": round(lag.total_seconds()),
        },
    )


def projection_tick(
    cursor_text: str | None,
    platform: Platform,
    warehouse: Warehouse,
    models: Iterable[ServedModel],
    now: datetime,
) -> dg.SensorResult:
    """Look once: ask Snowflake only of models whose publications are newer than what was found in step.

    Raises:
        ProjectionLagsError: Snowflake does not take them, and has shown an earlier publication for long.
    """
    cursor, registry = ProjectionCursor.parse(cursor_text), platform.registry
    newest = newest_sequences(registry, models, platform.settings.deployment.home)
    is_whole = now.timestamp() - cursor.compared_at > COMPARE_ALL_AFTER.total_seconds()
    asked = {
        model: sequence
        for model, sequence in newest.items()
        if is_whole or cursor.sequences.get(model) != sequence
    }
    if not asked:
        return dg.SensorResult(skip_reason="Snowflake's projection is in step", cursor=cursor.text())
    try:
        with warehouse.quick_session() as session:
            closed = project_gaps(session, registry, asked)
    except Exception as error:  # noqa: BLE001  # the connector raises many kinds, and each is the same here
        _alarm(registry, cursor, asked, now, error)
        return dg.SensorResult(
            skip_reason=f"Snowflake does not answer; it is asked again by the next tick: {error}"[:2000],
            cursor=cursor.text(),
        )
    kept = ProjectionCursor(
        sequences=newest if is_whole else {**cursor.sequences, **asked},
        compared_at=now.timestamp() if is_whole else cursor.compared_at,
    )
    return dg.SensorResult(
        skip_reason=f"Projected again: {', '.join(closed) or 'nothing was missing'}",
        cursor=kept.text(),
        asset_events=[lag_observation(model, missing, now) for model, missing in closed.items()],
    )


def _alarm(
    registry: RegistryTable,
    cursor: ProjectionCursor,
    asked: dict[str, int],
    now: datetime,
    error: Exception,
) -> None:
    """Fail the tick if a publication has waited for Snowflake for long."""
    for model in asked:
        waiting = registry.publications(model, after=cursor.sequences.get(model, 0))
        if waiting and now - parse_moment(waiting[0].published_at) > ALARM_AFTER:
            raise ProjectionLagsError(
                f"Snowflake lacks publication {waiting[0].sequence} of {model}, "
                f"of {waiting[0].published_at}, and does not answer: its live view may show an earlier "
                "batch than the API. Look at the warehouse; the projection is tried again by itself."
            ) from error


def projection_sensor(models: list[ServedModel]) -> dg.SensorDefinition:
    """Return the sensor over all models."""

    @dg.sensor(
        name="warehouse_projection",
        minimum_interval_seconds=60,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Keeps Snowflake's projection of the publications in step with the registry.",
        asset_selection=dg.AssetSelection.assets(*(asset_key(model.name, PUBLICATION) for model in models)),
    )
    def warehouse_projection(
        context: dg.SensorEvaluationContext, platform: Platform, warehouse: Warehouse
    ) -> dg.SensorResult:
        return projection_tick(context.cursor, platform, warehouse, models, datetime.now(UTC))

    return warehouse_projection
