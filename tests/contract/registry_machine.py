"""A state machine that interleaves everybody who touches the registry, and watches the invariants.

Publishers, rollbacks, loads, re-loads, a retention sweep, a projector and a second region take turns. Any
change may be decided now and carried out later (a stalled actor), carried out twice (a lost answer), or
asked for again (a retry). Job runs may be reported as ended while their process lives on (zombies).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from prediction_contract.batch import BatchId
from prediction_contract.moments import parse_moment
from prediction_contract.registry import load_rules, publication_rules, retention_rules
from prediction_contract.registry.records import BatchRecord, LoadState, Request, publication_key
from prediction_contract.registry.transaction import Transaction
from tests.fakes.prediction_stores import (
    BATCHES,
    DIGESTS,
    FAR,
    FIRST,
    HOME,
    ITEM_LIFE,
    MINIMUM_LIFE,
    MODEL,
    OLDER,
    QUARANTINED,
    RELOAD_MARGIN,
    RETENTION,
    JobRun,
    World,
    expected_rows,
)
from tests.fakes.registry_table import FakeRegistryTable

# The first batch's first manifest is a bad one: its correction must load, the bad one never.
BAD_MANIFESTS = {(OLDER, "digest-0")}
FAULTS = (
    "none",
    "none",
    "file-altered",
    "online-lost",
    "online-altered",
    "warehouse-lost",
    "warehouse-altered",
)
LOAD_STATES = {
    None: {"done", "refused"},
    "done": {"done", "loading", "refused"},
    "loading": {"loading", "loaded", "done", "refused"},
    "loaded": {"loaded", "verified", "loading", "retired"},
    "verified": {"verified", "retired"},
    "refused": {"refused", "done", "loading", "retired"},
    # A batch that was refused before a row was written may still be corrected.
    "retired": {"retired", "loading", "done", "refused"},
}

batches = st.sampled_from(tuple(BATCHES))
digests = st.sampled_from(DIGESTS)
moments_to_act = st.sampled_from(("now", "now", "later"))


class InvariantBrokenError(AssertionError):
    """The registry let something happen that its design forbids."""


def must(held: bool, what: str) -> None:
    """Fail the run with a sentence."""
    if not held:
        raise InvariantBrokenError(what)


@dataclass(slots=True)
class Plan:
    """A change that an actor has decided upon and not yet carried out."""

    rule: str
    transaction: Transaction
    done: Callable[[], None]


class RegistryMachine(RuleBasedStateMachine):
    """See the module. `disabled` names conditions to leave out, as `rule.condition`."""

    disabled: ClassVar[frozenset[str]] = frozenset()
    table_class: ClassVar[type[FakeRegistryTable]] = FakeRegistryTable
    seen_conditions: ClassVar[set[str]] = set()

    def __init__(self) -> None:
        super().__init__()
        self.table = self.table_class(self.disabled)
        self.world = World()
        self.plans: list[Plan] = []
        self.requests: list[tuple[str, str, Request]] = []
        self.carried_out: set[str] = set()
        self.evidence: dict[tuple[str, int], JobRun] = {}
        self.region_findings: dict[str, int] = {}
        self.purges: dict[str, str] = {}
        self.ever_published: set[str] = set()
        self.ever_withdrawn: set[str] = set()
        self.ever_verified: set[str] = set()
        self.attempts: set[tuple[str, int]] = set()
        self.retained_until: dict[str, datetime] = {}
        self.last_rollback: datetime | None = None
        self.held = False
        self.faulty = set(BAD_MANIFESTS)
        self.serial = 0

    # -- carrying out ------------------------------------------------------------------------------------

    def fresh(self, what: str) -> str:
        self.serial += 1
        return f"{what}-{self.serial}"

    def record(self, batch_id: str) -> BatchRecord | None:
        return self.table.batch(MODEL, batch_id)

    def known(self, batch_id: str) -> BatchRecord:
        return self.record(batch_id) or BatchRecord(
            model=MODEL, batch_id=batch_id, partition=BATCHES[batch_id]
        )

    def release(self) -> publication_rules.Release:
        return publication_rules.Release(
            home_region=HOME,
            home=self.table.pointer(MODEL, HOME),
            regions={FAR: self.table.pointer(MODEL, FAR)},
            highest_projected=self.world.projected_sequence,
        )

    def submit(self, plan: Plan) -> bool:
        """Carry a change out, and check what changed against the permitted transitions."""
        for write in plan.transaction.writes:
            self.seen_conditions.update(f"{plan.rule}.{condition.name}" for condition in write.conditions)
        before = {batch_id: self.record(batch_id) for batch_id in BATCHES}
        entries = {
            key: dict(self.table.read(key)) for key in self.table.records if "publication#" in key.record
        }
        if self.table.apply(plan.rule, plan.transaction) is not None:
            return False
        for key, entry in entries.items():
            must(self.table.read(key) == entry, f"{plan.rule} rewrote the entry {key.record}")
        for batch_id, was in before.items():
            self.check_transition(plan.rule, was, self.record(batch_id))
        if plan.transaction.writes:
            plan.done()
        return True

    def act(self, plan: Plan, when: str) -> bool:
        if when == "later":
            self.plans.append(plan)
            return False
        return self.submit(plan)

    def check_transition(self, name: str, was: BatchRecord | None, now: BatchRecord | None) -> None:
        if now is None or was == now:
            return
        old_state = was.load_state if was else None
        must(
            now.load_state == old_state or now.load_state in LOAD_STATES[old_state],
            f"{name} took {now.batch_id} from {old_state} to {now.load_state}",
        )
        if was:
            must(now.load_attempts >= was.load_attempts, f"{name} turned the attempts of {now.batch_id} back")
            must(was.cleaning in {None, now.cleaning}, f"{name} changed the cleaning rules of {now.batch_id}")
            must(
                was.release_state == now.release_state or now.release_state != "unpublished",
                f"{name} made {now.batch_id} unpublished again",
            )

    @precondition(lambda self: self.plans)
    @rule(position=st.integers(0, 30), answer_lost=st.booleans())
    def a_stalled_actor_goes_on(self, position: int, answer_lost: bool) -> None:
        index = position % len(self.plans)
        plan = self.plans[index]
        self.submit(plan)
        if not answer_lost:
            del self.plans[index]

    # -- noticing ----------------------------------------------------------------------------------------

    @rule(batch_id=batches, digest=digests, when=moments_to_act)
    def a_done_file_is_noticed(self, batch_id: str, digest: str, when: str) -> None:
        facts = self.world.facts(batch_id, digest)
        transaction = load_rules.register_batch(facts, self.record(batch_id))
        self.act(Plan("register_batch", transaction, lambda: None), when)

    @rule(bad=st.sampled_from(sorted(BAD_MANIFESTS)), when=moments_to_act)
    def a_bad_done_file_is_refused(self, bad: tuple[str, str], when: str) -> None:
        batch_id, digest = bad
        transaction = load_rules.refuse_manifest(
            self.world.facts(batch_id, digest), "unreadable", self.record(batch_id)
        )
        self.act(Plan("refuse_manifest", transaction, lambda: None), when)

    # -- loading -----------------------------------------------------------------------------------------

    def plan_claim(self, batch: BatchRecord, fault: str, starts: int) -> tuple[Plan, list[JobRun]]:
        token = self.fresh("token")
        ended = None
        holder = batch.claim_job_run_id
        if holder and (
            any(job.job_run_id == holder and job.reported_ended for job in self.world.jobs)
            or (holder.startswith("purge") and holder not in self.purges)
        ):
            ended = holder
        transaction = load_rules.claim_load(
            batch,
            token=token,
            confirm_by=self.world.now + timedelta(minutes=30),
            now=self.world.now,
            ended_job_run_id=ended,
        )
        jobs = [
            JobRun(
                job_run_id=self.fresh("job"),
                token=token,
                batch_id=batch.batch_id,
                digest=batch.manifest_digest,
                expire_at=self.world.now + ITEM_LIFE,
                fault=fault,
            )
            for _ in range(starts)
        ]

        def claimed() -> None:
            attempt = (batch.batch_id, batch.load_attempts + 1)
            must(attempt not in self.attempts, f"attempt {attempt} was given twice")
            self.attempts.add(attempt)
            self.world.jobs.extend(jobs)

        return Plan("claim_load", transaction, claimed), jobs

    @rule(
        batch_id=batches,
        fault=st.sampled_from(FAULTS),
        starts=st.sampled_from((1, 1, 2)),
        when=moments_to_act,
    )
    def a_load_is_claimed_and_started(self, batch_id: str, fault: str, starts: int, when: str) -> None:
        batch = self.record(batch_id)
        if batch:
            self.act(self.plan_claim(batch, fault, starts)[0], when)

    @rule(batch_id=batches, when=moments_to_act)
    def a_claim_is_abandoned(self, batch_id: str, when: str) -> None:
        batch = self.record(batch_id)
        if batch:
            ended = next(
                (
                    job.job_run_id
                    for job in self.world.jobs
                    if job.reported_ended and job.job_run_id == batch.claim_job_run_id
                ),
                None,
            )
            transaction = load_rules.abandon_claim(batch, now=self.world.now, ended_job_run_id=ended)
            self.act(Plan("abandon_claim", transaction, lambda: None), when)

    def plan_job_step(self, job: JobRun, *, fail: bool) -> Plan | None:
        """Return the next thing a job run does by its own lights; None if that is no change of the registry."""
        batch = self.known(job.batch_id)
        if not job.confirmed:
            transaction = load_rules.confirm_claim(batch, token=job.token, job_run_id=job.job_run_id)
            return Plan("confirm_claim", transaction, lambda: setattr(job, "confirmed", True))

        def finished() -> None:
            job.finished = True

        bad = (job.batch_id, job.digest) in BAD_MANIFESTS or job.fault == "file-altered"
        if job.cleaning is None and bad:
            self.faulty.add((job.batch_id, job.digest))
            transaction = load_rules.refuse_load(
                batch,
                token=job.token,
                manifest_digest=job.digest,
                reason="part missing",
                now=self.world.now,
                retention=RETENTION,
            )
            return Plan("refuse_load", transaction, lambda: (self.retain(job.batch_id), finished())[1])
        if fail:
            return Plan("release_claim", load_rules.release_claim(batch, token=job.token), finished)
        if job.cleaning is None:
            rules_now = f"cleaning-{self.serial % 2}"
            transaction = load_rules.begin_writing(
                batch, token=job.token, manifest_digest=job.digest, cleaning=rules_now, now=self.world.now
            )
            effective = transaction.writes[0].assign["cleaning"]
            return Plan("begin_writing", transaction, lambda: setattr(job, "cleaning", effective))
        if job.dynamodb is None:
            first_load = job.batch_id not in self.ever_verified and batch.claim_token == job.token
            job.fault = job.fault if first_load else "none"
            self.world.write(job)
            return None
        transaction = load_rules.complete_load(
            batch, token=job.token, expire_at=job.expire_at, now=self.world.now, retention=RETENTION
        )

        def completed() -> None:
            self.evidence[(job.batch_id, batch.load_attempts)] = job
            self.retain(job.batch_id)
            finished()

        return Plan("complete_load", transaction, completed)

    @rule(
        batch_id=batches,
        digest=digests,
        fault=st.sampled_from(FAULTS),
        steps=st.integers(0, 4),
        becomes_a_zombie=st.booleans(),
    )
    def a_load_gets_some_way(
        self, batch_id: str, digest: str, fault: str, steps: int, becomes_a_zombie: bool
    ) -> None:
        """Register, claim, start, take some steps; a zombie then stalls in its next one and counts as ended."""
        facts = self.world.facts(batch_id, digest)
        self.submit(
            Plan("register_batch", load_rules.register_batch(facts, self.record(batch_id)), lambda: None)
        )
        claim, (job,) = self.plan_claim(self.known(batch_id), fault, 1)
        if not self.submit(claim):
            return
        self.go_on(job, steps, fail=False, when="now")
        if becomes_a_zombie:
            self.go_on(job, 1, fail=False, when="later")
            job.reported_ended = True

    @precondition(lambda self: any(not job.finished for job in self.world.jobs))
    @rule(position=st.integers(0, 6), steps=st.integers(1, 4), fail=st.booleans(), when=moments_to_act)
    def a_job_run_goes_on(self, position: int, steps: int, fail: bool, when: str) -> None:
        running = [job for job in self.world.jobs if not job.finished]
        self.go_on(running[-1 - position % len(running)], steps, fail=fail, when=when)

    def go_on(self, job: JobRun, steps: int, *, fail: bool, when: str) -> None:
        for step in range(steps):
            plan = None if job.finished else self.plan_job_step(job, fail=fail and step == 0)
            if plan and not self.act(plan, when):
                return

    @precondition(lambda self: any(not job.finished for job in self.world.jobs))
    @rule(position=st.integers(0, 6), process_dies=st.booleans())
    def a_job_run_is_reported_as_ended(self, position: int, process_dies: bool) -> None:
        running = [job for job in self.world.jobs if not job.finished]
        job = running[-1 - position % len(running)]
        job.reported_ended = True
        job.finished = job.finished or process_dies

    def plan_verify(self, batch_id: str, attempt: int) -> Plan:
        job = self.evidence[(batch_id, attempt)]
        assert job.dynamodb is not None
        assert job.snowflake is not None
        evidence = load_rules.LoadEvidence(
            attempt=attempt, dynamodb=job.dynamodb, snowflake=job.snowflake, quarantined=QUARANTINED
        )
        transaction = load_rules.verify_load(
            self.known(batch_id), evidence, now=self.world.now, retention=RETENTION
        )

        def verified() -> None:
            self.ever_verified.add(batch_id)
            self.retain(batch_id)

        return Plan("verify_load", transaction, verified)

    @precondition(lambda self: self.evidence)
    @rule(position=st.integers(0, 30), when=moments_to_act)
    def a_load_is_verified(self, position: int, when: str) -> None:
        batch_id, attempt = sorted(self.evidence)[position % len(self.evidence)]
        self.act(self.plan_verify(batch_id, attempt), when)

    @rule(batch_id=batches, digest=digests)
    def a_batch_is_loaded_at_once(self, batch_id: str, digest: str) -> None:
        self.load_at_once(batch_id, digest)

    def load_at_once(self, batch_id: str, digest: str) -> bool:
        """Register, claim, load and verify without interruption, where the registry allows it."""
        facts = self.world.facts(batch_id, digest)
        self.submit(
            Plan("register_batch", load_rules.register_batch(facts, self.record(batch_id)), lambda: None)
        )
        claim, (job,) = self.plan_claim(self.known(batch_id), "none", 1)
        if not self.submit(claim):
            return False
        while not job.finished:
            plan = self.plan_job_step(job, fail=False)
            if plan and not self.submit(plan):
                job.finished = True
                return False
        attempt = (batch_id, self.known(batch_id).load_attempts)
        return attempt in self.evidence and self.submit(self.plan_verify(*attempt))

    # -- what readers see ---------------------------------------------------------------------------------

    @rule(
        batch_id=batches,
        kind=st.sampled_from(
            ("automatic", "automatic", "publish", "publish", "rollback", "withdraw", "hold")
        ),
        when=moments_to_act,
    )
    def somebody_asks(self, batch_id: str, kind: str, when: str) -> None:
        request = Request(request_id=self.fresh("request"), actor="tester", automatic=kind == "automatic")
        self.requests.append((kind, batch_id, request))
        self.ask(kind, batch_id, request, when)

    @precondition(lambda self: self.requests)
    @rule(position=st.integers(0, 60), when=moments_to_act)
    def somebody_asks_again(self, position: int, when: str) -> None:
        self.ask(*self.requests[position % len(self.requests)], when)

    def ask(self, kind: str, target: str, request: Request, when: str) -> None:
        batch, release, now = self.known(target), self.release(), self.world.now

        def carried_out() -> None:
            must(request.request_id not in self.carried_out, f"{request.request_id} was carried out twice")
            self.carried_out.add(request.request_id)

        if kind == "hold":
            held = len(self.carried_out) % 2 == 0
            transaction = publication_rules.hold(release, request, model=MODEL, held=held, now=now)
            plan = Plan("hold", transaction, lambda: (carried_out(), setattr(self, "held", held))[1])
        elif kind == "withdraw":
            transaction = publication_rules.withdraw(batch, request)
            plan = Plan("withdraw", transaction, lambda: (carried_out(), self.ever_withdrawn.add(target))[1])
        else:
            move = publication_rules.rollback if kind == "rollback" else publication_rules.publish
            transaction = move(
                batch, release, request, now=now, minimum_life=MINIMUM_LIFE, retention=RETENTION
            )
            seen = {"live": release.home.batch_id if release.home else None, "state": batch.release_state}

            def moved() -> None:
                carried_out()
                self.check_move(kind, target, live_before=seen["live"], state_before=seen["state"])

            plan = Plan("rollback" if kind == "rollback" else "publish", transaction, moved)
        if batch.partition:
            self.act(plan, when)

    def check_move(
        self, kind: str, target: str, *, live_before: str | None, state_before: str | None
    ) -> None:
        """Judge a move of home's pointer by the design's own words, from the machine's own memory."""
        expire_at = self.known(target).items_expire_at
        must(
            expire_at is not None and parse_moment(expire_at) >= self.world.now + MINIMUM_LIFE,
            f"{target} became live with too little life left",
        )
        if kind == "automatic":
            must(target not in self.ever_published, f"{target} was published automatically a second time")
            must(
                target not in self.ever_withdrawn,
                f"{target} was published automatically after its withdrawal",
            )
            must(not self.held, f"{target} was published automatically during a hold")
            if live_before:
                must(
                    (BATCHES[target], target) > (BATCHES[live_before], live_before),
                    f"{target} replaced the newer {live_before} automatically",
                )
            if self.last_rollback:
                must(
                    BatchId(target).minted_at > self.last_rollback,
                    f"{target} was minted before the last rollback and published automatically",
                )
        if kind == "rollback":
            must(state_before == "superseded", f"rolled back to {target}, which was {state_before}")
            self.last_rollback = self.world.now
            home, far = self.table.pointer(MODEL, HOME), self.table.pointer(MODEL, FAR)
            if home and far and home.sequence == far.sequence:
                must(FAR in self.known(target).verified_regions, f"{FAR} moved to the unverified {target}")
        self.ever_published.add(target)
        if live_before:
            if kind == "rollback":
                self.ever_withdrawn.add(live_before)
            self.retain(live_before)

    # -- the second region and the projection -------------------------------------------------------------

    @rule(batch_id=batches)
    def the_replica_catches_up(self, batch_id: str) -> None:
        self.world.replicate(batch_id)

    @rule(batch_id=batches)
    def the_replica_is_counted(self, batch_id: str) -> None:
        batch = self.record(batch_id)
        if batch and batch.verified_attempt and self.is_whole(FAR, batch):
            self.region_findings[batch_id] = batch.verified_attempt

    @precondition(lambda self: self.region_findings)
    @rule(position=st.integers(0, 30), when=moments_to_act)
    def a_region_is_confirmed(self, position: int, when: str) -> None:
        batch_id, attempt = sorted(self.region_findings.items())[position % len(self.region_findings)]
        transaction = load_rules.confirm_region(self.known(batch_id), region=FAR, attempt=attempt)
        self.act(Plan("confirm_region", transaction, lambda: None), when)

    @rule(when=moments_to_act)
    def the_region_follows_home(self, when: str) -> None:
        release = self.release()
        if not release.home or not release.home.batch_id:
            return
        sequence, batch_id = release.home.sequence, release.home.batch_id
        transaction = publication_rules.follow_home(
            self.known(batch_id), release, region=FAR, now=self.world.now
        )

        def followed() -> None:
            home = self.table.pointer(MODEL, HOME)
            must(
                home is not None and (home.sequence, home.batch_id) == (sequence, batch_id),
                f"{FAR} moved to publication {sequence} after home had left it",
            )

        self.act(Plan("follow_home", transaction, followed), when)

    @rule()
    def the_next_publication_is_projected(self) -> None:
        entry = self.table.read(publication_key(MODEL, self.world.projected_sequence + 1))
        if entry:
            self.world.projected_sequence += 1
            batch_id = entry.get("batch_id")
            self.world.projected_batch = str(batch_id) if batch_id else None

    @rule(batch_id=batches, digest=digests)
    def a_whole_release_goes_by(self, batch_id: str, digest: str) -> None:
        """Load, publish, project, and let the region follow, where the registry allows it."""
        self.load_at_once(batch_id, digest)
        request = Request(request_id=self.fresh("request"), actor="tester")
        self.requests.append(("publish", batch_id, request))
        self.ask("publish", batch_id, request, "now")
        for _ in range(10):
            self.the_next_publication_is_projected()
        self.world.replicate(batch_id)
        self.the_replica_is_counted(batch_id)
        if attempt := self.region_findings.get(batch_id):
            transaction = load_rules.confirm_region(self.known(batch_id), region=FAR, attempt=attempt)
            self.submit(Plan("confirm_region", transaction, lambda: None))
        self.the_region_follows_home("now")

    @rule(batch_id=batches)
    def a_batch_is_retired_and_restored(self, batch_id: str) -> None:
        """Let the sweep take a batch, and somebody load it again at once."""
        self.the_sweep_retires(batch_id, "now")
        for position in range(len(self.purges)):
            self.the_sweep_deletes(position, dies=False)
        if self.known(batch_id).load_state == LoadState.RETIRED:
            self.load_at_once(batch_id, self.known(batch_id).manifest_digest)

    # -- time and retention -------------------------------------------------------------------------------

    def retain(self, batch_id: str) -> None:
        self.retained_until[batch_id] = self.world.now + RETENTION

    @rule(batch_id=batches, when=moments_to_act)
    def the_sweep_retires(self, batch_id: str, when: str) -> None:
        run_id = self.fresh("purge")
        transaction = retention_rules.retire(
            self.known(batch_id),
            token=self.fresh("token"),
            run_id=run_id,
            home_region=HOME,
            regions=[FAR],
            projected_sequence=self.world.projected_sequence,
            now=self.world.now,
        )

        def retired() -> None:
            must(
                self.retained_until.get(batch_id, self.world.now) <= self.world.now,
                f"{batch_id} was retired within its retention",
            )
            self.purges[run_id] = batch_id

        self.act(Plan("retire", transaction, retired), when)

    @precondition(lambda self: self.purges)
    @rule(position=st.integers(0, 30), dies=st.booleans())
    def the_sweep_deletes(self, position: int, dies: bool) -> None:
        run_id = sorted(self.purges)[position % len(self.purges)]
        batch_id = self.purges.pop(run_id)
        if dies:
            return
        self.world.warehouse.pop(batch_id, None)
        batch = self.known(batch_id)
        if batch.claim_token and batch.claim_job_run_id == run_id:
            transaction = load_rules.release_claim(batch, token=batch.claim_token)
            self.submit(Plan("release_claim", transaction, lambda: None))

    @rule(hours=st.sampled_from((1, 30, 70, 170)))
    def time_passes(self, hours: int) -> None:
        """Advance the clock; what is served is loaded again in time, as the platform's watch does."""
        self.plans.clear()
        later = self.world.now + timedelta(hours=hours)
        for job in self.world.jobs:
            job.reported_ended = job.finished = True
        pointers = [pointer for region in (HOME, FAR) if (pointer := self.table.pointer(MODEL, region))]
        for batch_id in BATCHES:
            batch = self.record(batch_id)
            if (
                batch
                and retention_rules.needs_reload(batch, pointers, now=later, margin=RELOAD_MARGIN)
                and not self.load_at_once(batch_id, batch.manifest_digest)
            ):
                self.world.now += timedelta(minutes=1)
                return
        self.world.now = later
        for batch_id in BATCHES:
            self.world.replicate(batch_id)

    # -- invariants ---------------------------------------------------------------------------------------

    def is_whole(self, region: str, batch: BatchRecord) -> bool:
        rows = self.world.readable(region, batch.batch_id)
        return rows == expected_rows(batch.manifest_digest, batch.cleaning)

    @initialize()
    def begin(self) -> None:
        """Begin with one batch loaded, so that runs get far."""
        if self.load_at_once(FIRST, "digest-0"):
            return
        raise InvariantBrokenError("a batch could not be loaded although nothing stood against it")

    @invariant()
    def readers_see_whole_batches_only(self) -> None:
        for region in (HOME, FAR):
            pointer = self.table.pointer(MODEL, region)
            if pointer and pointer.batch_id:
                batch = self.known(pointer.batch_id)
                must(self.is_whole(region, batch), f"readers of {region} see {pointer.batch_id} incomplete")
                must(batch.load_state == LoadState.VERIFIED, f"{region} serves a {batch.load_state} batch")
        if self.world.projected_batch:
            batch = self.known(self.world.projected_batch)
            rows = self.world.warehouse.get(batch.batch_id, {})
            must(
                rows == expected_rows(batch.manifest_digest, batch.cleaning),
                f"readers of Snowflake see {batch.batch_id} incomplete",
            )

    @invariant()
    def states_and_pointer_agree(self) -> None:
        home = self.table.pointer(MODEL, HOME)
        live = [batch_id for batch_id in BATCHES if self.known(batch_id).release_state == "live"]
        must(
            live == ([home.batch_id] if home and home.batch_id else []), f"live are {live}, served is {home}"
        )
        if home and home.previous_batch_id:
            must(home.previous_batch_id != home.batch_id, "the batch before the live one is the live one")
            previous = self.known(home.previous_batch_id)
            must(previous.load_state == LoadState.VERIFIED, f"the rollback target is {previous.load_state}")

    @invariant()
    def nobody_works_beside_another(self) -> None:
        for batch_id in BATCHES:
            jobs = [
                job
                for job in self.world.jobs
                if job.batch_id == batch_id and job.confirmed and not job.finished and not job.reported_ended
            ]
            workers = [job.job_run_id for job in jobs]
            workers += [run_id for run_id, purged in self.purges.items() if purged == batch_id]
            must(len(workers) <= 1, f"{workers} work on {batch_id} at once")
            batch = self.known(batch_id)
            for job in jobs:
                must(
                    batch.claim_token == job.token, f"{job.job_run_id} works on {batch_id} without its claim"
                )
                begun = job.cleaning is not None
                must(
                    not begun or job.digest == batch.manifest_digest,
                    f"{batch_id} is written from another file",
                )
            claimed_by_load = batch.claim_token and not str(batch.claim_job_run_id).startswith("purge")
            if batch.load_state in {LoadState.REFUSED, LoadState.RETIRED}:
                must(not claimed_by_load, f"{batch_id} is {batch.load_state} and being loaded")
            if batch.load_state == LoadState.REFUSED:
                must((batch_id, batch.manifest_digest) in self.faulty, f"the good {batch_id} is refused")
            if batch.load_state == LoadState.RETIRED:
                must(not batch.verified_regions, f"the retired {batch_id} counts as held by a region")

    @invariant()
    def requests_are_kept(self) -> None:
        for request_id in self.carried_out:
            kept = any(key.record == f"request#{request_id}" for key in self.table.records)
            must(kept, f"the registry has forgotten {request_id}")
