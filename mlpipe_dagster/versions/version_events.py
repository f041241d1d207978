"""Dagster events for a model's versions: state changes, check results and champion changes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

import dagster as dg

from mlpipe_dagster.markdown import code_span, markdown_list
from mlpipe_dagster.pipeline.asset_metadata import DATA_VERSION
from mlpipe_dagster.pipeline.asset_names import (
    ARTIFACT_LOADS,
    BETTER_THAN_CHAMPION,
    MODEL_VERSIONS,
    NO_SLICE_WORSE,
    TRAINED_MODEL,
    asset_key,
)
from mlpipe_dagster.publication.publisher import RUN_ACTOR
from mlpipe_dagster.resources.data_bucket import DataBucket, ObjectUnreadableError
from mlpipe_dagster.resources.platform import Platform
from mlpipe_dagster.versions.version_metadata import version_metadata
from prediction_contract.jobs.verdict import Verdict
from prediction_contract.naming.resource_names import model_name_stem
from prediction_contract.naming.s3_layout import version_text
from prediction_contract.registry.table import RegistryTable
from prediction_contract.registry.version_records import (
    ModelVersion,
    PromotionEntry,
    VersionAction,
)
from prediction_contract.text.utc_time import parse_utc

Event = dg.AssetMaterialization | dg.AssetObservation | dg.AssetCheckEvaluation

# The most events per model and tick; the next tick shows the others.
MAX_SHOWN = 20
# The most ids per query of Dagster's storage: SQLite's limit is below a thousand.
_MAX_IDS = 500
# A run that promoted materializes the champion before it ends, and no run takes longer than this.
_LONGEST_RUN = timedelta(days=1)
_CHAMPION_CHANGES = frozenset({VersionAction.PROMOTE, VersionAction.DEMOTE})
_WORDS = {
    VersionAction.PROMOTE: "became the champion",
    VersionAction.DEMOTE: "is the champion again after a demotion",
    VersionAction.HOLD: "Promotion by rule was stopped",
    VersionAction.RELEASE_HOLD: "Promotion by rule was resumed",
    VersionAction.CHALLENGE: "The challenger was changed",
}


def version_partitions(model: str) -> dg.DynamicPartitionsDefinition:
    """Return the partitions of a model's versions, one per version, named by its zero-padded number."""
    return dg.DynamicPartitionsDefinition(name=f"{model_name_stem(model)}_{MODEL_VERSIONS}")


def shown_states(instance: dg.DagsterInstance, model: str, versions: Iterable[int]) -> dict[int, str]:
    """Return the state that Dagster shows for each version; versions that it does not show are left out."""
    key, keys = asset_key(model, MODEL_VERSIONS), {version_text(version): version for version in versions}
    if not keys:
        # For an empty set Dagster would return all partitions.
        return {}
    latest = instance.get_latest_storage_id_by_partition(
        key, dg.DagsterEventType.ASSET_MATERIALIZATION, set(keys)
    )
    ids = sorted(latest.values())
    shown = {}
    for first in range(0, len(ids), _MAX_IDS):
        asked = ids[first : first + _MAX_IDS]
        found = instance.fetch_materializations(
            dg.AssetRecordsFilter(key, storage_ids=asked), limit=len(asked)
        )
        for record in found.records:
            event = record.asset_materialization
            if event is not None and "state" in event.metadata:
                shown[keys[str(event.partition)]] = str(event.metadata["state"].value)
    return shown


def state_event(
    platform: Platform, version: ModelVersion, verdict: Verdict | None
) -> dg.AssetMaterialization:
    """Return a materialization of a version's partition with its present state."""
    reason = f": {code_span(version.reason)}" if version.reason else ""
    return dg.AssetMaterialization(
        asset_key(version.model, MODEL_VERSIONS),
        partition=version_text(version.version),
        description=f"Version {version.version} is {version.state}{reason}",
        metadata=version_metadata(platform, version, verdict),
        tags={DATA_VERSION: version.digest},
    )


@dataclass(frozen=True, slots=True)
class VersionVerdict:
    """A check's result for a version, and whether a failure is an error or only a warning."""

    passed: bool
    text: str
    is_error: bool = False


def version_verdicts(
    bucket: DataBucket, version: ModelVersion, verdict: Verdict | None
) -> dict[str, VersionVerdict]:
    """Return the results of a version's checks; comparisons only if the verdict has metrics."""
    found = {ARTIFACT_LOADS: _artifact_loads(bucket, version, verdict)}
    if verdict is not None and verdict.metrics:
        found[BETTER_THAN_CHAMPION] = VersionVerdict(bool(verdict.better), verdict.reason)
        worse = ", ".join(f"{each.column} {each.value}" for each in verdict.slices if each.is_worse)
        found[NO_SLICE_WORSE] = VersionVerdict(
            not verdict.worse_slices,
            f"Worse in {verdict.worse_slices} slices: {worse}"
            if verdict.worse_slices
            else f"None of {len(verdict.slices)} slices is worse",
        )
    return found


def _artifact_loads(bucket: DataBucket, version: ModelVersion, verdict: Verdict | None) -> VersionVerdict:
    address = f"s3://{version.artifact_bucket or bucket.name}/{version.artifact_key}"
    if version.codec is not None:
        # Dagster's roles can read only the archives of retraining.
        return VersionVerdict(True, f"{address} was trained elsewhere: each batch checks its SHA-256")
    try:
        if bucket.look(version.artifact_key) is None:
            return VersionVerdict(False, f"{address} does not exist", is_error=True)
    except ObjectUnreadableError as error:
        return VersionVerdict(False, str(error), is_error=True)
    if verdict is None:
        return VersionVerdict(True, f"{address} exists; its verdict was deleted")
    if verdict.candidate_sha256 != version.artifact_sha256:
        return VersionVerdict(
            False,
            f"{address} was judged with the SHA-256 {verdict.candidate_sha256}, but its model package has "
            f"{version.artifact_sha256}",
            is_error=True,
        )
    return VersionVerdict(True, f"{address} exists, and was loaded when it was judged")


def check_evaluation(version: ModelVersion, check: str, found: VersionVerdict) -> dg.AssetCheckEvaluation:
    """Return a check's result for a version as a Dagster event."""
    return dg.AssetCheckEvaluation(
        asset_key=asset_key(version.model, MODEL_VERSIONS),
        check_name=check,
        passed=found.passed,
        severity=dg.AssetCheckSeverity.ERROR if found.is_error else dg.AssetCheckSeverity.WARN,
        description=f"Version {version.version}: {found.text}",
        metadata={"version": version.version, "model_version": version.digest},
    )


def shown_sequence(instance: dg.DagsterInstance, model: str) -> int:
    """Return the number of the newest entry of the champion's history that Dagster shows; 0 if none."""
    latest = instance.get_latest_materialization_event(asset_key(model, TRAINED_MODEL))
    event = latest.asset_materialization if latest else None
    shown = event.metadata.get("promotion") if event else None
    return int(shown.value) if shown is not None and isinstance(shown.value, int) else 0


def entries_to_show(
    instance: dg.DagsterInstance, registry: RegistryTable, model: str, *, after: int, now: datetime
) -> list[PromotionEntry]:
    """Return the next entries of the champion's history that Dagster should show, oldest first.

    An unfinished run will show its own entry, so that entry and later ones are left out.

    Args:
        instance: The Dagster instance.
        registry: The registry.
        model: The model's name.
        after: The number of the last entry that is known to be shown; 0 if unknown.
        now: The current time.
    """
    newer = []
    for entry in registry.promotions(model, page_size=MAX_SHOWN):
        if entry.sequence <= after or len(newer) == MAX_SHOWN:
            break
        newer.append(entry)
    shown = []
    for entry in reversed(newer):
        if _is_shown_by_run(instance, entry, now):
            break
        shown.append(entry)
    return shown


def _is_shown_by_run(instance: dg.DagsterInstance, entry: PromotionEntry, now: datetime) -> bool:
    is_old = now - parse_utc(entry.changed_at) > _LONGEST_RUN
    if is_old or not entry.actor.startswith(RUN_ACTOR):
        return False
    run = instance.get_run_by_id(entry.actor.removeprefix(RUN_ACTOR))
    return run is not None and not run.is_finished


def champion_event(
    platform: Platform, entry: PromotionEntry, version: ModelVersion | None, verdict: Verdict | None
) -> Event:
    """Return an entry of the champion's history as an event of the trained model.

    A change of the champion is a materialization whose data version is the champion's digest. Holds, changes
    of the challenger, and demotions that leave no champion are observations.
    """
    action = VersionAction(entry.action)
    by = f"by {code_span(entry.actor)}" + (f": {code_span(entry.reason)}" if entry.reason else "")
    key = asset_key(entry.model, TRAINED_MODEL)
    if action not in _CHAMPION_CHANGES:
        return dg.AssetObservation(key, description=f"{_WORDS[action]} {by}", metadata=_facts(entry))
    if version is None:
        text = f"Version {entry.previous_version} was demoted, which leaves no champion, {by}"
        return dg.AssetObservation(key, description=text, metadata=_facts(entry))
    return dg.AssetMaterialization(
        key,
        description=f"Version {version.version} {_WORDS[action]}, {by}",
        metadata={**version_metadata(platform, version, verdict), **_facts(entry)},
        tags={DATA_VERSION: version.digest},
    )


def newest_champion_change(registry: RegistryTable, model: str) -> PromotionEntry | None:
    """Return the history entry that made the present champion; None if it is not among the newest ones."""
    newest = islice(registry.promotions(model, page_size=MAX_SHOWN), MAX_SHOWN)
    return next((entry for entry in newest if entry.action in _CHAMPION_CHANGES), None)


def champion_metadata(
    platform: Platform, entry: PromotionEntry | None, version: ModelVersion, verdict: Verdict | None
) -> Mapping[str, Any]:
    """Return the metadata of a run's materialization of the champion."""
    return {**version_metadata(platform, version, verdict), **(_facts(entry) if entry else {})}


def _facts(entry: PromotionEntry) -> dict[str, Any]:
    shown = {
        "promotion": entry.sequence,
        "action": str(entry.action),
        "actor": entry.actor,
        "promoted_because": entry.reason,
        "previous_version": entry.previous_version,
        "challenger": entry.challenger,
        "changed_at": entry.changed_at,
    }
    return {name: value for name, value in shown.items() if value not in {None, ""}}


def problems_observation(model: str, problems: list[str]) -> dg.AssetObservation:
    """Return an observation of the model's versions that lists the problems for a person."""
    return dg.AssetObservation(
        asset_key(model, MODEL_VERSIONS),
        description="; ".join(map(code_span, problems)),
        metadata={"problems": markdown_list(problems, empty="")},
    )
