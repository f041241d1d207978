"""The rules of a model's versions: packages followed, champions promoted and demoted, versions retired."""

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


class VersionStory:
    """A registry, and people and rules that change a model's versions one after another."""

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
        """Return a package as SageMaker has it, made an hour for each number after the beginning."""
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
        """Record a package as it was found."""
        transaction = version_rules.record_version(self.table.model_version(MODEL, found.version), found)
        assert self.table.apply("", transaction) is None
        return transaction

    def promote(self, number: int, *, automatic: bool = False, now: datetime | None = None) -> str | None:
        """Promote a version; return the condition that forbids it, if one does."""
        change = version_rules.promote(
            self.version(number),
            self.table.champion(MODEL),
            self.request(automatic=automatic),
            now=now or self.now,
        )
        return self.table.apply("", change)

    def demote(self, target: int | None, *, now: datetime | None = None) -> str | None:
        """Demote the champion; return the condition that forbids it, if one does."""
        version = None if target is None else self.version(target)
        return self.table.apply(
            "", version_rules.demote(version, self.pointer(), self.request(), now=now or self.now)
        )


@pytest.fixture
def story() -> VersionStory:
    """A story with version 1 as the champion."""
    story = VersionStory()
    story.record(story.found(1))
    assert story.promote(1, automatic=True) is None
    return story


@pytest.mark.parametrize(
    ("approval", "state"),
    [
        ("Approved", "approved"),
        ("PendingManualApproval", "candidate"),
        ("Rejected", "refused"),
        ("SomethingNew", "candidate"),
    ],
)
def test_a_new_package_has_the_state_that_its_approval_permits(approval: str, state: str) -> None:
    """Whatever the finder believed; only an approval lets a version score."""
    story = VersionStory()
    story.record(replace(story.found(1, approval), state="champion"))
    assert story.version(1).state == state


def test_a_package_that_is_known_as_it_is_changes_nothing(story: VersionStory) -> None:
    """Listings and events tell of the same package again and again."""
    story.record(story.found(2, "PendingManualApproval"))
    assert not story.record(story.found(2, "PendingManualApproval")).writes
    assert not story.record(story.found(1)).writes


def test_the_approval_of_a_package_is_followed(story: VersionStory) -> None:
    """A person approves a candidate, thinks again, and says why."""
    story.record(story.found(2, "PendingManualApproval"))
    story.record(story.found(2, approved_by="eve"))
    assert (story.version(2).state, story.version(2).approved_by) == ("approved", "eve")
    story.record(story.found(2, "Rejected", reason="too few rows"))
    refused = story.version(2)
    assert (refused.state, refused.approval, refused.approved_by) == ("refused", "Rejected", None)
    assert refused.reason == "too few rows"


def test_an_approval_takes_no_champion_away_and_brings_nothing_back(story: VersionStory) -> None:
    """The pointer alone says which version scores; the record still tells what SageMaker says."""
    story.record(story.found(1, "Rejected"))
    assert (story.version(1).state, story.version(1).approval) == ("champion", "Rejected")
    assert story.version(1).approved_by == "ada"
    story.record(story.found(2, judged_against=1))
    assert story.promote(2) is None
    assert story.demote(1) is None
    story.record(story.found(2))
    assert (story.version(2).state, story.version(2).reason) == ("withdrawn", "bad rows")


def test_a_superseded_version_whose_package_is_rejected_is_withdrawn(story: VersionStory) -> None:
    """No demotion goes to it any more."""
    story.record(story.found(2, judged_against=1))
    assert story.promote(2, automatic=True) is None
    story.record(story.found(1, "Rejected", reason="leak"))
    assert (story.version(1).state, story.version(1).reason) == ("withdrawn", "leak")
    assert story.demote(1) == "version_may_score"


def test_a_number_names_one_version_for_ever(story: VersionStory) -> None:
    """A package group that was deleted and made again counts from 1; its packages are refused."""
    again = story.found(1, digest="f" * 16)
    transaction = version_rules.record_version(story.version(1), again)
    with pytest.raises(RuleViolationError, match="A deleted model package group restarts") as refusal:
        transaction.check(story.table.records)
    assert refusal.value.condition == "version_is_the_same"


def test_a_finding_that_was_overtaken_is_not_written(story: VersionStory) -> None:
    """Whoever saw the package approved, and writes after it was rejected, decides again."""
    story.record(story.found(2, "PendingManualApproval"))
    late = version_rules.record_version(story.version(2), story.found(2))
    story.record(story.found(2, "Rejected"))
    assert story.table.apply("", late) == "version_is_as_seen"


def test_a_promotion_moves_pointer_versions_and_history_together(story: VersionStory) -> None:
    """All of it is one transaction; the history tells who, why and what was before."""
    story.record(story.found(2, judged_against=1))
    assert story.promote(2, automatic=True, now=START + HOUR) is None
    pointer = story.pointer()
    assert (pointer.version, pointer.digest, pointer.previous_version) == (2, f"{2:016x}", 1)
    assert (pointer.sequence, pointer.promoted_at) == (2, format_utc(START + HOUR))
    assert story.states() == {1: "superseded", 2: "champion"}
    assert story.version(1).superseded_sequence == story.version(2).promoted_sequence == 2
    entry = PromotionEntry.from_attributes(story.table.read(promotion_key(MODEL, 2)))
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
def test_promotion_by_rule_takes_only_what_was_approved_and_judged(
    story: VersionStory, approval: str, judged_against: int, condition: str
) -> None:
    """A version that was compared with another champion waits for a person, who may promote it."""
    story.record(story.found(2, judged_against=1))
    assert story.promote(2, automatic=True) is None
    story.record(story.found(3, approval, judged_against=judged_against))
    assert story.promote(3, automatic=True) == condition
    assert story.pointer().version == 2
    assert (story.promote(3) is None) == (approval == "Approved")


def test_an_older_version_that_is_approved_late_is_not_promoted_by_rule(story: VersionStory) -> None:
    """The newer champion stays; a person may promote the older one."""
    story.record(story.found(3, judged_against=1))
    assert story.promote(3, automatic=True) is None
    story.record(story.found(2, judged_against=3))
    assert story.promote(2, automatic=True) == "version_is_newer_than_champion"
    assert story.promote(2) is None
    assert story.states() == {1: "superseded", 2: "champion", 3: "superseded"}


def test_a_hold_stops_promotion_by_rule_until_it_is_released(story: VersionStory) -> None:
    """A person may still promote."""
    story.record(story.found(2, judged_against=1))
    story.record(story.found(3, judged_against=2))
    for held, condition in ((True, "promotion_is_not_held"), (False, None)):
        change = version_rules.hold_versions(
            story.table.champion(MODEL), story.request(), model=MODEL, held=held, now=START
        )
        assert story.table.apply("", change) is None
        assert story.pointer().version == 1
        assert story.promote(2, automatic=True) == condition
    assert story.promote(3) is None


def test_a_model_can_be_held_before_its_first_promotion() -> None:
    """The pointer then says so, and names no version."""
    story = VersionStory()
    story.record(story.found(1))
    change = version_rules.hold_versions(None, story.request(), model=MODEL, held=True, now=START)
    assert story.table.apply("", change) is None
    assert story.promote(1, automatic=True) == "promotion_is_not_held"
    assert story.pointer() == ChampionPointer(model=MODEL, sequence=1, hold=True)


def test_a_demotion_withdraws_the_champion_and_keeps_its_moment(story: VersionStory) -> None:
    """What was made before it waits for a person, even if it was judged against the present champion."""
    story.record(story.found(2, judged_against=1))
    story.record(story.found(4, "PendingManualApproval", judged_against=1))
    assert story.promote(2, automatic=True) is None
    assert story.demote(1, now=START + 5 * HOUR) is None
    pointer = story.pointer()
    assert (pointer.version, pointer.previous_version) == (1, 2)
    assert pointer.withdrawn_before == format_utc(START + 5 * HOUR)
    assert (story.version(2).state, story.version(2).reason) == ("withdrawn", "bad rows")
    story.record(story.found(4, judged_against=1))
    assert story.promote(4, automatic=True) == "version_was_made_after_demotion"
    story.record(story.found(6, judged_against=1))
    assert story.promote(6, automatic=True) is None


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_clock_that_is_behind_lets_no_version_through(story: VersionStory, hours: int) -> None:
    """The moment of a demotion is never before an earlier one, nor before the withdrawn version was made."""
    story.record(story.found(4, judged_against=1))
    assert story.promote(4, automatic=True) is None
    assert story.demote(1, now=START + hours * HOUR) is None
    assert story.pointer().withdrawn_before == format_utc(START + 4 * HOUR)
    assert story.demote(None, now=START) is None
    assert story.pointer().withdrawn_before == format_utc(START + 4 * HOUR)


def test_a_demotion_without_a_target_leaves_no_champion(story: VersionStory) -> None:
    """Nothing scores until a version is promoted; a version made later is promoted by rule."""
    assert story.demote(None, now=START + 2 * HOUR) is None
    pointer = story.pointer()
    assert (pointer.version, pointer.digest, pointer.promoted_at) == (None, None, None)
    assert pointer.previous_version == 1
    assert story.states() == {1: "withdrawn"}
    assert story.demote(None) == "there_is_a_champion"
    story.record(story.found(3))
    assert story.promote(3, automatic=True) is None
    assert story.states() == {1: "withdrawn", 3: "champion"}


def test_a_person_may_promote_a_withdrawn_version_and_demote_to_none(story: VersionStory) -> None:
    """To bring a withdrawn version back is a promotion, with a reason of its own."""
    story.record(story.found(2, judged_against=1))
    assert story.promote(2) is None
    assert story.demote(1) is None
    assert story.demote(2) == "version_may_score"
    assert story.promote(2) is None
    assert (story.version(2).state, story.version(2).reason) == ("champion", None)
    assert story.version(2).superseded_sequence is None


def test_the_champion_is_neither_promoted_nor_demoted_to_itself(story: VersionStory) -> None:
    """Two people ask for the same: the second is told that nothing is to be done."""
    assert story.promote(1) == "version_may_score"
    assert story.demote(1) == "version_may_score"
    change = version_rules.promote(story.version(1), story.pointer(), story.request(), now=START)
    with pytest.raises(RuleViolationError, match=r"is already the champion[.] Nothing needs to be done"):
        change.check(story.table.records)


def test_whoever_decided_on_another_champion_decides_again(story: VersionStory) -> None:
    """Promotion, demotion, hold and challenge are conditional on the pointer that was read."""
    story.record(story.found(2, judged_against=1))
    seen, version = story.pointer(), story.version(2)
    late = (
        version_rules.promote(version, seen, story.request(), now=START),
        version_rules.demote(None, seen, story.request(), now=START),
        version_rules.hold_versions(seen, story.request(), model=MODEL, held=True, now=START),
        version_rules.challenge(None, seen, story.request(), model=MODEL, now=START),
        version_rules.promote(version, None, story.request(), now=START),
    )
    change = version_rules.hold_versions(seen, story.request(), model=MODEL, held=False, now=START)
    assert story.table.apply("", change) is None
    assert {story.table.apply("", transaction) for transaction in late} == {"champion_is_as_seen"}


def test_a_repeated_request_does_nothing_again(story: VersionStory) -> None:
    """The answer to a demotion was lost, the version was promoted again, and the demotion is repeated."""
    story.record(story.found(2, judged_against=1))
    assert story.promote(2) is None
    request = story.request()
    first = version_rules.demote(story.version(1), story.pointer(), request, now=START)
    assert story.table.apply("", first) is None
    assert story.promote(2) is None
    again = version_rules.demote(story.version(1), story.pointer(), request, now=START)
    assert story.table.apply("", again) == "request_is_new"
    assert story.pointer().version == 2


def test_requests_about_versions_have_keys_of_their_own() -> None:
    """One request id serves a demotion and the rollback that goes with it."""
    assert version_request_key(MODEL, "r") != request_key(MODEL, "r")


def test_a_challenger_may_be_a_candidate_and_ends_with_its_promotion(story: VersionStory) -> None:
    """A refused version challenges nobody."""
    story.record(story.found(2, "PendingManualApproval"))
    story.record(story.found(3, "Rejected"))

    def challenge(number: int | None) -> str | None:
        version = None if number is None else story.version(number)
        change = version_rules.challenge(
            version, story.table.champion(MODEL), story.request(), model=MODEL, now=START
        )
        return story.table.apply("", change)

    assert challenge(3) == challenge(1) == "version_may_challenge"
    assert challenge(2) is None
    assert (story.pointer().version, story.pointer().challenger) == (1, 2)
    assert challenge(None) is None
    assert story.pointer().challenger is None
    assert challenge(2) is None
    story.record(story.found(2))
    assert story.promote(2) is None
    assert (story.pointer().version, story.pointer().challenger) == (2, None)
    entries = [
        PromotionEntry.from_attributes(story.table.read(promotion_key(MODEL, sequence)))
        for sequence in range(2, 6)
    ]
    assert [(entry.action, entry.challenger, entry.version) for entry in entries] == [
        ("challenge", 2, 1),
        ("challenge", None, 1),
        ("challenge", 2, 1),
        ("promote", None, 2),
    ]


def test_only_versions_that_nobody_needs_are_retired(story: VersionStory) -> None:
    """Not the champion, the one before, the challenger, nor a version that may yet be promoted."""

    def retire(number: int) -> str | None:
        return story.table.apply("", version_rules.retire_version(story.version(number)))

    for number in (2, 3, 4):
        story.record(story.found(number))
        assert story.promote(number) is None
    story.record(story.found(5))
    story.record(story.found(6, "PendingManualApproval"))
    story.record(story.found(7, "Rejected"))
    change = version_rules.challenge(
        story.version(2), story.pointer(), story.request(), model=MODEL, now=START
    )
    assert story.table.apply("", change) is None
    assert {number: retire(number) for number in range(1, 8)} == {
        1: None,
        2: "version_is_not_the_challenger",
        3: "version_is_not_the_previous_one",
        4: "version_is_over",
        5: "version_is_over",
        6: "version_is_over",
        7: None,
    }
    assert not version_rules.retire_version(story.version(1)).writes
    assert not story.record(story.found(7)).writes
    assert story.version(7).state == "retired"
    assert story.promote(1) == story.demote(1) == "version_may_score"


def test_records_of_versions_sort_by_number() -> None:
    """The newest is read first, and requests are no versions."""
    keys = [version_key(MODEL, number).record for number in (9, 10, 1000)]
    assert keys == sorted(keys)
    assert not "version#" < version_request_key(MODEL, "r").record < "version#~"
    assert champion_key(MODEL).record == "champion"
