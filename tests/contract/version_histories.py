"""For each condition of the version rules, a short history that breaks an invariant without it."""

from __future__ import annotations

from tests.contract.rules_machine import Step


def begin(released: int) -> Step:
    """Return the first step of a history, which releases this many versions."""
    return "begin", {"released": released}


def acts(actor: str, number: int = 0, choice: int = 0) -> Step:
    """Return a step in which an actor decides and acts immediately."""
    return "somebody_acts", {"actor": actor, "number": number, "choice": choice}


def overtaken(slow: str, number: int, *quick: tuple[str, int, int], choice: int = 0) -> Step:
    """Return a step in which other actors overtake a slow one."""
    return "an_actor_is_overtaken", {"slow": slow, "choice": choice, "quick": list(quick), "number": number}


def passes(hours: int) -> Step:
    """Return a step in which hours pass."""
    return "time_passes", {"hours": hours}


HISTORIES: dict[str, tuple[Step, ...]] = {
    "challenge.champion_is_as_seen": (begin(2), overtaken("challenge", 1, ("hold", 0, 0))),
    "challenge.request_is_new": (begin(2), acts("challenge", 1), acts("ask_again", choice=2)),
    "challenge.version_may_challenge": (begin(2), acts("challenge", 2)),
    "demote.champion_is_as_seen": (begin(2), overtaken("demote", 1, ("hold", 0, 0))),
    "demote.request_is_new": (
        begin(3),
        acts("demote", 2),
        acts("by_person", 3),
        acts("ask_again", choice=3),
    ),
    "demote.there_is_a_champion": (begin(1), acts("demote", choice=1), acts("demote", choice=1)),
    "demote.version_may_score": (begin(3), acts("demote", 2), acts("demote", 3)),
    "hold_versions.champion_is_as_seen": (begin(1), overtaken("hold", 0, ("release", 0, 0))),
    "hold_versions.request_is_new": (begin(1), acts("hold"), acts("ask_again", choice=1)),
    "promote.champion_is_as_seen": (
        begin(1),
        acts("register"),
        acts("follow", 2),
        overtaken("by_person", 2, ("hold", 0, 0)),
    ),
    "promote.promotion_is_not_held": (begin(1), acts("hold"), acts("release")),
    "promote.request_is_new": (
        begin(2),
        acts("by_person", 1),
        acts("by_person", 2),
        acts("ask_again", choice=2),
    ),
    "promote.version_is_approved": (
        begin(1),
        acts("register", choice=1),
        acts("follow", 2),
        acts("by_rule", 2),
    ),
    "promote.version_is_newer_than_champion": (
        begin(1),
        acts("register"),
        acts("release"),
        acts("judge_late", 2),
    ),
    "promote.version_may_score": (
        begin(1),
        acts("register", choice=1),
        acts("follow", 2),
        acts("by_person", 2),
    ),
    "promote.version_was_judged_against_champion": (
        begin(2),
        acts("release", choice=3),
    ),
    "promote.version_was_made_after_demotion": (
        begin(2),
        acts("register", choice=3),
        acts("follow", 3),
        acts("demote", 1),
        acts("by_rule", 3),
    ),
    "publish.version_is_not_withdrawn": (
        begin(2),
        acts("pin"),
        acts("demote", 1),
        acts("score_and_publish"),
    ),
    "record_version.version_is_as_seen": (
        begin(0),
        acts("register"),
        overtaken("follow", 1, ("follow", 1, 0), ("by_rule", 1, 0)),
    ),
    "record_version.version_is_the_same": (begin(1), acts("make_again", 1, choice=2), acts("follow", 1)),
    "retire_version.version_is_as_seen": (
        begin(3),
        passes(1),
        overtaken("retire", 1, ("by_person", 1, 0), ("pin", 0, 0), ("by_person", 2, 0), ("by_person", 3, 0)),
    ),
    "retire_version.version_is_not_the_challenger": (
        begin(3),
        acts("challenge", 1),
        passes(1),
        acts("retire", 1),
    ),
    "retire_version.version_is_not_the_previous_one": (begin(2), passes(1), acts("retire", 1)),
    "retire_version.version_is_over": (begin(1), acts("retire", 1)),
}
