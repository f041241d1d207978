"""Documents about model versions: record, verdict, plan, and times as champion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from mlpipe_dagster.resources.data_bucket import DataBucket
from prediction_contract.errors import ContractError, RuleViolationError
from prediction_contract.jobs.retraining_plan import RetrainingPlan
from prediction_contract.jobs.verdict import Verdict
from prediction_contract.naming.s3_layout import PLAN_NAME, retraining_prefix
from prediction_contract.registry import version_rules
from prediction_contract.registry.records import ChangeRequest
from prediction_contract.registry.version_records import (
    ChampionPointer,
    ModelVersion,
    PromotionEntry,
    VersionState,
)
from prediction_contract.text.utc_time import parse_utc

# Plans list each partition's features, and verdicts list slices.
_DOCUMENT_BYTES = 4_000_000
_BY_RULE = ChangeRequest(request_id="asked", actor="rule", automatic=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionHistory:
    """The facts that all documents of a model's versions need.

    Attributes:
        pointer: The champion pointer.
        entries: The entries of the champion's history to show, by sequence.
        batches: By version, how many of the counted batches it scored.
    """

    pointer: ChampionPointer
    entries: Mapping[int, PromotionEntry] = field(default_factory=dict)
    batches: Mapping[int, int] = field(default_factory=dict)


def version_document(bucket: DataBucket, version: ModelVersion, history: VersionHistory) -> dict[str, Any]:
    """Return a version as `mlpipe models` shows it."""
    verdict, trouble = _verdict(bucket, version)
    plan = _plan(bucket, version)
    promoted, superseded = (
        history.entries.get(sequence or 0)
        for sequence in (version.promoted_sequence, version.superseded_sequence)
    )
    return {
        "version": version.version,
        "state": version.state,
        "digest": version.digest,
        "created_at": version.created_at,
        "trained_until": version.trained_until,
        "judged_on": [verdict.first_held_out, verdict.last_held_out] if verdict else None,
        "judged_against": version.judged_against or None,
        "metrics": [asdict(metric) for metric in verdict.metrics] if verdict else [],
        "slices": [asdict(each) for each in verdict.slices] if verdict else [],
        "worse_slices": verdict.worse_slices if verdict else None,
        "verdict": verdict.reason if verdict else None,
        "verdict_trouble": trouble,
        "approval": version.approval,
        "approved_by": version.approved_by,
        "reason": version.reason,
        "waits_for": waits_for(version, history.pointer),
        "champion_since": promoted.changed_at if promoted else None,
        "champion_until": superseded.changed_at if superseded else None,
        "batches": history.batches.get(version.version, 0),
        "cause": plan.cause if plan else None,
        "requested_by": plan.requested_by if plan else None,
        "execution_arn": version.execution_arn,
        "code_version": version.code_version,
        "package_arn": version.package_arn,
        "artifact": f"s3://{version.artifact_bucket or bucket.name}/{version.artifact_key}",
    }


def waits_for(version: ModelVersion, pointer: ChampionPointer) -> str | None:
    """Return why a version is not promoted automatically yet; None if it is not waiting."""
    if version.state == VersionState.CANDIDATE:
        return "A person must approve it"
    if version.state != VersionState.APPROVED:
        return None
    seen = pointer if pointer.sequence else None
    # The rule does not depend on the time.
    promotion = version_rules.promote(version, seen, _BY_RULE, now=parse_utc(version.created_at))
    try:
        promotion.check({record.key: _attributes(record) for record in (version, seen) if record})
    except RuleViolationError as violation:
        return violation.what
    return "The sensor `model_versions` promotes it within minutes, if Dagster is running"


def champion_document(pointer: ChampionPointer) -> dict[str, Any]:
    """Return the champion pointer; `version` is null before the first promotion."""
    return {
        "version": pointer.version,
        "digest": pointer.digest,
        "since": pointer.promoted_at if pointer.version else None,
        "previous_version": pointer.previous_version,
        "challenger": pointer.challenger,
        "sequence": pointer.sequence,
        "hold": pointer.hold,
        "withdrawn_before": pointer.withdrawn_before,
    }


def _attributes(record: ModelVersion | ChampionPointer) -> dict[str, Any]:
    return {name: value for name, value in asdict(record).items() if value is not None}


def _verdict(bucket: DataBucket, version: ModelVersion) -> tuple[Verdict | None, str | None]:
    """Return the verdict on a version, or the reason why there is none."""
    if version.verdict_key is None:
        return None, None
    try:
        return Verdict.parse(bucket.read(version.verdict_key, most_bytes=_DOCUMENT_BYTES)), None
    except ContractError as error:
        return None, str(error)


def _plan(bucket: DataBucket, version: ModelVersion) -> RetrainingPlan | None:
    if version.execution_arn is None:
        return None
    try:
        prefix = retraining_prefix(version.model, version.execution_arn.rpartition("/")[2])
        return RetrainingPlan.parse(bucket.read(f"{prefix}{PLAN_NAME}", most_bytes=_DOCUMENT_BYTES))
    except ContractError:
        return None
