"""The sensor that keeps Snowflake's projection and Dagster in step with publications, and reports lag."""

# No postponed annotations: Dagster compares the context's annotation itself.
import json
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from mlpipe_dagster.pipeline.asset_names import PUBLICATION, asset_key
from mlpipe_dagster.pipeline.model_sensors import ServedModel, UnreadableModels, is_outage, parse_cursor
from mlpipe_dagster.publication.publication_events import PublicationReporter
from mlpipe_dagster.resources.platform import Platform
from mlpipe_dagster.resources.warehouse import Warehouse
from mlpipe_dagster.resources.warehouse_session import WarehouseSession
from prediction_contract.registry.records import PublicationEntry
from prediction_contract.registry.table import RegistryTable
from prediction_contract.text.utc_time import parse_utc

# A query wakes Snowflake's warehouse, which costs money. So models in step are compared only this often.
COMPARE_ALL_EVERY = timedelta(hours=6)
# Dagster ends a tick after sixty seconds, and even a view that is in step takes some statements.
MAX_VIEWS = 20
ALARM_AFTER = timedelta(minutes=15)


class ProjectionLagsError(Exception):
    """Snowflake has shown an earlier publication than the API for longer than is normal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectionCursor:
    """The sensor's state between ticks.

    Attributes:
        sequences: By model, the newest publication number found in Snowflake.
        compared_at: When all models were last compared, in seconds since 1970.
        shown: By model, the number up to which Dagster shows all publications.
        viewed: The last model, in order of name, whose view the current comparison has replaced; empty if
            none.
    """

    sequences: dict[str, int]
    compared_at: float = 0.0
    shown: dict[str, int] = field(default_factory=dict)
    viewed: str = ""

    @classmethod
    def parse(cls, text: str | None) -> "ProjectionCursor":
        """Parse a sensor's cursor; an invalid one counts as empty."""

        def read(document: Any) -> ProjectionCursor:
            return cls(
                sequences=_numbers(document["sequences"]),
                compared_at=float(document["compared_at"]),
                shown=_numbers(document.get("shown", {})),
                viewed=str(document.get("viewed", "")),
            )

        return parse_cursor(text, read, cls(sequences={}))

    def text(self) -> str:
        """Return the cursor in the form that the sensor stores."""
        return json.dumps(asdict(self))


def _numbers(document: Any) -> dict[str, int]:
    return {str(model): int(number) for model, number in document.items()}


def newest_sequences(
    registry: RegistryTable, models: Iterable[ServedModel], home: str, unreadable: UnreadableModels
) -> dict[str, int]:
    """Return the number of the newest publication of each model that has any."""
    newest = {}
    for model in models:
        with unreadable.collect(model.name):
            pointer = registry.pointer(model.name, home)
            if pointer and pointer.sequence:
                newest[model.name] = int(pointer.sequence)
    return newest


def show_publications(
    reports: PublicationReporter, shown: dict[str, int], newest: dict[str, int], unreadable: UnreadableModels
) -> dict[str, int]:
    """Report publications that Dagster lacks; return, by model, the number up to which it shows all."""
    up_to = dict(shown)
    for model, sequence in newest.items():
        after = shown.get(model)
        if after == sequence:
            continue
        with unreadable.collect(model):
            # A restored registry may lack the newest publications.
            is_known = after is not None and after < sequence
            reached = reports.report_missing(model, after if is_known else None)
            if reached is not None:
                up_to[model] = reached
    return up_to


def project_gaps(
    session: WarehouseSession,
    registry: RegistryTable,
    home: str,
    newest: dict[str, int],
    unreadable: UnreadableModels,
    *,
    views: Collection[str] = (),
) -> dict[str, list[PublicationEntry]]:
    """Copy missing publications to Snowflake; return them by model.

    Args:
        session: An open session.
        registry: The registry.
        home: The home region.
        newest: The number of each model's newest publication.
        unreadable: Collects the errors of single models.
        views: The models whose view is replaced even if nothing is missing: a process that died between two
            reads of the registry may have left a view with an earlier batch's columns.
    """
    projected = session.projected_count()
    copied = {}
    for model, sequence in newest.items():
        # A restored registry may skip numbers, so a difference is only a reason to compare.
        if projected.get(model) == (sequence, sequence) and model not in views:
            continue
        with unreadable.collect(model, affects_all_models=_is_connection_error):
            missing = session.follow(registry, model, home)
            if missing:
                copied[model] = missing
    return copied


def _is_connection_error(error: Exception) -> bool:
    """Return whether Snowflake fails as a whole; a refused statement concerns only one model."""
    # Imported here, not while definitions load; the session has already imported it.
    from snowflake.connector.errors import Error, ProgrammingError  # noqa: PLC0415

    return isinstance(error, Error) and not isinstance(error, ProgrammingError)


def lag_observation(model: str, missing: list[PublicationEntry], now: datetime) -> dg.AssetObservation:
    """Return an observation of the publication with the projection's lag and the missing publications."""
    lag = now - parse_utc(missing[0].published_at)
    return dg.AssetObservation(
        asset_key=asset_key(model, PUBLICATION),
        description="Snowflake's projection was behind and is up to date again",
        metadata={
            "projected_again": len(missing),
            "first_missing_sequence": missing[0].sequence,
            "newest_sequence": missing[-1].sequence,
            "projection_lag_seconds": round(lag.total_seconds()),
        },
    )


def projection_tick(
    context: dg.SensorEvaluationContext,
    platform: Platform,
    warehouse: Warehouse,
    models: Iterable[ServedModel],
    now: datetime,
) -> dg.SensorResult:
    """Report publications that Dagster lacks, and copy those that Snowflake lacks.

    Raises:
        ProjectionLagsError: Snowflake does not answer, and has lacked a publication for too long.
        ModelsUnreadableError: A model's publications cannot be read, and there is nothing else to report.
    """
    cursor, registry = ProjectionCursor.parse(context.cursor), platform.registry
    unreadable, gaps = UnreadableModels(), UnreadableModels()
    home = platform.settings.deployment.home
    newest = newest_sequences(registry, models, home, unreadable)
    # Reported before Snowflake is queried, which may fail the tick: Dagster stores each report at once.
    reports = PublicationReporter(instance=context.instance, registry=registry, now=now)
    cursor = replace(cursor, shown=show_publications(reports, cursor.shown, newest, unreadable))
    compares_all = now.timestamp() - cursor.compared_at > COMPARE_ALL_EVERY.total_seconds()
    asked = {
        model: sequence
        for model, sequence in newest.items()
        if compares_all or cursor.sequences.get(model) != sequence
    }
    if not asked:
        return unreadable.result(context.cursor, "Snowflake's projection is up to date", cursor=cursor.text())
    left = sorted(model for model in asked if model > cursor.viewed) if compares_all else []
    views = left[:MAX_VIEWS]
    try:
        with warehouse.quick_session() as session:
            copied = project_gaps(session, registry, home, asked, gaps, views=views)
    except Exception as error:  # the connector raises many kinds, and each is the same here
        if is_outage(error):
            raise
        if lag := _lag(registry, cursor, asked, now, gaps):
            raise ProjectionLagsError(lag) from error
        reason = f"Snowflake does not answer; the next tick tries again: {error}"
        unreadable.errors |= gaps.errors
        return unreadable.result(context.cursor, reason, cursor=cursor.text())
    in_step = {model: sequence for model, sequence in asked.items() if model not in gaps.errors}
    kept = replace(
        cursor,
        sequences=in_step if compares_all else {**cursor.sequences, **in_step},
        compared_at=now.timestamp() if compares_all and views == left else cursor.compared_at,
        viewed=views[-1] if views != left else "",
    )
    unreadable.errors |= gaps.errors
    return unreadable.result(
        context.cursor,
        f"Missing publications copied to Snowflake: {', '.join(copied) or 'none'}",
        cursor=kept.text(),
        events=[lag_observation(model, missing, now) for model, missing in copied.items()],
    )


def _lag(
    registry: RegistryTable,
    cursor: ProjectionCursor,
    asked: dict[str, int],
    now: datetime,
    gaps: UnreadableModels,
) -> str:
    """Return a sentence about a publication that has waited too long for Snowflake; empty if none has."""
    for model in asked:
        waiting: list[PublicationEntry] = []
        with gaps.collect(model):
            waiting = registry.publications(model, after=cursor.sequences.get(model, 0), most=1)
        if waiting and now - parse_utc(waiting[0].published_at) > ALARM_AFTER:
            return (
                f"Snowflake lacks publication {waiting[0].sequence} of {model}, made at "
                f"{waiting[0].published_at}, and does not answer: its live view may show an earlier batch "
                "than the API. Check the warehouse; the sensor keeps trying."
            )
    return ""


def projection_sensor(models: list[ServedModel]) -> dg.SensorDefinition:
    """Return the sensor for all models."""

    @dg.sensor(
        name="warehouse_projection",
        minimum_interval_seconds=60,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Keeps Snowflake's projection and Dagster's page up to date with the publications.",
        asset_selection=dg.AssetSelection.assets(*(asset_key(model.name, PUBLICATION) for model in models)),
    )
    def warehouse_projection(
        context: dg.SensorEvaluationContext, platform: Platform, warehouse: Warehouse
    ) -> dg.SensorResult:
        return projection_tick(context, platform, warehouse, models, datetime.now(UTC))

    return warehouse_projection
