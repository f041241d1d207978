"""Tests of the rules of model versions: recorded packages, promotion, demotion and retirement."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from prediction_contract.errors import RuleViolationError
from prediction_contract.registry import version_rules
from prediction_contract.registry.records import ChangeRequest, request_key
from prediction_contract.registry.transaction import Transaction
from prediction_contract.registry.version_records import (
    ChampionPointer,
    ModelVersion,
    PromotionEntry,
    champion_key,
    promotion_key,
    version_key,
    version_request_key,
)
from prediction_contract.text.utc_time import format_utc
from tests.fakes.prediction_stores import MODEL, START
from tests.fakes.registry_table import FakeRegistryTable

HOUR = timedelta(hours=1)


class VersionScenario:
    """A registry whose model versions are changed one after another, without concurrency."""

    def __init__(self) -> None:
        self.table = FakeRegistryTable()
        self.now = START
        self.requests = 0

    def found(
        self,
        number: int,
        approval: str = "Approved",
        *,
        judged_against: int = 0,
        digest: str = "",
        approved_by: str = "ada",
        reason: str | None = None,
    ) -> ModelVersion:
        """Return a package as read from SageMaker, created `number` hours after the start."""
        return ModelVersion(
            model=MODEL,
            version=number,
            state="candidate",
            artifact_key=f"models/{MODEL}/candidates/{number}/output/model.tar.gz",
            artifact_sha256="0" * 64,
            package_arn=f"arn:aws:sagemaker:us-east-1:111111111111:model-package/group/{number}",
            approval=approval,
            judged_against=judged_against,
            digest=digest or f"{number:016x}",
            created_at=format_utc(START + number * HOUR),
            approved_by=approved_by if approval == "Approved" else None,
            reason=reason,
        )

    def version(self, number: int) -> ModelVersion:
        """Return a version's record."""
        record = self.table.model_version(MODEL, number)
        assert record is not None
        return record

    def pointer(self) -> ChampionPointer:
        """Return the champion pointer."""
        return self.table.champion(MODEL) or ChampionPointer(model=MODEL)

    def states(self) -> dict[int, str]:
        """Return the state of each version."""
        return {
            number: record.state
            for number in range(1, 10)
            if (record := self.table.model_version(MODEL, number))
        }

    def request(self, *, automatic: bool = False) -> ChangeRequest:
        """Return a new request."""
        self.requests += 1
        return ChangeRequest(
            request_id=f"request-{self.requests}", actor="ada", reason="bad rows", automatic=automatic
        )

    def record(self, found: ModelVersion) -> Transaction:
        """Record a package and return the transaction."""
        transaction = version_rules.record_version(self.table.model_version(MODEL, found.version), found)
        assert self.table.apply("", transaction) is None
        return transaction

    def promote(self, number: int, *, automatic: bool = False, now: datetime | None = None) -> str | None:
        """Promote a version; return the violated condition, or None."""
        change = version_rules.promote(
            self.version(number),
            self.table.champion(MODEL),
            self.request(automatic=automatic),
            now=now or self.now,
        )
        return self.table.apply("", change)

    def demote(self, target: int | None, *, now: datetime | None = None) -> str | None:
        """Demote the champion; return the violated condition, or None."""
        version = None if target is None else self.version(target)
        return self.table.apply(
            "", version_rules.demote(version, self.pointer(), self.request(), now=now or self.now)
        )


@pytest.fixture
def scenario() -> VersionScenario:
    """A scenario with version 1 as the champion."""
    scenario = VersionScenario()
    scenario.record(scenario.found(1))
    assert scenario.promote(1, automatic=True) is None
    return scenario


@pytest.mark.parametrize(
    ("approval", "state"),
    [
        ("Approved", "approved"),
        ("PendingManualApproval", "candidate"),
        ("Rejected", "refused"),
        ("SomethingNew", "candidate"),
    ],
)
def test_approval_sets_state_of_new_package(approval: str, state: str) -> None:
    """A new package's state depends only on its approval; an unknown approval makes it a candidate."""
    scenario = VersionScenario()
    scenario.record(replace(scenario.found(1, approval), state="champion"))
    assert scenario.version(1).state == state


def test_unchanged_package_is_not_rewritten(scenario: VersionScenario) -> None:
    """Recording a package that is already recorded in the same way writes nothing."""
    scenario.record(scenario.found(2, "PendingManualApproval"))
    assert not scenario.record(scenario.found(2, "PendingManualApproval")).writes
    assert not scenario.record(scenario.found(1)).writes


def test_approval_changes_are_recorded(scenario: VersionScenario) -> None:
    """A changed approval updates the version's state, approver and reason."""
    scenario.record(scenario.found(2, "PendingManualApproval"))
    scenario.record(scenario.found(2, approved_by="eve"))
    assert (scenario.version(2).state, scenario.version(2).approved_by) == ("approved", "eve")
    scenario.record(scenario.found(2, "Rejected", reason="too few rows"))
    refused = scenario.version(2)
    assert (refused.state, refused.approval, refused.approved_by) == ("refused", "Rejected", None)
    assert refused.reason == "too few rows"


def test_approval_changes_neither_champion_nor_withdrawal(scenario: VersionScenario) -> None:
    """A rejection does not demote the champion, and an approval does not restore a withdrawn version."""
    scenario.record(scenario.found(1, "Rejected"))
    assert (scenario.version(1).state, scenario.version(1).approval) == ("champion", "Rejected")
    assert scenario.version(1).approved_by == "ada"
    scenario.record(scenario.found(2, judged_against=1))
    assert scenario.promote(2) is None
    assert scenario.demote(1) is None
    scenario.record(scenario.found(2))
    assert (scenario.version(2).state, scenario.version(2).reason) == ("withdrawn", "bad rows")


def test_rejected_superseded_version_is_withdrawn(scenario: VersionScenario) -> None:
    """Rejecting a superseded version's package withdraws it, so no demotion can return to it."""
    scenario.record(scenario.found(2, judged_against=1))
    assert scenario.promote(2, automatic=True) is None
    scenario.record(scenario.found(1, "Rejected", reason="leak"))
    assert (scenario.version(1).state, scenario.version(1).reason) == ("withdrawn", "leak")
    assert scenario.demote(1) == "version_may_score"


def test_version_number_is_never_reused(scenario: VersionScenario) -> None:
    """A package of a recreated group is refused if its number is already recorded."""
    again = scenario.found(1, digest="f" * 16)
    transaction = version_rules.record_version(scenario.version(1), again)
    with pytest.raises(RuleViolationError, match="A deleted model package group restarts") as refusal:
        transaction.check(scenario.table.records)
    assert refusal.value.condition == "version_is_the_same"


def test_outdated_package_state_is_not_written(scenario: VersionScenario) -> None:
    """A package state that was read before a newer one was recorded is refused."""
    scenario.record(scenario.found(2, "PendingManualApproval"))
    late = version_rules.record_version(scenario.version(2), scenario.found(2))
    scenario.record(scenario.found(2, "Rejected"))
    assert scenario.table.apply("", late) == "version_is_as_seen"


def test_promotion_updates_pointer_versions_and_history(scenario: VersionScenario) -> None:
    """One transaction changes pointer and versions, and its history entry names actor and reason."""
    scenario.record(scenario.found(2, judged_against=1))
    assert scenario.promote(2, automatic=True, now=START + HOUR) is None
    pointer = scenario.pointer()
    assert (pointer.version, pointer.digest, pointer.previous_version) == (2, f"{2:016x}", 1)
    assert (pointer.sequence, pointer.promoted_at) == (2, format_utc(START + HOUR))
    assert scenario.states() == {1: "superseded", 2: "champion"}
    assert scenario.version(1).superseded_sequence == scenario.version(2).promoted_sequence == 2
    entry = PromotionEntry.from_attributes(scenario.table.read(promotion_key(MODEL, 2)))
    assert entry == PromotionEntry(
        model=MODEL,
        sequence=2,
        action="promote",
        version=2,
        previous_version=1,
        request_id="request-2",
        actor="ada",
        reason="bad rows",
        changed_at=format_utc(START + HOUR),
    )


@pytest.mark.parametrize(
    ("approval", "judged_against", "condition"),
    [
        ("PendingManualApproval", 2, "version_is_approved"),
        ("Rejected", 2, "version_is_approved"),
        ("Approved", 1, "version_was_judged_against_champion"),
        ("Approved", 0, "version_was_judged_against_champion"),
    ],
)
def test_promotion_by_rule_requires_approval_and_current_verdict(
    scenario: VersionScenario, approval: str, judged_against: int, condition: str
) -> None:
    """Only an approved version that was judged against the current champion is promoted by rule."""
    scenario.record(scenario.found(2, judged_against=1))
    assert scenario.promote(2, automatic=True) is None
    scenario.record(scenario.found(3, approval, judged_against=judged_against))
    assert scenario.promote(3, automatic=True) == condition
    assert scenario.pointer().version == 2
    assert (scenario.promote(3) is None) == (approval == "Approved")


def test_older_version_is_not_promoted_by_rule(scenario: VersionScenario) -> None:
    """A version that is older than the champion is promoted only by a person."""
    scenario.record(scenario.found(3, judged_against=1))
    assert scenario.promote(3, automatic=True) is None
    scenario.record(scenario.found(2, judged_against=3))
    assert scenario.promote(2, automatic=True) == "version_is_newer_than_champion"
    assert scenario.promote(2) is None
    assert scenario.states() == {1: "superseded", 2: "champion", 3: "superseded"}


def test_hold_stops_promotion_by_rule_until_release(scenario: VersionScenario) -> None:
    """A hold blocks promotion by rule until it is released."""
    scenario.record(scenario.found(2, judged_against=1))
    scenario.record(scenario.found(3, judged_against=2))
    for held, condition in ((True, "promotion_is_not_held"), (False, None)):
        change = version_rules.hold_versions(
            scenario.table.champion(MODEL), scenario.request(), model=MODEL, held=held, now=START
        )
        assert scenario.table.apply("", change) is None
        assert scenario.pointer().version == 1
        assert scenario.promote(2, automatic=True) == condition
    assert scenario.promote(3) is None


def test_model_without_champion_can_be_held() -> None:
    """A hold before the first promotion blocks it and leaves the pointer without a version."""
    scenario = VersionScenario()
    scenario.record(scenario.found(1))
    change = version_rules.hold_versions(None, scenario.request(), model=MODEL, held=True, now=START)
    assert scenario.table.apply("", change) is None
    assert scenario.promote(1, automatic=True) == "promotion_is_not_held"
    assert scenario.pointer() == ChampionPointer(model=MODEL, sequence=1, hold=True)


def test_demotion_withdraws_champion_and_blocks_earlier_versions(scenario: VersionScenario) -> None:
    """After a demotion, versions created before it are no longer promoted by rule, but later ones are."""
    scenario.record(scenario.found(2, judged_against=1))
    scenario.record(scenario.found(4, "PendingManualApproval", judged_against=1))
    assert scenario.promote(2, automatic=True) is None
    assert scenario.demote(1, now=START + 5 * HOUR) is None
    pointer = scenario.pointer()
    assert (pointer.version, pointer.previous_version) == (1, 2)
    assert pointer.withdrawn_before == format_utc(START + 5 * HOUR)
    assert (scenario.version(2).state, scenario.version(2).reason) == ("withdrawn", "bad rows")
    scenario.record(scenario.found(4, judged_against=1))
    assert scenario.promote(4, automatic=True) == "version_was_made_after_demotion"
    scenario.record(scenario.found(6, judged_against=1))
    assert scenario.promote(6, automatic=True) is None


@pytest.mark.parametrize("hours", [-1, 1])
def test_slow_clock_does_not_weaken_demotion(scenario: VersionScenario, hours: int) -> None:
    """A demotion's time is never before an earlier one or the creation of the withdrawn version."""
    scenario.record(scenario.found(4, judged_against=1))
    assert scenario.promote(4, automatic=True) is None
    assert scenario.demote(1, now=START + hours * HOUR) is None
    assert scenario.pointer().withdrawn_before == format_utc(START + 4 * HOUR)
    assert scenario.demote(None, now=START) is None
    assert scenario.pointer().withdrawn_before == format_utc(START + 4 * HOUR)


def test_demotion_without_target_leaves_no_champion(scenario: VersionScenario) -> None:
    """A demotion without a target leaves no champion until a version is promoted again."""
    assert scenario.demote(None, now=START + 2 * HOUR) is None
    pointer = scenario.pointer()
    assert (pointer.version, pointer.digest, pointer.promoted_at) == (None, None, None)
    assert pointer.previous_version == 1
    assert scenario.states() == {1: "withdrawn"}
    assert scenario.demote(None) == "there_is_a_champion"
    scenario.record(scenario.found(3))
    assert scenario.promote(3, automatic=True) is None
    assert scenario.states() == {1: "withdrawn", 3: "champion"}


def test_withdrawn_version_returns_by_promotion_only(scenario: VersionScenario) -> None:
    """A person can promote a withdrawn version again, but a demotion cannot return to it."""
    scenario.record(scenario.found(2, judged_against=1))
    assert scenario.promote(2) is None
    assert scenario.demote(1) is None
    assert scenario.demote(2) == "version_may_score"
    assert scenario.promote(2) is None
    assert (scenario.version(2).state, scenario.version(2).reason) == ("champion", None)
    assert scenario.version(2).superseded_sequence is None


def test_champion_cannot_be_promoted_again(scenario: VersionScenario) -> None:
    """The champion cannot be promoted or be the target of its demotion, and an error explains that."""
    assert scenario.promote(1) == "version_may_score"
    assert scenario.demote(1) == "version_may_score"
    change = version_rules.promote(scenario.version(1), scenario.pointer(), scenario.request(), now=START)
    with pytest.raises(RuleViolationError, match=r"is already the champion[.] Nothing needs to be done"):
        change.check(scenario.table.records)


def test_changes_decided_on_an_outdated_pointer_are_refused(scenario: VersionScenario) -> None:
    """Promotion, demotion, hold and challenge are refused if the pointer changed since it was read."""
    scenario.record(scenario.found(2, judged_against=1))
    seen, version = scenario.pointer(), scenario.version(2)
    late = (
        version_rules.promote(version, seen, scenario.request(), now=START),
        version_rules.demote(None, seen, scenario.request(), now=START),
        version_rules.hold_versions(seen, scenario.request(), model=MODEL, held=True, now=START),
        version_rules.challenge(None, seen, scenario.request(), model=MODEL, now=START),
        version_rules.promote(version, None, scenario.request(), now=START),
    )
    change = version_rules.hold_versions(seen, scenario.request(), model=MODEL, held=False, now=START)
    assert scenario.table.apply("", change) is None
    assert {scenario.table.apply("", transaction) for transaction in late} == {"champion_is_as_seen"}


def test_repeated_request_is_not_applied_again(scenario: VersionScenario) -> None:
    """A demotion that is repeated after a lost answer does not undo a later promotion."""
    scenario.record(scenario.found(2, judged_against=1))
    assert scenario.promote(2) is None
    request = scenario.request()
    first = version_rules.demote(scenario.version(1), scenario.pointer(), request, now=START)
    assert scenario.table.apply("", first) is None
    assert scenario.promote(2) is None
    again = version_rules.demote(scenario.version(1), scenario.pointer(), request, now=START)
    assert scenario.table.apply("", again) == "request_is_new"
    assert scenario.pointer().version == 2


def test_version_requests_have_separate_keys() -> None:
    """One request id can serve a demotion and the rollback that goes with it."""
    assert version_request_key(MODEL, "r") != request_key(MODEL, "r")


def test_candidate_is_challenger_until_its_promotion(scenario: VersionScenario) -> None:
    """A candidate can be the challenger until it is promoted; a refused version or the champion cannot."""
    scenario.record(scenario.found(2, "PendingManualApproval"))
    scenario.record(scenario.found(3, "Rejected"))

    def challenge(number: int | None) -> str | None:
        version = None if number is None else scenario.version(number)
        change = version_rules.challenge(
            version, scenario.table.champion(MODEL), scenario.request(), model=MODEL, now=START
        )
        return scenario.table.apply("", change)

    assert challenge(3) == challenge(1) == "version_may_challenge"
    assert challenge(2) is None
    assert (scenario.pointer().version, scenario.pointer().challenger) == (1, 2)
    assert challenge(None) is None
    assert scenario.pointer().challenger is None
    assert challenge(2) is None
    scenario.record(scenario.found(2))
    assert scenario.promote(2) is None
    assert (scenario.pointer().version, scenario.pointer().challenger) == (2, None)
    entries = [
        PromotionEntry.from_attributes(scenario.table.read(promotion_key(MODEL, sequence)))
        for sequence in range(2, 6)
    ]
    assert [(entry.action, entry.challenger, entry.version) for entry in entries] == [
        ("challenge", 2, 1),
        ("challenge", None, 1),
        ("challenge", 2, 1),
        ("promote", None, 2),
    ]


def test_only_unused_versions_are_retired(scenario: VersionScenario) -> None:
    """Champion, previous version, challenger and versions that may still be promoted are not retired."""

    def retire(number: int) -> str | None:
        return scenario.table.apply("", version_rules.retire_version(scenario.version(number)))

    for number in (2, 3, 4):
        scenario.record(scenario.found(number))
        assert scenario.promote(number) is None
    scenario.record(scenario.found(5))
    scenario.record(scenario.found(6, "PendingManualApproval"))
    scenario.record(scenario.found(7, "Rejected"))
    change = version_rules.challenge(
        scenario.version(2), scenario.pointer(), scenario.request(), model=MODEL, now=START
    )
    assert scenario.table.apply("", change) is None
    assert {number: retire(number) for number in range(1, 8)} == {
        1: None,
        2: "version_is_not_the_challenger",
        3: "version_is_not_the_previous_one",
        4: "version_is_over",
        5: "version_is_over",
        6: "version_is_over",
        7: None,
    }
    assert not version_rules.retire_version(scenario.version(1)).writes
    assert not scenario.record(scenario.found(7)).writes
    assert scenario.version(7).state == "retired"
    assert scenario.promote(1) == scenario.demote(1) == "version_may_score"


def test_version_records_sort_by_number() -> None:
    """Version keys sort by number, and keys of requests do not sort among them."""
    keys = [version_key(MODEL, number).record for number in (9, 10, 1000)]
    assert keys == sorted(keys)
    assert not "version#" < version_request_key(MODEL, "r").record < "version#~"
    assert champion_key(MODEL).record == "champion"
