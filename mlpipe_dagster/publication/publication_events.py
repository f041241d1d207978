"""The registry's publications as events of Dagster's publication asset, whoever made them.

A publication by the pipeline has its own materialization. One by `mlpipe publish`, `rollback` or `hold` is
reported by the command where it reaches the Dagster instance, and by a sensor otherwise. Both look first
which publications Dagster shows already, so none is reported twice.
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

# A command reports its own publication within seconds: the sensor leaves it that time.
SETTLES_WITHIN = timedelta(minutes=1)
# Without a cursor, only publications of this time are looked at, and the newest one of each model.
LOOKS_BACK = timedelta(days=3)
# A run that published materializes the publication before it ends. No run takes longer.
_LONGEST_RUN = timedelta(hours=6)
_MAX_REPORTS = 100
_MAX_EVENTS = 500
_HOLDS = {Action.HOLD: PublicationOutcome.HELD, Action.RELEASE_HOLD: PublicationOutcome.RELEASED}
_DONE = {Action.PUBLISH: "published", Action.ROLLBACK: "made live again by a rollback"}

Event = dg.AssetMaterialization | dg.AssetObservation


@dataclass(kw_only=True)
class PublicationReporter:
    """Reports what Dagster does not show yet, a limited number of publications at a time.

    Attributes:
        instance: Dagster's.
        registry: The registry.
        now: The present moment.
        settles_within: Publications younger than this are left to whoever made them.
        left: How many publications may still be looked at.
    """

    instance: dg.DagsterInstance
    registry: RegistryTable
    now: datetime
    settles_within: timedelta = SETTLES_WITHIN
    left: int = _MAX_REPORTS

    def up_to(self, model: str, after: int | None = None) -> int | None:
        """Report a model's publications after a sequence; return up to which sequence Dagster shows all.

        Args:
            model: The model's name.
            after: What an earlier call returned; None if that is not known.
        """
        if self.left <= 0:
            return after
        if after is None:
            entries = self._recent(model)[: self.left]
        else:
            entries = self.registry.publications(model, after=after, most=self.left)
        if not entries:
            return after
        self.left -= len(entries)
        seen = shown_publications(self.instance, entries)
        reached = entries[0].sequence - 1 if after is None else after
        for entry in entries:
            if entry.sequence not in seen:
                if self._age(entry) < self.settles_within or self._run_shows_it(entry):
                    break
                # Its materialization would take the place of a newer one.
                self._report(entry, is_late=any(entry.sequence < sequence for sequence in seen))
            reached = entry.sequence
        return reached

    def _recent(self, model: str) -> list[PublicationEntry]:
        """Return the newest publication and those before it that are looked at, in their order."""
        found: list[PublicationEntry] = []
        for entry in self.registry.newest_publications(model):
            if found and self._age(entry) > LOOKS_BACK:
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

    def _run_shows_it(self, entry: PublicationEntry) -> bool:
        """Return whether the run that made a publication still runs, and will materialize it."""
        if not entry.actor.startswith(RUN_ACTOR) or self._age(entry) > _LONGEST_RUN:
            return False
        run = self.instance.get_run_by_id(entry.actor.removeprefix(RUN_ACTOR))
        return run is not None and not run.is_finished


def shown_publications(instance: dg.DagsterInstance, entries: list[PublicationEntry]) -> set[int]:
    """Return the sequences of those publications of one model that have an event of their batch."""
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
    """Return what Dagster shows of a publication.

    The partition that is live is materialized. A rollback also materializes the partition of the batch that
    it withdrew, before the live one: the asset's newest materialization shows what readers see. A hold
    changes nothing that readers see, and is an observation.

    Args:
        entry: The publication.
        previous_partition: The partition of the batch that was live before.
        is_late: Whether Dagster shows a newer publication already: then nothing is materialized.
    """
    kind = dg.AssetObservation if is_late else dg.AssetMaterialization
    action = Action(entry.action)
    by = f"by {code_span(entry.actor)}" + (f": {code_span(entry.reason)}" if entry.reason else "")
    if held := _HOLDS.get(action):
        text = f"Automatic publication was {held} {by}"
        return [
            _event(dg.AssetObservation, entry, held, text, partition=entry.partition, batch_id=entry.batch_id)
        ]
    live = f"Batch {entry.batch_id} was {_DONE.get(action, action)} {by}"
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
        text = f"Batch {previous} was withdrawn by a rollback {by}"
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
    """Return how many rows readers find in the batch, or nothing if the publication does not record it."""
    try:
        return {"dagster/row_count": ServingRecord.from_json(entry.serving or "").row_count}
    except InvalidServingError:
        return {}
