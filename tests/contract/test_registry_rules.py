"""Tests of the registry's rules: a batch's life cycle, error messages and interleaved actors."""

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


class RegistryScenario:
    """A registry whose changes are applied one after another, without concurrency."""

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
        """Verify the last load with counts that match in both stores."""
        kept = RowTally(rows=2, checksum=5)
        evidence = LoadEvidence(
            attempt=self.batch(batch_id).load_attempts, dynamodb=kept, snowflake=kept, quarantined=QUARANTINED
        )
        verify = load_rules.verify_load(self.batch(batch_id), evidence, now=self.now, retention=DAY)
        assert self.table.apply("", verify) is None

    def check(self, batch_id: str, *faults: str, attempt: int | None = None) -> None:
        """Record the results of the model's checks for a load, by default the last one."""
        batch = self.batch(batch_id)
        verdict = automatic_publication.record_checks(
            batch, attempt=attempt or batch.load_attempts, faults=faults
        )
        assert self.table.apply("", verdict) is None

    def publish(self, batch_id: str, *, automatic: bool = False) -> str | None:
        """Request a publication; return the violated condition, or None."""
        request = ChangeRequest(
            request_id=f"publish-{batch_id}-{self.now:%d-%H}", actor="ada", automatic=automatic
        )
        target = self.batch(batch_id)
        return self.table.apply(
            "", publication_rules.publish(target, self.live_pointers(), request, now=self.now, **LIFE)
        )

    def roll_back(self, batch_id: str) -> str | None:
        """Request a rollback; return the violated condition, or None."""
        request_id = f"rollback-{batch_id}-{self.now:%d-%H}"
        request = ChangeRequest(request_id=request_id, actor="ada", reason="wrong features")
        target = self.batch(batch_id)
        return self.table.apply(
            "", publication_rules.rollback(target, self.live_pointers(), request, now=self.now, **LIFE)
        )

    def confirm_region(self, batch_id: str) -> None:
        """Record that the other region holds the verified load."""
        attempt = self.batch(batch_id).verified_attempt
        assert attempt is not None
        confirm = load_rules.confirm_region(self.batch(batch_id), region=FAR, attempt=attempt)
        assert self.table.apply("", confirm) is None

    def follow(self, batch_id: str) -> str | None:
        """Let the other region follow the home region; return the violated condition, or None."""
        return self.table.apply(
            "",
            publication_rules.follow_home(
                self.batch(batch_id), self.live_pointers(), region=FAR, now=self.now
            ),
        )

    def retire(self, batch_id: str, *, token: str = "sweep") -> str | None:
        """Retire a batch; return the violated condition, or None."""
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
def test_batch_of_withdrawn_version_needs_a_person_to_publish(state: str) -> None:
    """A batch whose version was withdrawn or retired is published by a person, never automatically."""
    scenario = RegistryScenario()
    facts = dataclasses.replace(scenario.world.facts(FIRST, "digest-0"), version_number=7)
    assert scenario.table.apply("", manifest_rules.register_batch(facts, None)) is None
    assert scenario.batch(FIRST).version_number == 7
    scenario.verified(OLDER)
    scenario.verified(FIRST, "digest-0")
    scenario.table.records[version_key(MODEL, 7)] = {"state": state}
    assert scenario.publish(OLDER, automatic=True) is None
    assert scenario.publish(FIRST, automatic=True) == "version_is_not_withdrawn"
    assert "version_is_not_withdrawn" in AUTOMATIC_ONLY_CONDITIONS
    assert scenario.publish(FIRST) is None


def test_corrected_done_file_replaces_version() -> None:
    """A corrected done file without a version removes the version of the earlier file."""
    scenario = RegistryScenario()
    facts = dataclasses.replace(scenario.world.facts(FIRST, "digest-0"), version_number=7)
    assert scenario.table.apply("", manifest_rules.register_batch(facts, None)) is None
    corrected = scenario.world.facts(FIRST, "digest-1")
    assert scenario.table.apply("", manifest_rules.register_batch(corrected, scenario.batch(FIRST))) is None
    assert scenario.batch(FIRST).version_number is None


def test_publication_updates_pointer_batches_and_history() -> None:
    """A publication moves the live pointer, supersedes the old batch and adds a history entry."""
    scenario = RegistryScenario()
    scenario.verified(OLDER, "digest-0")
    scenario.verified(FIRST)
    assert scenario.publish(OLDER, automatic=True) is None
    assert scenario.publish(FIRST, automatic=True) is None
    assert scenario.live() == FIRST
    assert scenario.batch(FIRST).release_state == "live"
    assert scenario.batch(OLDER).release_state == "superseded"
    entry = PublicationEntry.from_attributes(scenario.table.read(publication_key(MODEL, 2)))
    assert (entry.batch_id, entry.previous_batch_id, entry.actor) == (FIRST, OLDER, "ada")


def test_batch_without_accepted_rows_is_not_verified() -> None:
    """A batch whose rows are all quarantined is not verified; for others, accepted rows are recorded."""
    scenario = RegistryScenario()
    batch = scenario.loaded(FIRST)
    nothing, everything = RowTally(rows=0, checksum=0), RowTally(rows=3, checksum=14)
    empty = LoadEvidence(attempt=1, dynamodb=nothing, snowflake=nothing, quarantined=everything)
    verify = load_rules.verify_load(batch, empty, now=scenario.now, retention=DAY)
    assert scenario.table.apply("", verify) == "some_row_was_accepted"
    assert (scenario.batch(FIRST).load_state, scenario.batch(FIRST).accepted_rows) == ("loaded", None)
    other = scenario.verified(SECOND)
    assert (other.row_count, other.accepted_rows, other.quarantined_rows) == (3, 2, 1)


def test_accepted_rows_are_added_to_older_records() -> None:
    """Matching evidence of the verified load adds only the count of accepted rows to an older record."""
    scenario = RegistryScenario()
    complete = scenario.verified(FIRST)
    del scenario.table.records[complete.key]["accepted_rows"]
    scenario.table._parsed.clear()
    kept, nothing = RowTally(rows=2, checksum=5), RowTally(rows=0, checksum=0)
    found = {"dynamodb": kept, "snowflake": kept, "quarantined": QUARANTINED}

    def verified(attempt: int, **other: RowTally) -> str | None:
        evidence = LoadEvidence(attempt=attempt, **{**found, **other})
        rule = load_rules.verify_load(scenario.batch(FIRST), evidence, now=scenario.now + DAY, retention=DAY)
        return scenario.table.apply("", rule)

    assert verified(1, snowflake=nothing) == "snowflake_rows_add_up"
    assert verified(2) == "evidence_is_of_the_last_load"
    assert scenario.batch(FIRST).accepted_rows is None
    assert verified(1) is None
    assert scenario.batch(FIRST) == complete


def test_older_batch_needs_a_person_to_publish() -> None:
    """A backfill never moves the live pointer back automatically, but a person may publish it."""
    scenario = RegistryScenario()
    scenario.verified(FIRST)
    scenario.verified(OLDER)
    assert scenario.publish(FIRST, automatic=True) is None
    refused = scenario.publish(OLDER, automatic=True)
    assert refused in AUTOMATIC_ONLY_CONDITIONS
    assert scenario.live() == FIRST
    scenario.now += timedelta(hours=1)
    assert scenario.publish(OLDER) is None
    assert scenario.live() == OLDER


def test_earlier_batches_stay_unpublished_after_rollback() -> None:
    """The withdrawn batch and batches created before a rollback are not published automatically."""
    scenario = RegistryScenario()
    scenario.verified(OLDER)
    scenario.verified(FIRST)
    assert scenario.publish(OLDER) is None
    assert scenario.publish(FIRST) is None
    scenario.now += timedelta(hours=21)  # after the second batch of that day was minted
    assert scenario.roll_back(OLDER) is None
    assert scenario.live() == OLDER
    assert scenario.batch(FIRST).release_state == "withdrawn"
    scenario.verified(SECOND)
    assert scenario.publish(SECOND, automatic=True) == "target_was_minted_after_rollback"
    assert scenario.publish(FIRST, automatic=True) == "target_was_never_published"
    assert scenario.publish(FIRST) is None
    assert scenario.live() == FIRST


def test_hold_stops_automatic_publication_until_release() -> None:
    """A hold blocks automatic publication until its release, even after a person has published."""
    scenario = RegistryScenario()
    scenario.verified(OLDER)
    scenario.verified(FIRST)
    for held, request_id in ((True, "hold-1"), (False, "release-1")):
        request = ChangeRequest(request_id=request_id, actor="ada")
        change = publication_rules.hold(
            scenario.live_pointers(), request, model=MODEL, held=held, now=scenario.now
        )
        assert scenario.table.apply("", change) is None
        assert (scenario.publish(FIRST, automatic=True) == "publication_is_not_held") is held
        if held:
            assert scenario.publish(OLDER) is None
            assert scenario.publish(FIRST, automatic=True) == "publication_is_not_held"
    assert scenario.live() == FIRST


def test_rollback_with_slow_clock_keeps_later_time() -> None:
    """Of two rollbacks the later time counts, even if the second one's clock is behind."""
    scenario = RegistryScenario()
    for batch_id in (OLDER, FIRST):
        scenario.verified(batch_id)
        assert scenario.publish(batch_id) is None
    scenario.now = BatchId(SECOND).minted_at + timedelta(minutes=7)
    assert scenario.roll_back(OLDER) is None
    assert scenario.publish(FIRST) is None
    scenario.now -= timedelta(minutes=14)
    assert scenario.roll_back(OLDER) is None
    scenario.verified(SECOND)
    assert scenario.publish(SECOND, automatic=True) == "target_was_minted_after_rollback"


def test_region_keeps_its_publication_time() -> None:
    """A hold, its release and repeated follows change only the sequence number of a region's pointer."""
    scenario = RegistryScenario()
    scenario.verified(FIRST)
    assert scenario.publish(FIRST) is None
    confirm = load_rules.confirm_region(scenario.batch(FIRST), region=FAR, attempt=1)
    assert scenario.table.apply("", confirm) is None

    def followed() -> Transaction:
        scenario.now += timedelta(minutes=1)
        return publication_rules.follow_home(
            scenario.batch(FIRST), scenario.live_pointers(), region=FAR, now=scenario.now
        )

    first, second = followed(), followed()
    assert scenario.table.apply("", first) is None
    assert scenario.table.apply("", second) == "pointer_is_as_seen"
    began = scenario.table.pointer(MODEL, FAR)
    assert began is not None
    for held in (True, False):
        request = ChangeRequest(request_id=f"held-{held}", actor="ada")
        change = publication_rules.hold(
            scenario.live_pointers(), request, model=MODEL, held=held, now=scenario.now
        )
        assert scenario.table.apply("", change) is None
        assert scenario.table.apply("", followed()) is None
    assert scenario.table.pointer(MODEL, FAR) == dataclasses.replace(began, sequence=3)


def test_rollback_moves_verified_region() -> None:
    """A region whose replica of the target was verified is rolled back together with the home region."""
    scenario = RegistryScenario()
    for batch_id in (OLDER, FIRST):
        scenario.verified(batch_id)
        assert scenario.publish(batch_id) is None
        scenario.confirm_region(batch_id)
        assert scenario.follow(batch_id) is None
    assert scenario.live(FAR) == FIRST
    assert scenario.roll_back(OLDER) is None
    assert scenario.live(FAR) == scenario.live(HOME) == OLDER


def test_rollback_leaves_region_without_target_behind() -> None:
    """A region that is not known to hold the target keeps its batch until it follows the home region."""
    scenario = RegistryScenario()
    for batch_id in (OLDER, FIRST):
        scenario.verified(batch_id)
        assert scenario.publish(batch_id) is None
    scenario.confirm_region(FIRST)
    assert scenario.follow(FIRST) is None
    assert scenario.roll_back(OLDER) is None
    assert (scenario.live(HOME), scenario.live(FAR)) == (OLDER, FIRST)
    scenario.confirm_region(OLDER)
    assert scenario.follow(OLDER) is None
    assert scenario.live(FAR) == OLDER


def test_automatic_publication_requires_passed_checks() -> None:
    """Automatic publication requires passed checks of the verified load; a person may publish without."""
    scenario = RegistryScenario()
    scenario.verified(OLDER)
    scenario.check(OLDER, "too few rows")
    assert scenario.publish(OLDER, automatic=True) == "target_passed_its_checks"
    scenario.check(OLDER)
    # A check of another load than the verified one.
    scenario.check(OLDER, attempt=9)
    assert scenario.publish(OLDER, automatic=True) == "target_passed_its_checks"
    scenario.check(OLDER)
    assert scenario.publish(OLDER, automatic=True) is None
    scenario.verified(FIRST)
    scenario.check(FIRST, "too few rows")
    assert scenario.publish(FIRST) is None


def test_newer_load_needs_its_own_checks() -> None:
    """A publication decided on an earlier load's checks does not make a newer load live."""
    scenario = RegistryScenario()
    scenario.verified(FIRST)
    request = ChangeRequest(request_id="late", actor="ada", automatic=True)
    late = publication_rules.publish(
        scenario.batch(FIRST), scenario.live_pointers(), request, now=scenario.now, **LIFE
    )
    scenario.loaded(FIRST)
    scenario.verify(FIRST)
    assert scenario.table.apply("", late) == "target_passed_its_checks"
    scenario.check(FIRST)
    assert scenario.publish(FIRST, automatic=True) is None


def test_retired_batch_stays_retired() -> None:
    """A retired batch cannot be published or loaded again, before or after its rows are deleted."""
    scenario = RegistryScenario()
    for batch_id in (OLDER, FIRST, SECOND):
        scenario.verified(batch_id)
        assert scenario.publish(batch_id) is None
    scenario.now += 2 * DAY
    assert scenario.retire(OLDER) is None
    assert scenario.batch(OLDER).load_state == "retired"
    assert scenario.retire(OLDER) == "nothing_is_loading"
    for cleared in (False, True):
        if cleared:
            clear = retention_rules.clear(scenario.batch(OLDER), token="sweep", now=scenario.now)
            assert scenario.table.apply("", clear) is None
        assert (scenario.batch(OLDER).cleared_at is not None) is cleared
        assert scenario.publish(OLDER) == "target_is_verified"
        again = load_rules.claim_load(
            scenario.batch(OLDER),
            token="t",
            confirm_by=scenario.now + DAY,
            now=scenario.now,
            ended_job_run_id="run-1",
        )
        assert scenario.table.apply("", again) == "batch_is_not_retired"
    assert scenario.batch(OLDER).claim_token is None


def test_replaced_sweep_clears_nothing() -> None:
    """A sweep whose claim was taken over cannot mark the batch as deleted."""
    scenario = RegistryScenario()
    for batch_id in (OLDER, FIRST, SECOND):
        scenario.verified(batch_id)
        assert scenario.publish(batch_id) is None
    scenario.now += 2 * DAY
    assert scenario.retire(OLDER, token="late") is None
    abandon = load_rules.abandon_claim(scenario.batch(OLDER), now=scenario.now, ended_job_run_id="run-1")
    assert scenario.table.apply("", abandon) is None
    assert scenario.retire(OLDER) is None
    late = retention_rules.clear(scenario.batch(OLDER), token="late", now=scenario.now)
    assert scenario.table.apply("", late) == "claim_is_ours"
    assert retention_rules.needs_sweep(scenario.batch(OLDER), (), now=scenario.now)


def test_rollback_target_is_not_swept() -> None:
    """After a rollback, retention still keeps the older batch that the next rollback would return to."""
    scenario = RegistryScenario()
    batches = (OLDER, FIRST, SECOND)
    for batch_id in batches:
        scenario.verified(batch_id)
        assert scenario.publish(batch_id) is None
    assert scenario.roll_back(FIRST) is None
    scenario.now += 9 * DAY

    def due() -> list[str]:
        found = [scenario.batch(batch_id) for batch_id in batches]
        targets = [batch for batch in found if batch.is_rollback_target]
        needed = retention_rules.protected_batches(
            scenario.live_pointers().home, targets[0] if targets else None
        )
        return [
            batch.batch_id for batch in found if retention_rules.needs_sweep(batch, needed, now=scenario.now)
        ]

    assert scenario.batch(OLDER).is_rollback_target
    assert due() == []
    assert scenario.retire(OLDER) is None
    # A retired batch that is not cleared yet is due again, and no longer a target.
    assert due() == [OLDER]
    assert not scenario.batch(OLDER).is_rollback_target


def test_retired_refused_batch_cannot_be_corrected() -> None:
    """A refused batch accepts no corrected done file once it is retired."""
    scenario = RegistryScenario()
    facts = scenario.world.facts(OLDER, "digest-0")
    assert scenario.table.apply("", manifest_rules.register_batch(facts, None)) is None
    claim = load_rules.claim_load(scenario.batch(OLDER), token="t", confirm_by=START + DAY, now=START)
    assert scenario.table.apply("", claim) is None
    refusal = load_rules.refuse_load(
        scenario.batch(OLDER), token="t", manifest_digest="digest-0", reason="-", now=START, retention=DAY
    )
    assert scenario.table.apply("", refusal) is None
    scenario.now += 2 * DAY
    assert scenario.retire(OLDER) is None
    good = scenario.world.facts(OLDER, "digest-1")
    for rule in (
        manifest_rules.register_batch(good, scenario.batch(OLDER)),
        manifest_rules.refuse_manifest(good, "-", scenario.batch(OLDER)),
    ):
        assert scenario.table.apply("", rule) == "batch_is_not_retired"


def test_refused_done_file_can_be_corrected() -> None:
    """A done file that was refused before any load can be corrected under the same batch id."""
    scenario = RegistryScenario()
    bad = scenario.world.facts(OLDER, "digest-0")
    assert scenario.table.apply("", manifest_rules.refuse_manifest(bad, "part 3 is missing", None)) is None
    assert scenario.batch(OLDER).refusal_reason == "part 3 is missing"
    good = scenario.world.facts(OLDER, "digest-1")
    assert scenario.table.apply("", manifest_rules.register_batch(good, scenario.batch(OLDER))) is None
    assert (scenario.batch(OLDER).load_state, scenario.batch(OLDER).refusal_reason) == ("done", None)


def test_changed_done_file_of_loaded_batch_is_refused() -> None:
    """A loaded batch accepts only its own done file; a correction needs a new batch."""
    scenario = RegistryScenario()
    loaded = scenario.verified(FIRST)
    other = scenario.world.facts(FIRST, "digest-1")
    assert scenario.table.apply("", manifest_rules.register_batch(other, loaded)) == "manifest_is_not_fixed"
    assert manifest_rules.register_batch(scenario.world.facts(FIRST, "digest-0"), loaded).writes == ()


def refused_after_writing(scenario: RegistryScenario) -> BatchRecord:
    """Return the first batch, refused by its load after the load had begun to write."""
    facts = scenario.world.facts(FIRST, "digest-0")
    assert scenario.table.apply("", manifest_rules.register_batch(facts, None)) is None
    for step in (
        lambda batch: load_rules.claim_load(batch, token="t", confirm_by=START + DAY, now=START),
        lambda batch: load_rules.begin_writing(
            batch, token="t", manifest_digest="digest-0", cleaning="{}", now=START
        ),
        lambda batch: load_rules.refuse_load(
            batch, token="t", manifest_digest="digest-0", reason="part missing", now=START, retention=DAY
        ),
    ):
        assert scenario.table.apply("", step(scenario.batch(FIRST))) is None
    return scenario.batch(FIRST)


def test_redelivered_done_file_reopens_refused_batch() -> None:
    """The same done file reopens a batch that was refused after writing, whose rows can still be swept."""
    scenario = RegistryScenario()
    refused = refused_after_writing(scenario)
    facts = scenario.world.facts(FIRST, "digest-0")
    again = manifest_rules.register_batch(facts, refused, redelivered=True)
    assert scenario.table.apply("", again) is None
    batch = scenario.batch(FIRST)
    assert (batch.load_state, batch.refusal_reason) == ("done", None)
    # A different file does not match the rows that were already written.
    other = manifest_rules.register_batch(scenario.world.facts(FIRST, "digest-1"), batch, redelivered=True)
    assert scenario.table.apply("", other) == "manifest_is_not_fixed"
    assert scenario.retire(FIRST) == "retention_is_over"
    scenario.now += 2 * DAY
    assert retention_rules.needs_sweep(batch, (), now=scenario.now)
    assert scenario.retire(FIRST) is None


def test_redelivery_does_not_undo_newer_claim() -> None:
    """A redelivery is not registered if a load has claimed the batch in the meantime."""
    scenario = RegistryScenario()
    again = manifest_rules.register_batch(
        scenario.world.facts(FIRST, "digest-0"), refused_after_writing(scenario), redelivered=True
    )
    claim = load_rules.claim_load(scenario.batch(FIRST), token="u", confirm_by=START + DAY, now=START)
    assert scenario.table.apply("", claim) is None
    assert scenario.table.apply("", again) == "load_state_is_as_seen"


def test_only_claim_holder_can_refuse_batch() -> None:
    """Only the job run that holds the claim can refuse a batch, and the refusal releases the claim."""
    scenario = RegistryScenario()
    facts = scenario.world.facts(FIRST, "digest-0")
    assert scenario.table.apply("", manifest_rules.register_batch(facts, None)) is None
    claim = load_rules.claim_load(scenario.batch(FIRST), token="t", confirm_by=START + DAY, now=START)
    assert scenario.table.apply("", claim) is None
    for token, verdict in (("other", "claim_is_ours"), ("t", None)):
        refusal = load_rules.refuse_load(
            scenario.batch(FIRST),
            token=token,
            manifest_digest="digest-0",
            reason="part-00000: sha256 differs",
            now=START,
            retention=DAY,
        )
        assert scenario.table.apply("", refusal) == verdict
    assert scenario.batch(FIRST).load_state == "refused"
    assert scenario.batch(FIRST).claim_token is None


def test_batch_that_waits_for_a_load_is_not_retired() -> None:
    """A refused batch that was claimed again waits for its load and is not retired."""
    scenario = RegistryScenario()
    facts = scenario.world.facts(FIRST, "digest-0")
    assert scenario.table.apply("", manifest_rules.register_batch(facts, None)) is None
    claim = load_rules.claim_load(scenario.batch(FIRST), token="t", confirm_by=START + DAY, now=START)
    assert scenario.table.apply("", claim) is None
    refusal = load_rules.refuse_load(
        scenario.batch(FIRST), token="t", manifest_digest="digest-0", reason="-", now=START, retention=DAY
    )
    assert scenario.table.apply("", refusal) is None
    later = START + 3 * DAY
    again = load_rules.claim_load(scenario.batch(FIRST), token="u", confirm_by=later, now=later)
    assert scenario.table.apply("", again) is None
    given_up = load_rules.abandon_claim(scenario.batch(FIRST), now=later + DAY)
    assert scenario.table.apply("", given_up) is None
    assert scenario.batch(FIRST).load_state == "done"
    sweep = retention_rules.retire(
        scenario.batch(FIRST),
        token="sweep",
        run_id="purge-1",
        home_region=HOME,
        regions=[FAR],
        projected_sequence=0,
        now=later + 9 * DAY,
    )
    assert scenario.table.apply("", sweep) == "retention_is_over"


def test_only_expired_claim_can_be_abandoned() -> None:
    """A claim that no job run confirmed can be abandoned only after its time limit."""
    scenario = RegistryScenario()
    facts = scenario.world.facts(FIRST, "digest-0")
    assert scenario.table.apply("", manifest_rules.register_batch(facts, None)) is None
    claim = load_rules.claim_load(scenario.batch(FIRST), token="t", confirm_by=START + DAY, now=START)
    assert scenario.table.apply("", claim) is None
    early = load_rules.abandon_claim(scenario.batch(FIRST), now=START)
    assert scenario.table.apply("", early) == "claim_is_dead"
    late = load_rules.abandon_claim(scenario.batch(FIRST), now=START + 2 * DAY)
    assert scenario.table.apply("", late) is None
    assert (scenario.batch(FIRST).load_state, scenario.batch(FIRST).claim_token) == ("done", None)


def test_served_batch_is_reloaded_before_expiry() -> None:
    """A batch that a region serves is due for a reload before its items expire; other batches are not."""
    scenario = RegistryScenario()
    batch = scenario.verified(FIRST)
    pointer = LivePointer(model=MODEL, batch_id=FIRST, partition="2013-02-02", sequence=1)
    assert not retention_rules.needs_reload(batch, [pointer], now=START, margin=DAY)
    assert retention_rules.needs_reload(batch, [pointer], now=START + ITEM_LIFE, margin=DAY)
    assert not retention_rules.needs_reload(batch, [], now=START + ITEM_LIFE, margin=DAY)


def test_sequence_continues_above_snowflake_after_restore() -> None:
    """A restored registry does not reuse sequence numbers that were already projected into Snowflake."""
    live_pointers = LivePointers(
        home_region=HOME, home=LivePointer(model=MODEL, sequence=4), highest_projected=9
    )
    assert live_pointers.next_sequence == 10


def test_rule_violation_names_batch_and_remedy() -> None:
    """The error of a refused change names the violated condition, the batch and the remedy."""
    scenario = RegistryScenario()
    facts = scenario.world.facts(FIRST, "digest-0")
    assert scenario.table.apply("", manifest_rules.register_batch(facts, None)) is None
    request = ChangeRequest(request_id="r-1", actor="ada")
    change = publication_rules.publish(
        scenario.batch(FIRST), scenario.live_pointers(), request, now=START, **LIFE
    )
    with pytest.raises(RuleViolationError) as refusal:
        change.check(scenario.table.records)
    assert refusal.value.condition == "target_is_verified"
    assert str(refusal.value) == (
        f"{MODEL}/{FIRST}: The batch is done, not verified. Load it and let its checks pass first."
    )
    scenario.verified(FIRST)
    publication_rules.publish(
        scenario.batch(FIRST), scenario.live_pointers(), request, now=START, **LIFE
    ).check(scenario.table.records)


@pytest.mark.parametrize("request_id", ["", "a b", "x" * 129, "#", "-x"])
def test_invalid_request_id_is_refused(request_id: str) -> None:
    """A request id that cannot be part of a sort key is refused."""
    with pytest.raises(InvalidNameError):
        request_key(MODEL, request_id)


def test_record_keys_sort_and_are_distinct() -> None:
    """Publication entries sort by sequence, and no two kinds of record share a key."""
    assert publication_key(MODEL, 9).record < publication_key(MODEL, 10).record
    kinds = {
        batch_key(MODEL, FIRST),
        pointer_key(MODEL, HOME),
        publication_key(MODEL, 1),
        request_key(MODEL, "a"),
    }
    assert len({key.record.split("#")[0] for key in kinds}) == 4
