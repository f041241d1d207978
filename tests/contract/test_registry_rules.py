"""The registry's rules: a batch's whole life, what refusals say, and interleaved actors."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest
from hypothesis import Phase, settings

from prediction_contract.errors import InvalidNameError, RuleViolationError
from prediction_contract.manifests.load_report import LoadEvidence
from prediction_contract.naming.batch import BatchId
from prediction_contract.registry import (
    automatic_publication,
    load_rules,
    manifest_rules,
    publication_rules,
    retention_rules,
)
from prediction_contract.registry.automatic_publication import AUTOMATIC_ONLY_CONDITIONS
from prediction_contract.registry.records import (
    BatchRecord,
    ChangeRequest,
    LivePointer,
    LivePointers,
    PublicationEntry,
    batch_key,
    pointer_key,
    publication_key,
    request_key,
)
from prediction_contract.registry.transaction import Transaction
from prediction_contract.registry.version_records import version_key
from prediction_contract.rows.checksums import RowTally
from tests.contract.registry_machine import RegistryMachine
from tests.contract.rules_machine import independent_histories
from tests.fakes.prediction_stores import (
    FIRST,
    HOME,
    ITEM_LIFE,
    MODEL,
    OLDER,
    QUARANTINED,
    SECOND,
    START,
    LifeRules,
    World,
)
from tests.fakes.registry_table import FakeRegistryTable

FAR = "eu-west-1"
DAY = timedelta(days=1)
LIFE: LifeRules = {"minimum_life": DAY, "retention": DAY}

TestRegistryMachine = RegistryMachine.TestCase
TestRegistryMachine.settings = settings(independent_histories(300), phases=list(Phase))


class Story:
    """A table, and a person who does one thing after another without anybody in the way."""

    def __init__(self) -> None:
        self.table = FakeRegistryTable()
        self.world = World()
        self.now = START

    def batch(self, batch_id: str) -> BatchRecord:
        """Return a known batch's record."""
        found = self.table.batch(MODEL, batch_id)
        assert found is not None
        return found

    def live_pointers(self) -> LivePointers:
        """Return the model's live pointers."""
        return LivePointers(
            home_region=HOME,
            home=self.table.pointer(MODEL, HOME),
            regions={FAR: self.table.pointer(MODEL, FAR)},
        )

    def loaded(self, batch_id: str, digest: str = "digest-0") -> BatchRecord:
        """Take a batch from its done file to loaded."""
        apply = self.table.apply
        facts = self.world.facts(batch_id, digest)
        assert apply("", manifest_rules.register_batch(facts, self.table.batch(MODEL, batch_id))) is None
        token, job = f"token-{batch_id}", f"job-{batch_id}"
        soon = self.now + timedelta(minutes=10)
        assert (
            apply("", load_rules.claim_load(self.batch(batch_id), token=token, confirm_by=soon, now=self.now))
            is None
        )
        assert apply("", load_rules.confirm_claim(self.batch(batch_id), token=token, job_run_id=job)) is None
        writing = load_rules.begin_writing(
            self.batch(batch_id), token=token, manifest_digest=digest, cleaning="{}", now=self.now
        )
        assert apply("", writing) is None
        completed = load_rules.complete_load(
            self.batch(batch_id), token=token, expire_at=self.now + ITEM_LIFE, now=self.now, retention=DAY
        )
        assert apply("", completed) is None
        return self.batch(batch_id)

    def verified(self, batch_id: str, digest: str = "digest-0") -> BatchRecord:
        """Take a batch from its done file to verified."""
        self.loaded(batch_id, digest)
        self.verify(batch_id)
        self.check(batch_id)
        return self.batch(batch_id)

    def verify(self, batch_id: str) -> None:
        """Find both stores to hold what the last load should have written."""
        kept = RowTally(rows=2, checksum=5)
        evidence = LoadEvidence(
            attempt=self.batch(batch_id).load_attempts, dynamodb=kept, snowflake=kept, quarantined=QUARANTINED
        )
        verify = load_rules.verify_load(self.batch(batch_id), evidence, now=self.now, retention=DAY)
        assert self.table.apply("", verify) is None

    def check(self, batch_id: str, *faults: str, attempt: int | None = None) -> None:
        """Apply the model's own rules to the rows of a load, the last one as a rule."""
        batch = self.batch(batch_id)
        verdict = automatic_publication.record_checks(
            batch, attempt=attempt or batch.load_attempts, faults=faults
        )
        assert self.table.apply("", verdict) is None

    def publish(self, batch_id: str, *, automatic: bool = False) -> str | None:
        """Ask for a publication; return the condition that forbids it, if one does."""
        request = ChangeRequest(
            request_id=f"publish-{batch_id}-{self.now:%d-%H}", actor="ada", automatic=automatic
        )
        target = self.batch(batch_id)
        return self.table.apply(
            "", publication_rules.publish(target, self.live_pointers(), request, now=self.now, **LIFE)
        )

    def roll_back(self, batch_id: str) -> str | None:
        """Ask for a rollback; return the condition that forbids it, if one does."""
        request_id = f"rollback-{batch_id}-{self.now:%d-%H}"
        request = ChangeRequest(request_id=request_id, actor="ada", reason="wrong features")
        target = self.batch(batch_id)
        return self.table.apply(
            "", publication_rules.rollback(target, self.live_pointers(), request, now=self.now, **LIFE)
        )

    def retire(self, batch_id: str, *, token: str = "sweep") -> str | None:
        """Let a sweep take a batch; return the condition that forbids it, if one does."""
        change = retention_rules.retire(
            self.batch(batch_id),
            token=token,
            run_id="run-1",
            home_region=HOME,
            regions=[FAR],
            projected_sequence=3,
            now=self.now,
        )
        return self.table.apply("", change)

    def live(self, region: str = HOME) -> str | None:
        """Return the batch that a region serves."""
        pointer = self.table.pointer(MODEL, region)
        return pointer.batch_id if pointer else None


@pytest.mark.parametrize("state", ["withdrawn", "retired"])
def test_a_batch_of_a_withdrawn_version_is_published_by_a_person_only(state: str) -> None:
    """It was pinned before the demotion and ends after it; batches of other versions go on."""
    story = Story()
    facts = dataclasses.replace(story.world.facts(FIRST, "digest-0"), version_number=7)
    assert story.table.apply("", manifest_rules.register_batch(facts, None)) is None
    assert story.batch(FIRST).version_number == 7
    story.verified(OLDER)
    story.verified(FIRST, "digest-0")
    story.table.records[version_key(MODEL, 7)] = {"state": state}
    assert story.publish(OLDER, automatic=True) is None
    assert story.publish(FIRST, automatic=True) == "version_is_not_withdrawn"
    assert "version_is_not_withdrawn" in AUTOMATIC_ONLY_CONDITIONS
    assert story.publish(FIRST) is None


def test_the_version_of_a_corrected_done_file_counts() -> None:
    """A correction that names no version leaves none behind."""
    story = Story()
    facts = dataclasses.replace(story.world.facts(FIRST, "digest-0"), version_number=7)
    assert story.table.apply("", manifest_rules.register_batch(facts, None)) is None
    corrected = story.world.facts(FIRST, "digest-1")
    assert story.table.apply("", manifest_rules.register_batch(corrected, story.batch(FIRST))) is None
    assert story.batch(FIRST).version_number is None


def test_a_batch_goes_from_done_file_to_live_and_becomes_history_of_the_next() -> None:
    """Publication moves the pointer, and both batches' records and the history say so."""
    story = Story()
    story.verified(OLDER, "digest-0")
    story.verified(FIRST)
    assert story.publish(OLDER, automatic=True) is None
    assert story.publish(FIRST, automatic=True) is None
    assert story.live() == FIRST
    assert story.batch(FIRST).release_state == "live"
    assert story.batch(OLDER).release_state == "superseded"
    entry = PublicationEntry.from_attributes(story.table.read(publication_key(MODEL, 2)))
    assert (entry.batch_id, entry.previous_batch_id, entry.actor) == (FIRST, OLDER, "ada")


def test_a_batch_without_an_accepted_row_is_not_verified() -> None:
    """Counts and checksums add up, and readers would find nothing; of another batch, the rows are counted."""
    story = Story()
    batch = story.loaded(FIRST)
    nothing, everything = RowTally(rows=0, checksum=0), RowTally(rows=3, checksum=14)
    empty = LoadEvidence(attempt=1, dynamodb=nothing, snowflake=nothing, quarantined=everything)
    verify = load_rules.verify_load(batch, empty, now=story.now, retention=DAY)
    assert story.table.apply("", verify) == "some_row_was_accepted"
    assert (story.batch(FIRST).load_state, story.batch(FIRST).accepted_rows) == ("loaded", None)
    other = story.verified(SECOND)
    assert (other.row_count, other.accepted_rows, other.quarantined_rows) == (3, 2, 1)


def test_a_batch_that_an_earlier_version_verified_gets_its_accepted_rows_counted() -> None:
    """Only by evidence that adds up, of the very load that was verified; nothing else changes."""
    story = Story()
    complete = story.verified(FIRST)
    del story.table.records[complete.key]["accepted_rows"]
    story.table._parsed.clear()
    kept, nothing = RowTally(rows=2, checksum=5), RowTally(rows=0, checksum=0)
    found = {"dynamodb": kept, "snowflake": kept, "quarantined": QUARANTINED}

    def verified(attempt: int, **other: RowTally) -> str | None:
        evidence = LoadEvidence(attempt=attempt, **{**found, **other})
        rule = load_rules.verify_load(story.batch(FIRST), evidence, now=story.now + DAY, retention=DAY)
        return story.table.apply("", rule)

    assert verified(1, snowflake=nothing) == "snowflake_rows_add_up"
    assert verified(2) == "evidence_is_of_the_last_load"
    assert story.batch(FIRST).accepted_rows is None
    assert verified(1) is None
    assert story.batch(FIRST) == complete


def test_an_older_batch_becomes_history_automatically_and_live_only_by_a_person() -> None:
    """A backfill never moves the live pointer backwards; an explicit publication does."""
    story = Story()
    story.verified(FIRST)
    story.verified(OLDER)
    assert story.publish(FIRST, automatic=True) is None
    refused = story.publish(OLDER, automatic=True)
    assert refused in AUTOMATIC_ONLY_CONDITIONS
    assert story.live() == FIRST
    story.now += timedelta(hours=1)
    assert story.publish(OLDER) is None
    assert story.live() == OLDER


def test_after_a_rollback_only_batches_minted_later_are_published_automatically() -> None:
    """The rolled-back batch is withdrawn, and so is what was in the works at that moment."""
    story = Story()
    story.verified(OLDER)
    story.verified(FIRST)
    assert story.publish(OLDER) is None
    assert story.publish(FIRST) is None
    story.now += timedelta(hours=21)  # after the second batch of that day was minted
    assert story.roll_back(OLDER) is None
    assert story.live() == OLDER
    assert story.batch(FIRST).release_state == "withdrawn"
    story.verified(SECOND)
    assert story.publish(SECOND, automatic=True) == "target_was_minted_after_rollback"
    assert story.publish(FIRST, automatic=True) == "target_was_never_published"
    assert story.publish(FIRST) is None
    assert story.live() == FIRST


def test_a_hold_stops_automatic_publication_until_it_is_released() -> None:
    """A person may still publish during a hold, and the hold outlasts it."""
    story = Story()
    story.verified(OLDER)
    story.verified(FIRST)
    for held, request_id in ((True, "hold-1"), (False, "release-1")):
        request = ChangeRequest(request_id=request_id, actor="ada")
        change = publication_rules.hold(story.live_pointers(), request, model=MODEL, held=held, now=story.now)
        assert story.table.apply("", change) is None
        assert (story.publish(FIRST, automatic=True) == "publication_is_not_held") is held
        if held:
            assert story.publish(OLDER) is None
            assert story.publish(FIRST, automatic=True) == "publication_is_not_held"
    assert story.live() == FIRST


def test_a_rollback_by_a_clock_that_is_behind_forgets_no_earlier_one() -> None:
    """Of two rollbacks the later moment counts, whichever was written first."""
    story = Story()
    for batch_id in (OLDER, FIRST):
        story.verified(batch_id)
        assert story.publish(batch_id) is None
    story.now = BatchId(SECOND).minted_at + timedelta(minutes=7)
    assert story.roll_back(OLDER) is None
    assert story.publish(FIRST) is None
    story.now -= timedelta(minutes=14)
    assert story.roll_back(OLDER) is None
    story.verified(SECOND)
    assert story.publish(SECOND, automatic=True) == "target_was_minted_after_rollback"


def test_a_region_keeps_the_time_when_it_began_to_serve_a_batch() -> None:
    """A hold, its release and a second follower at the same time change nothing that its readers see."""
    story = Story()
    story.verified(FIRST)
    assert story.publish(FIRST) is None
    confirm = load_rules.confirm_region(story.batch(FIRST), region=FAR, attempt=1)
    assert story.table.apply("", confirm) is None

    def followed() -> Transaction:
        story.now += timedelta(minutes=1)
        return publication_rules.follow_home(
            story.batch(FIRST), story.live_pointers(), region=FAR, now=story.now
        )

    first, second = followed(), followed()
    assert story.table.apply("", first) is None
    assert story.table.apply("", second) == "pointer_is_as_seen"
    began = story.table.pointer(MODEL, FAR)
    assert began is not None
    for held in (True, False):
        request = ChangeRequest(request_id=f"held-{held}", actor="ada")
        change = publication_rules.hold(story.live_pointers(), request, model=MODEL, held=held, now=story.now)
        assert story.table.apply("", change) is None
        assert story.table.apply("", followed()) is None
    assert story.table.pointer(MODEL, FAR) == dataclasses.replace(began, sequence=3)


def test_a_rollback_moves_the_regions_that_hold_the_target_and_leaves_the_others() -> None:
    """A region whose replica was verified moves together with home."""
    story = Story()
    for batch_id in (OLDER, FIRST):
        story.verified(batch_id)
        assert story.publish(batch_id) is None
        attempt = story.batch(batch_id).verified_attempt
        assert attempt is not None
        confirm = load_rules.confirm_region(story.batch(batch_id), region=FAR, attempt=attempt)
        assert story.table.apply("", confirm) is None
        follow = publication_rules.follow_home(
            story.batch(batch_id), story.live_pointers(), region=FAR, now=story.now
        )
        assert story.table.apply("", follow) is None
    assert story.live(FAR) == FIRST
    assert story.roll_back(OLDER) is None
    assert story.live(FAR) == story.live(HOME) == OLDER


def test_nothing_automatic_publishes_what_failed_its_checks_or_was_not_checked() -> None:
    """The transaction itself demands the verdict on the verified rows; a person may decide otherwise."""
    story = Story()
    story.verified(OLDER)
    story.check(OLDER, "too few rows")
    assert story.publish(OLDER, automatic=True) == "target_passed_its_checks"
    story.check(OLDER)
    # Verified rows of another load than the one that was checked.
    story.check(OLDER, attempt=9)
    assert story.publish(OLDER, automatic=True) == "target_passed_its_checks"
    story.check(OLDER)
    assert story.publish(OLDER, automatic=True) is None
    story.verified(FIRST)
    story.check(FIRST, "too few rows")
    assert story.publish(FIRST) is None


def test_a_load_that_is_verified_during_a_publication_waits_for_its_own_checks() -> None:
    """A publication that was decided on an earlier load's verdict does not make the later load live."""
    story = Story()
    story.verified(FIRST)
    request = ChangeRequest(request_id="late", actor="ada", automatic=True)
    late = publication_rules.publish(
        story.batch(FIRST), story.live_pointers(), request, now=story.now, **LIFE
    )
    story.loaded(FIRST)
    story.verify(FIRST)
    assert story.table.apply("", late) == "target_passed_its_checks"
    story.check(FIRST)
    assert story.publish(FIRST, automatic=True) is None


def test_nothing_brings_a_retired_batch_back() -> None:
    """While it is deleted and afterwards: its files are gone, so a load of it could only fail."""
    story = Story()
    for batch_id in (OLDER, FIRST, SECOND):
        story.verified(batch_id)
        assert story.publish(batch_id) is None
    story.now += 2 * DAY
    assert story.retire(OLDER) is None
    assert story.batch(OLDER).load_state == "retired"
    assert story.retire(OLDER) == "nothing_is_loading"
    for cleared in (False, True):
        if cleared:
            clear = retention_rules.clear(story.batch(OLDER), token="sweep", now=story.now)
            assert story.table.apply("", clear) is None
        assert (story.batch(OLDER).cleared_at is not None) is cleared
        assert story.publish(OLDER) == "target_is_verified"
        again = load_rules.claim_load(
            story.batch(OLDER),
            token="t",
            confirm_by=story.now + DAY,
            now=story.now,
            ended_job_run_id="run-1",
        )
        assert story.table.apply("", again) == "batch_is_not_retired"
    assert story.batch(OLDER).claim_token is None


def test_a_sweep_that_was_replaced_clears_nothing() -> None:
    """Its claim is another's by now, and that one says when the batch is gone."""
    story = Story()
    for batch_id in (OLDER, FIRST, SECOND):
        story.verified(batch_id)
        assert story.publish(batch_id) is None
    story.now += 2 * DAY
    assert story.retire(OLDER, token="late") is None
    abandon = load_rules.abandon_claim(story.batch(OLDER), now=story.now, ended_job_run_id="run-1")
    assert story.table.apply("", abandon) is None
    assert story.retire(OLDER) is None
    late = retention_rules.clear(story.batch(OLDER), token="late", now=story.now)
    assert story.table.apply("", late) == "claim_is_ours"
    assert retention_rules.needs_sweep(story.batch(OLDER), (), now=story.now)


def test_a_rollback_target_is_not_swept() -> None:
    """After a rollback the pointer's previous batch is the withdrawn one, and the target an older one."""
    story = Story()
    batches = (OLDER, FIRST, SECOND)
    for batch_id in batches:
        story.verified(batch_id)
        assert story.publish(batch_id) is None
    assert story.roll_back(FIRST) is None
    story.now += 9 * DAY

    def due() -> list[str]:
        found = [story.batch(batch_id) for batch_id in batches]
        targets = [batch for batch in found if batch.is_rollback_target]
        needed = retention_rules.protected_batches(
            story.live_pointers().home, targets[0] if targets else None
        )
        return [
            batch.batch_id for batch in found if retention_rules.needs_sweep(batch, needed, now=story.now)
        ]

    assert story.batch(OLDER).is_rollback_target
    assert due() == []
    assert story.retire(OLDER) is None
    # One that a dead sweep has left is due again, and no target.
    assert due() == [OLDER]
    assert not story.batch(OLDER).is_rollback_target


def test_a_refused_batch_that_was_retired_takes_no_correction() -> None:
    """Its parts have left S3: the correction is a new batch."""
    story = Story()
    facts = story.world.facts(OLDER, "digest-0")
    assert story.table.apply("", manifest_rules.register_batch(facts, None)) is None
    claim = load_rules.claim_load(story.batch(OLDER), token="t", confirm_by=START + DAY, now=START)
    assert story.table.apply("", claim) is None
    refusal = load_rules.refuse_load(
        story.batch(OLDER), token="t", manifest_digest="digest-0", reason="-", now=START, retention=DAY
    )
    assert story.table.apply("", refusal) is None
    story.now += 2 * DAY
    assert story.retire(OLDER) is None
    good = story.world.facts(OLDER, "digest-1")
    for rule in (
        manifest_rules.register_batch(good, story.batch(OLDER)),
        manifest_rules.refuse_manifest(good, "-", story.batch(OLDER)),
    ):
        assert story.table.apply("", rule) == "batch_is_not_retired"


def test_a_bad_done_file_is_refused_and_its_correction_loads() -> None:
    """Nothing was written from the bad file, so the same batch id may come again."""
    story = Story()
    bad = story.world.facts(OLDER, "digest-0")
    assert story.table.apply("", manifest_rules.refuse_manifest(bad, "part 3 is missing", None)) is None
    assert story.batch(OLDER).refusal_reason == "part 3 is missing"
    good = story.world.facts(OLDER, "digest-1")
    assert story.table.apply("", manifest_rules.register_batch(good, story.batch(OLDER))) is None
    assert (story.batch(OLDER).load_state, story.batch(OLDER).refusal_reason) == ("done", None)


def test_a_done_file_that_changes_after_rows_were_written_is_refused() -> None:
    """A correction of a loaded batch is a new batch."""
    story = Story()
    loaded = story.verified(FIRST)
    other = story.world.facts(FIRST, "digest-1")
    assert story.table.apply("", manifest_rules.register_batch(other, loaded)) == "manifest_is_not_fixed"
    assert manifest_rules.register_batch(story.world.facts(FIRST, "digest-0"), loaded).writes == ()


def refused_after_writing(story: Story) -> BatchRecord:
    """Return the first batch, refused by a second load after a first one had begun to write."""
    facts = story.world.facts(FIRST, "digest-0")
    assert story.table.apply("", manifest_rules.register_batch(facts, None)) is None
    for step in (
        lambda batch: load_rules.claim_load(batch, token="t", confirm_by=START + DAY, now=START),
        lambda batch: load_rules.begin_writing(
            batch, token="t", manifest_digest="digest-0", cleaning="{}", now=START
        ),
        lambda batch: load_rules.refuse_load(
            batch, token="t", manifest_digest="digest-0", reason="part missing", now=START, retention=DAY
        ),
    ):
        assert story.table.apply("", step(story.batch(FIRST))) is None
    return story.batch(FIRST)


def test_a_batch_that_was_refused_after_writing_loads_once_its_file_comes_again() -> None:
    """The rows that were written are those of this very file; a sweep still deletes them if no load comes."""
    story = Story()
    refused = refused_after_writing(story)
    facts = story.world.facts(FIRST, "digest-0")
    again = manifest_rules.register_batch(facts, refused, redelivered=True)
    assert story.table.apply("", again) is None
    batch = story.batch(FIRST)
    assert (batch.load_state, batch.refusal_reason) == ("done", None)
    assert batch.retain_until is not None
    # Another file in its place is still none of its rows'.
    other = manifest_rules.register_batch(story.world.facts(FIRST, "digest-1"), batch, redelivered=True)
    assert story.table.apply("", other) == "manifest_is_not_fixed"


def test_a_redelivery_does_not_turn_back_a_load_that_was_quicker() -> None:
    """Between its look and its change the batch was claimed and may have been verified."""
    story = Story()
    again = manifest_rules.register_batch(
        story.world.facts(FIRST, "digest-0"), refused_after_writing(story), redelivered=True
    )
    claim = load_rules.claim_load(story.batch(FIRST), token="u", confirm_by=START + DAY, now=START)
    assert story.table.apply("", claim) is None
    assert story.table.apply("", again) == "load_state_is_as_seen"


def test_a_load_that_finds_its_files_altered_refuses_the_batch() -> None:
    """The refusal is recorded by the holder of the claim only."""
    story = Story()
    facts = story.world.facts(FIRST, "digest-0")
    assert story.table.apply("", manifest_rules.register_batch(facts, None)) is None
    claim = load_rules.claim_load(story.batch(FIRST), token="t", confirm_by=START + DAY, now=START)
    assert story.table.apply("", claim) is None
    for token, verdict in (("other", "claim_is_ours"), ("t", None)):
        refusal = load_rules.refuse_load(
            story.batch(FIRST),
            token=token,
            manifest_digest="digest-0",
            reason="part-00000: sha256 differs",
            now=START,
            retention=DAY,
        )
        assert story.table.apply("", refusal) == verdict
    assert story.batch(FIRST).load_state == "refused"
    assert story.batch(FIRST).claim_token is None


def test_a_refused_batch_that_waits_for_another_load_is_not_retired() -> None:
    """Once somebody claims it after all, the time of its refusal is no longer that of its retirement."""
    story = Story()
    facts = story.world.facts(FIRST, "digest-0")
    assert story.table.apply("", manifest_rules.register_batch(facts, None)) is None
    claim = load_rules.claim_load(story.batch(FIRST), token="t", confirm_by=START + DAY, now=START)
    assert story.table.apply("", claim) is None
    refusal = load_rules.refuse_load(
        story.batch(FIRST), token="t", manifest_digest="digest-0", reason="-", now=START, retention=DAY
    )
    assert story.table.apply("", refusal) is None
    later = START + 3 * DAY
    again = load_rules.claim_load(story.batch(FIRST), token="u", confirm_by=later, now=later)
    assert story.table.apply("", again) is None
    given_up = load_rules.abandon_claim(story.batch(FIRST), now=later + DAY)
    assert story.table.apply("", given_up) is None
    assert story.batch(FIRST).load_state == "done"
    sweep = retention_rules.retire(
        story.batch(FIRST),
        token="sweep",
        run_id="purge-1",
        home_region=HOME,
        regions=[FAR],
        projected_sequence=0,
        now=later + 9 * DAY,
    )
    assert story.table.apply("", sweep) == "retention_is_over"


def test_a_lapsed_claim_can_be_abandoned_and_an_active_one_cannot() -> None:
    """A claim whose job run never confirmed is cleared after its time."""
    story = Story()
    facts = story.world.facts(FIRST, "digest-0")
    assert story.table.apply("", manifest_rules.register_batch(facts, None)) is None
    claim = load_rules.claim_load(story.batch(FIRST), token="t", confirm_by=START + DAY, now=START)
    assert story.table.apply("", claim) is None
    early = load_rules.abandon_claim(story.batch(FIRST), now=START)
    assert story.table.apply("", early) == "claim_is_dead"
    late = load_rules.abandon_claim(story.batch(FIRST), now=START + 2 * DAY)
    assert story.table.apply("", late) is None
    assert (story.batch(FIRST).load_state, story.batch(FIRST).claim_token) == ("done", None)


def test_a_batch_served_by_a_lagging_region_is_loaded_again_in_time() -> None:
    """Whoever serves the batch, home or not, its items must not expire."""
    story = Story()
    batch = story.verified(FIRST)
    pointer = LivePointer(model=MODEL, batch_id=FIRST, partition="2013-02-02", sequence=1)
    assert not retention_rules.needs_reload(batch, [pointer], now=START, margin=DAY)
    assert retention_rules.needs_reload(batch, [pointer], now=START + ITEM_LIFE, margin=DAY)
    assert not retention_rules.needs_reload(batch, [], now=START + ITEM_LIFE, margin=DAY)


def test_after_a_restore_the_sequence_goes_on_above_what_snowflake_has_seen() -> None:
    """A restored registry never reuses a number that a warehouse reader may have seen."""
    live_pointers = LivePointers(
        home_region=HOME, home=LivePointer(model=MODEL, sequence=4), highest_projected=9
    )
    assert live_pointers.next_sequence == 10


def test_a_refusal_says_what_which_batch_and_what_to_do() -> None:
    """`check` names the first condition that the records read do not meet."""
    story = Story()
    facts = story.world.facts(FIRST, "digest-0")
    assert story.table.apply("", manifest_rules.register_batch(facts, None)) is None
    request = ChangeRequest(request_id="r-1", actor="ada")
    change = publication_rules.publish(story.batch(FIRST), story.live_pointers(), request, now=START, **LIFE)
    with pytest.raises(RuleViolationError) as refusal:
        change.check(story.table.records)
    assert refusal.value.condition == "target_is_verified"
    assert str(refusal.value) == (
        f"{MODEL}/{FIRST}: The batch is done, not verified. Load it and let its checks pass first."
    )
    story.verified(FIRST)
    publication_rules.publish(story.batch(FIRST), story.live_pointers(), request, now=START, **LIFE).check(
        story.table.records
    )


@pytest.mark.parametrize("request_id", ["", "a b", "x" * 129, "#", "-x"])
def test_request_ids_that_could_not_be_keys_are_refused(request_id: str) -> None:
    """A request id becomes part of a sort key."""
    with pytest.raises(InvalidNameError):
        request_key(MODEL, request_id)


def test_record_keys_sort_and_are_distinct() -> None:
    """Publication entries list in order, and no two kinds of record share a key."""
    assert publication_key(MODEL, 9).record < publication_key(MODEL, 10).record
    kinds = {
        batch_key(MODEL, FIRST),
        pointer_key(MODEL, HOME),
        publication_key(MODEL, 1),
        request_key(MODEL, "a"),
    }
    assert len({key.record.split("#")[0] for key in kinds}) == 4
