"""Shows all of the registry's publications as events of Dagster's publication asset.

A publication by the pipeline has its own materialization. The commands `mlpipe publish`, `rollback` and
`hold` report theirs if they can reach the Dagster instance; otherwise a sensor does. Both first check which
publications Dagster already shows, so none is reported twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import dagster as dg

from mlpipe_dagster.markdown import code_span
from mlpipe_dagster.pipeline.asset_names import PUBLICATION, asset_key
from mlpipe_dagster.publication.publisher import RUN_ACTOR, PublicationOutcome
from prediction_contract.naming.batch import Partition
from prediction_contract.registry.records import Action, PublicationEntry, ReleaseState
from prediction_contract.registry.table import RegistryTable
from prediction_contract.stores.serving_record import InvalidServingError, ServingRecord
from prediction_contract.text.utc_time import CLOCK_SKEW, parse_utc

# A command reports its own publication within seconds; the sensor waits for that.
REPORT_GRACE = timedelta(minutes=1)
# Without a cursor, only publications younger than this are examined, and each model's newest one.
RECENT_WITHIN = timedelta(days=3)
# A run that published materializes the publication before it ends, and no run takes longer than this.
_LONGEST_RUN = timedelta(hours=6)
_MAX_REPORTS = 100
_MAX_EVENTS = 500
_HOLDS = {Action.HOLD: PublicationOutcome.HELD, Action.RELEASE_HOLD: PublicationOutcome.RELEASED}
_PAST_TENSES = {Action.PUBLISH: "published", Action.ROLLBACK: "made live again in a rollback"}

Event = dg.AssetMaterialization | dg.AssetObservation


@dataclass(kw_only=True)
class PublicationReporter:
    """Reports publications that Dagster does not show, up to a maximum number.

    Attributes:
        instance: The Dagster instance.
        registry: The registry.
        now: The current time.
        report_grace: Publications younger than this are left to the command or run that made them.
        remaining: How many more publications may be examined.
    """

    instance: dg.DagsterInstance
    registry: RegistryTable
    now: datetime
    report_grace: timedelta = REPORT_GRACE
    remaining: int = _MAX_REPORTS

    def report_missing(self, model: str, after: int | None = None) -> int | None:
        """Report a model's publications that Dagster lacks; return the number up to which it shows all.

        Args:
            model: The model's name.
            after: The result of an earlier call; None if unknown.
        """
        if self.remaining <= 0:
            return after
        if after is None:
            entries = self._recent(model)[: self.remaining]
        else:
            entries = self.registry.publications(model, after=after, most=self.remaining)
        if not entries:
            return after
        self.remaining -= len(entries)
        seen = shown_publications(self.instance, entries)
        reached = entries[0].sequence - 1 if after is None else after
        for entry in entries:
            if entry.sequence not in seen:
                if self._age(entry) < self.report_grace or self._is_shown_by_run(entry):
                    break
                # Materialized now, it would look newer than a newer publication that is already shown.
                self._report(entry, is_late=any(entry.sequence < sequence for sequence in seen))
            reached = entry.sequence
        return reached

    def _recent(self, model: str) -> list[PublicationEntry]:
        """Return the newest publication and the recent ones before it, oldest first."""
        found: list[PublicationEntry] = []
        for entry in self.registry.newest_publications(model):
            if found and self._age(entry) > RECENT_WITHIN:
                break
            found.append(entry)
        return found[::-1]

    def _report(self, entry: PublicationEntry, *, is_late: bool) -> None:
        previous = entry.previous_batch_id
        replaced = self.registry.batch(entry.model, previous) if previous else None
        for event in publication_events(entry, replaced.partition if replaced else None, is_late=is_late):
            self.instance.report_runless_asset_event(event)

    def _age(self, entry: PublicationEntry) -> timedelta:
        return self.now - parse_utc(entry.published_at)

    def _is_shown_by_run(self, entry: PublicationEntry) -> bool:
        """Return whether the run that made a publication is still going and will materialize it itself."""
        if not entry.actor.startswith(RUN_ACTOR) or self._age(entry) > _LONGEST_RUN:
            return False
        run = self.instance.get_run_by_id(entry.actor.removeprefix(RUN_ACTOR))
        return run is not None and not run.is_finished


def shown_publications(instance: dg.DagsterInstance, entries: list[PublicationEntry]) -> set[int]:
    """Return the numbers of one model's publications that Dagster already shows with their batch."""
    since = parse_utc(entries[0].published_at) - CLOCK_SKEW
    recent = dg.AssetRecordsFilter(
        asset_key(entries[0].model, PUBLICATION), after_timestamp=since.timestamp()
    )
    found = set()
    for fetch in (instance.fetch_materializations, instance.fetch_observations):
        for record in fetch(recent, limit=_MAX_EVENTS, ascending=True).records:
            event = record.asset_materialization or record.event_log_entry.asset_observation
            metadata = event.metadata if event else {}
            found.add(
                tuple(metadata[name].value if name in metadata else None for name in ("sequence", "batch_id"))
            )
    return {entry.sequence for entry in entries if (entry.sequence, entry.batch_id) in found}


def publication_events(
    entry: PublicationEntry, previous_partition: str | None, *, is_late: bool = False
) -> list[Event]:
    """Return the Dagster events for a publication.

    The live partition is materialized. A rollback first materializes the partition of the withdrawn batch, so
    that the asset's newest materialization shows the live one. A hold is an observation, because readers see
    no change.

    Args:
        entry: The publication.
        previous_partition: The partition of the batch that was live before.
        is_late: Whether Dagster already shows a newer publication; then the events are observations.
    """
    kind = dg.AssetObservation if is_late else dg.AssetMaterialization
    action = Action(entry.action)
    by = f"by {code_span(entry.actor)}" + (f": {code_span(entry.reason)}" if entry.reason else "")
    if held := _HOLDS.get(action):
        done = "stopped" if held is PublicationOutcome.HELD else "resumed"
        text = f"Automatic publication was {done} {by}"
        return [
            _event(dg.AssetObservation, entry, held, text, partition=entry.partition, batch_id=entry.batch_id)
        ]
    live = f"Batch {entry.batch_id} was {_PAST_TENSES.get(action, action)} {by}"
    events = [
        _event(
            kind,
            entry,
            PublicationOutcome.LIVE,
            live,
            partition=entry.partition,
            batch_id=entry.batch_id,
            **_rows(entry),
        )
    ]
    if action is Action.ROLLBACK and previous_partition not in {None, entry.partition}:
        previous = entry.previous_batch_id
        text = f"Batch {previous} was withdrawn in a rollback {by}"
        withdrawn = _event(
            kind, entry, ReleaseState.WITHDRAWN, text, partition=previous_partition, batch_id=previous
        )
        events.insert(0, withdrawn)
    return events


def _event(
    kind: type[Event],
    entry: PublicationEntry,
    outcome: str,
    description: str,
    *,
    partition: str | None,
    batch_id: str | None,
    **more: Any,
) -> Event:
    shown = {
        "batch_id": batch_id,
        "outcome": str(outcome),
        "live_batch_id": entry.batch_id,
        "sequence": entry.sequence,
        "action": str(entry.action),
        "actor": entry.actor,
        "reason": entry.reason,
        "previous_batch_id": entry.previous_batch_id,
        "published_at": entry.published_at,
        **more,
    }
    return kind(
        asset_key(entry.model, PUBLICATION),
        description=description,
        partition=Partition(partition).dagster_key if partition else None,
        metadata={name: value for name, value in shown.items() if value not in {None, ""}},
    )


def _rows(entry: PublicationEntry) -> dict[str, int]:
    """Return the number of rows that readers find in the batch; empty if the publication lacks it."""
    try:
        return {"dagster/row_count": ServingRecord.from_json(entry.serving or "").row_count}
    except InvalidServingError:
        return {}
