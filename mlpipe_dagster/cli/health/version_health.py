"""Finds faults of a model's champion, candidates, retraining and challenger, without I/O."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from mlpipe_dagster.cli.health.health_findings import HealthFinding, Severity
from mlpipe_dagster.cli.versions.listed_executions import SUCCEEDED, ListedExecution
from prediction_contract.jobs.verdict import APPROVED
from prediction_contract.registry.version_records import ChampionPointer, ModelVersion, VersionState
from prediction_contract.text.utc_time import parse_utc

# A month, the longest interval of schedules, and a few days to handle a failed execution.
RETRAINED_WITHIN = timedelta(days=35)


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionFacts:
    """The facts about a model's versions in the registry and in SageMaker.

    Attributes:
        model: The model's name.
        pointer: The champion pointer; an empty one before the first promotion.
        champion: The champion's record; None if there is no champion or no record.
        champion_approval: The approval status of its package; None if the package is gone.
        has_artifact: Whether the champion's file exists.
        waiting: Candidates and approved versions newer than the champion, each with the reason why it waits.
        executions: The newest executions of the retraining pipeline, newest first.
        is_scheduled: Whether the declaration schedules retraining.
        needs_champion: Whether the model cannot be scored without a champion.
        unchallenged: The partitions of the newest batches that the challenger has not scored.
        patience: How long versions and failed executions may wait for a person.
        now: The current time.
    """

    model: str
    pointer: ChampionPointer
    champion: ModelVersion | None
    champion_approval: str | None
    has_artifact: bool
    waiting: Sequence[tuple[ModelVersion, str]]
    executions: Sequence[ListedExecution]
    is_scheduled: bool
    needs_champion: bool
    unchallenged: Sequence[str]
    patience: timedelta
    now: datetime

    def finding(self, severity: Severity, topic: str, what: str, remedy: str) -> HealthFinding:
        """Return a finding about the model."""
        return HealthFinding(severity=severity, topic=topic, what=what, remedy=remedy, model=self.model)


def version_findings(facts: VersionFacts) -> Iterator[HealthFinding]:
    """Yield findings about a model's champion, candidates, retraining and challenger."""
    yield from _champion_findings(facts)
    yield from _waiting_findings(facts)
    yield from _retraining_findings(facts)
    if facts.unchallenged:
        yield facts.finding(
            Severity.WARNING,
            "challenger",
            f"Version {facts.pointer.challenger} is the challenger but has not scored "
            f"{', '.join(facts.unchallenged)}",
            f"Look at the runs of {facts.model}/challenger_predictions; the champion still scores",
        )


def _champion_findings(facts: VersionFacts) -> Iterator[HealthFinding]:
    number, model = facts.pointer.version, facts.model
    if facts.pointer.hold:
        yield facts.finding(
            Severity.NOTE,
            "champion",
            "Promotion of versions by rule is on hold",
            f"Run `mlpipe hold {model} --models --release` once its reason is gone",
        )
    if number is None:
        if facts.needs_champion:
            yield facts.finding(
                Severity.NOTE,
                "champion",
                "No version is the champion, so nothing can be scored",
                f"Run `mlpipe retrain {model}`, or `mlpipe promote {model}` with an approved version",
            )
        return
    champion, demote = facts.champion, f"run `mlpipe demote {model}`"
    if champion is None or champion.state != VersionState.CHAMPION or champion.digest != facts.pointer.digest:
        yield facts.finding(
            Severity.ERROR,
            "champion",
            f"The pointer names version {number} with digest {facts.pointer.digest}, but its record "
            + (f"is {champion.state} with digest {champion.digest}" if champion else "is missing"),
            "Restore the registry's records, or promote another version",
        )
        return
    if not facts.has_artifact:
        yield facts.finding(
            Severity.ERROR,
            "champion",
            f"The file of version {number} is gone, so the next batch cannot be scored: "
            f"{champion.artifact_key}",
            f"Restore it from the bucket's old versions, or {demote}",
        )
    if facts.champion_approval is None:
        yield facts.finding(
            Severity.WARNING,
            "champion",
            f"The package of version {number} is deleted, but the version still scores",
            f"If it must not score, {demote}; otherwise do nothing",
        )
    elif facts.champion_approval != APPROVED:
        yield facts.finding(
            Severity.WARNING,
            "champion",
            f"SageMaker shows version {number} as {facts.champion_approval}, but the version still scores",
            f"If it must not score, {demote}; otherwise approve its package again",
        )


def _waiting_findings(facts: VersionFacts) -> Iterator[HealthFinding]:
    for version, why in facts.waiting:
        is_late = parse_utc(version.created_at) < facts.now - facts.patience
        if is_late:
            yield facts.finding(
                Severity.WARNING,
                "candidates",
                f"Version {version.version} has waited since {version.created_at}: {why}",
                f"See `mlpipe models {facts.model}`, then `mlpipe promote {facts.model} {version.version}`, "
                "or reject its package",
            )


def _retraining_findings(facts: VersionFacts) -> Iterator[HealthFinding]:
    ended = next((each for each in facts.executions if each.has_ended), None)
    if ended and ended.status != SUCCEEDED and ended.started_at > facts.now - facts.patience:
        yield facts.finding(
            Severity.WARNING,
            "retraining",
            f"The last execution, {ended.execution_id}, is {ended.status}"
            + (f": {ended.failure}" if ended.failure else ""),
            f"See its steps in SageMaker, then run `mlpipe retrain {facts.model} --again`",
        )
    newest = facts.executions[0].started_at if facts.executions else None
    if facts.is_scheduled and (newest is None or newest < facts.now - RETRAINED_WITHIN):
        yield facts.finding(
            Severity.WARNING,
            "retraining",
            f"A schedule is declared, but no execution has started for {RETRAINED_WITHIN.days} days",
            "Check that the schedule exists and is enabled, and that its role may start the pipeline",
        )
