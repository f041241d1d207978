"""Conditions that a model version must meet to be promoted by rule."""

from __future__ import annotations

from prediction_contract.registry.conditions import AnyOf, Below, Clause, Condition, Differs, Equals, Missing
from prediction_contract.registry.version_records import ModelVersion

PROMOTION_BY_RULE_CONDITIONS = frozenset(
    {
        "version_is_approved",
        "version_is_newer_than_champion",
        "version_was_made_after_demotion",
        "version_was_judged_against_champion",
        "promotion_is_not_held",
    }
)
"""Conditions of promotion by rule only. A version that fails one waits for a person."""


def promotion_conditions(target: ModelVersion) -> tuple[Condition, ...]:
    """Return the conditions on the champion pointer.

    The champion must be older, and the version must have been judged against it. There must be no later
    demotion and no hold.
    """
    judged: Clause = Equals("version", target.judged_against) if target.judged_against else Missing("version")
    return (
        Condition(
            "version_is_newer_than_champion",
            AnyOf((Missing("version"), Below("version", target.version))),
            f"Version {target.version} is older than the champion",
            "Promote it explicitly if it should be the champion",
        ),
        Condition(
            "version_was_judged_against_champion",
            judged,
            f"The champion has changed since the plan: version {target.version} was judged against "
            + (f"version {target.judged_against}" if target.judged_against else "no champion"),
            "Retrain, or promote it explicitly",
        ),
        Condition(
            "version_was_made_after_demotion",
            AnyOf((Missing("withdrawn_before"), Below("withdrawn_before", target.created_at))),
            f"Version {target.version} was made before the last demotion and may have the same fault",
            "Retrain, or promote it explicitly",
        ),
        Condition(
            "promotion_is_not_held",
            Differs("hold", True),
            "The model's versions are on hold",
            "Release the hold, or promote the version explicitly",
        ),
    )
