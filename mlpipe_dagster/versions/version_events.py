"""A model's versions as events of Dagster: each change of a state, and each change of the champion."""

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

# Of one model in one tick. The next one shows what is left over.
MAX_SHOWN = 20
# Ids of one question to Dagster's storage: SQLite takes no thousand of them.
_MAX_IDS = 500
# A run that promoted materializes the champion before it ends. No run takes longer.
_LONGEST_RUN = timedelta(days=1)
_MOVES = frozenset({VersionAction.PROMOTE, VersionAction.DEMOTE})
_WORDS = {
    VersionAction.PROMOTE: "became the champion",
    VersionAction.DEMOTE: "is the champion again after a demotion",
    VersionAction.HOLD: "Promotion by rule was stopped",
    VersionAction.RELEASE_HOLD: "Promotion by rule goes on",
    VersionAction.CHALLENGE: "The challenger was changed",
}


def version_partitions(model: str) -> dg.DynamicPartitionsDefinition:
    """Return the partitions of a model's versions: one for each, called by its number with leading zeros."""
    return dg.DynamicPartitionsDefinition(name=f"{model_name_stem(model)}_{MODEL_VERSIONS}")


def shown_states(instance: dg.DagsterInstance, model: str, versions: Iterable[int]) -> dict[int, str]:
    """Return the state that Dagster shows of each version, as far as it shows the version at all."""
    key, keys = asset_key(model, MODEL_VERSIONS), {version_text(version): version for version in versions}
    if not keys:
        # Dagster would tell of all partitions.
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
    """Return the present state of a version as an event of its partition."""
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
    """What a check of a version found, in words, and how grave a failure is."""

    passed: bool
    text: str
    is_grave: bool = False


def version_verdicts(
    bucket: DataBucket, version: ModelVersion, verdict: Verdict | None
) -> dict[str, VersionVerdict]:
    """Return what the checks of a version find; those that compare only where something was compared."""
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
        # Dagster's roles may read the archives of retraining alone.
        return VersionVerdict(True, f"{address} was trained elsewhere: each batch checks its SHA-256")
    try:
        if bucket.look(version.artifact_key) is None:
            return VersionVerdict(False, f"{address} does not exist", is_grave=True)
    except ObjectUnreadableError as error:
        return VersionVerdict(False, str(error), is_grave=True)
    if verdict is None:
        return VersionVerdict(True, f"{address} exists; its verdict is gone")
    if verdict.candidate_sha256 != version.artifact_sha256:
        return VersionVerdict(
            False,
            f"{address} was judged with the SHA-256 {verdict.candidate_sha256}, and its model package has "
            f"{version.artifact_sha256}",
            is_grave=True,
        )
    return VersionVerdict(True, f"{address} exists, and was loaded when it was judged")


def check_evaluation(version: ModelVersion, check: str, found: VersionVerdict) -> dg.AssetCheckEvaluation:
    """Return what a check of a version found as an event."""
    return dg.AssetCheckEvaluation(
        asset_key=asset_key(version.model, MODEL_VERSIONS),
        check_name=check,
        passed=found.passed,
        severity=dg.AssetCheckSeverity.ERROR if found.is_grave else dg.AssetCheckSeverity.WARN,
        description=f"Version {version.version}: {found.text}",
        metadata={"version": version.version, "model_version": version.digest},
    )


def shown_sequence(instance: dg.DagsterInstance, model: str) -> int:
    """Return the newest entry of the champion's history that Dagster shows as materialized; 0 if none."""
    latest = instance.get_latest_materialization_event(asset_key(model, TRAINED_MODEL))
    event = latest.asset_materialization if latest else None
    shown = event.metadata.get("promotion") if event else None
    return int(shown.value) if shown is not None and isinstance(shown.value, int) else 0


def entries_to_show(
    instance: dg.DagsterInstance, registry: RegistryTable, model: str, *, after: int, now: datetime
) -> list[PromotionEntry]:
    """Return the entries of the champion's history that Dagster is to show next, in their order.

    An entry that a run has made is left to it as long as it runs; so are those that follow.

    Args:
        instance: Dagster's.
        registry: The registry.
        model: The model's name.
        after: Up to which entry all are shown; 0 if that is not known.
        now: The present moment.
    """
    newer = []
    for entry in registry.promotions(model, page_size=MAX_SHOWN):
        if entry.sequence <= after or len(newer) == MAX_SHOWN:
            break
        newer.append(entry)
    shown = []
    for entry in reversed(newer):
        if _run_shows_it(instance, entry, now):
            break
        shown.append(entry)
    return shown


def _run_shows_it(instance: dg.DagsterInstance, entry: PromotionEntry, now: datetime) -> bool:
    is_old = now - parse_utc(entry.changed_at) > _LONGEST_RUN
    if is_old or not entry.actor.startswith(RUN_ACTOR):
        return False
    run = instance.get_run_by_id(entry.actor.removeprefix(RUN_ACTOR))
    return run is not None and not run.is_finished


def champion_event(
    platform: Platform, entry: PromotionEntry, version: ModelVersion | None, verdict: Verdict | None
) -> Event:
    """Return an entry of the champion's history as an event of the trained model.

    A move of the champion is a materialization whose data version is the champion's digest. A hold and a
    challenger change no champion: they are observations, and so is a demotion that leaves none.
    """
    action = VersionAction(entry.action)
    by = f"by {code_span(entry.actor)}" + (f": {code_span(entry.reason)}" if entry.reason else "")
    key = asset_key(entry.model, TRAINED_MODEL)
    if action not in _MOVES:
        return dg.AssetObservation(key, description=f"{_WORDS[action]} {by}", metadata=_facts(entry))
    if version is None:
        text = f"Version {entry.previous_version} was demoted, and no version is the champion, {by}"
        return dg.AssetObservation(key, description=text, metadata=_facts(entry))
    return dg.AssetMaterialization(
        key,
        description=f"Version {version.version} {_WORDS[action]}, {by}",
        metadata={**version_metadata(platform, version, verdict), **_facts(entry)},
        tags={DATA_VERSION: version.digest},
    )


def newest_move(registry: RegistryTable, model: str) -> PromotionEntry | None:
    """Return the entry of the champion's history that made it; None if it is not among the newest ones."""
    newest = islice(registry.promotions(model, page_size=MAX_SHOWN), MAX_SHOWN)
    return next((entry for entry in newest if entry.action in _MOVES), None)


def champion_metadata(
    platform: Platform, entry: PromotionEntry | None, version: ModelVersion, verdict: Verdict | None
) -> Mapping[str, Any]:
    """Return what the champion's materialization by a run shows."""
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
    """Return what somebody has to look at as an event of the model's versions."""
    return dg.AssetObservation(
        asset_key(model, MODEL_VERSIONS),
        description="; ".join(map(code_span, problems)),
        metadata={"problems": markdown_list(problems, empty="")},
    )
