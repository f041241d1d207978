"""Promotion by rule: the newest approved version becomes the champion if no rule prevents it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from prediction_contract.errors import ContractError, RuleViolationError
from prediction_contract.registry.promotion_conditions import PROMOTION_BY_RULE_CONDITIONS
from prediction_contract.registry.records import ChangeRequest
from prediction_contract.registry.table import RegistryTable
from prediction_contract.registry.transaction import Transaction
from prediction_contract.registry.version_records import ChampionPointer, ModelVersion, VersionState
from prediction_contract.registry.version_rules import promote


class UnknownVersionError(ContractError):
    """The registry has no such version of the model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromotionByRule:
    """The result of an attempt to promote by rule.

    Attributes:
        champion: The champion pointer afterwards; None before the first promotion.
        promoted: The version that this attempt made the champion.
        waiting: Why approved versions newer than the champion are not promoted, by version.
    """

    champion: ChampionPointer | None
    promoted: int | None = None
    waiting: Mapping[int, str] = field(default_factory=dict)


def promote_by_rule(
    registry: RegistryTable, model: str, versions: Iterable[ModelVersion], *, actor: str, now: datetime
) -> PromotionByRule:
    """Promote the newest approved version that the rules allow.

    Args:
        registry: The registry.
        model: The model's name.
        versions: The model's versions; each is read again before it is promoted.
        actor: The sensor or run that promotes.
        now: The current time.

    Raises:
        RegistryUnavailableError: The registry did not take the change in time.
    """
    pointer = registry.champion(model)
    approved = (each for each in versions if each.state == VersionState.APPROVED)
    waiting = {}
    for version in sorted(approved, key=lambda each: each.version, reverse=True):
        if pointer and pointer.version is not None and version.version < pointer.version:
            break
        request = ChangeRequest(
            # The id does not depend on the actor, so a version is promoted by rule at most once.
            request_id=f"promotion-by-rule:{version.version}",
            actor=actor,
            reason=f"approved by {version.approved_by}",
            automatic=True,
        )
        try:
            changed = registry.carry_out(
                lambda number=version.version, request=request: _promotion(
                    registry, model, number, request, now
                )
            )
        except RuleViolationError as violation:
            if violation.condition not in PROMOTION_BY_RULE_CONDITIONS:
                raise
            waiting[version.version] = violation.what
            continue
        return PromotionByRule(
            champion=registry.champion(model),
            promoted=version.version if changed else None,
            waiting=waiting,
        )
    return PromotionByRule(champion=pointer, waiting=waiting)


def _promotion(
    registry: RegistryTable, model: str, number: int, request: ChangeRequest, now: datetime
) -> Transaction:
    pointer = registry.champion(model)
    return promote(known_version(registry, model, number), pointer, request, now=now)


def known_version(registry: RegistryTable, model: str, version: int) -> ModelVersion:
    """Return the record of a version.

    Raises:
        UnknownVersionError: The registry has no such version.
    """
    record = registry.model_version(model, version)
    if record is None:
        raise UnknownVersionError(
            f"The registry does not know version {version}",
            remedy=f"See `mlpipe models {model}`",
            model=model,
        )
    return record
