"""All actors of the registry, as plans: changes that are decided now and submitted now or later."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import ClassVar

from prediction_contract.manifests.load_report import LoadEvidence
from prediction_contract.registry import (
    automatic_publication,
    load_rules,
    manifest_rules,
    publication_rules,
    retention_rules,
)
from prediction_contract.registry.records import (
    BatchRecord,
    ChangeRequest,
    LivePointers,
    LoadState,
    publication_key,
)
from prediction_contract.registry.transaction import Transaction
from tests.contract.registry_invariants import (
    check_entries,
    check_move,
    check_pointer,
    check_records,
    check_replica,
    check_transition,
    check_verified,
    must,
)
from tests.fakes.prediction_stores import (
    BATCHES,
    DIGESTS,
    FAR,
    HOME,
    ITEM_LIFE,
    MINIMUM_LIFE,
    MODEL,
    OLDER,
    RELOAD_MARGIN,
    RETENTION,
    JobRun,
    LifeRules,
    World,
)
from tests.fakes.registry_table import FakeRegistryTable

# The older batch's first manifest is invalid: its correction must load, the invalid one never.
BAD_MANIFESTS = {(OLDER, "digest-0")}
# The errors of the clocks of actors that publish, roll back and follow.
CLOCK_ERRORS = (timedelta(0), timedelta(minutes=7), timedelta(minutes=-7))
FAULTS = (
    "none",
    "none",
    "none",
    "file-altered",
    "online-lost",
    "online-altered",
    "warehouse-lost",
    "warehouse-altered",
    "all-refused",
)


@dataclass(slots=True)
class Plan:
    """A change that an actor has decided on but not submitted yet."""

    rule: str
    transaction: Transaction
    done: Callable[[], None] = lambda: None


class RegistrySimulation:
    """A registry, the stores and job runs around it, and a record of past events.

    Args:
        table: The table that applies transactions.
    """

    seen_conditions: ClassVar[set[str]] = set()

    def __init__(self, table: FakeRegistryTable) -> None:
        self.table = table
        self.world = World()
        self.requests: list[tuple[str, str, ChangeRequest]] = []
        self.carried_out: set[str] = set()
        self.evidence: dict[tuple[str, int], JobRun] = {}
        self.region_findings: dict[str, int] = {}
        self.purges: dict[str, str] = {}
        self.late_purges: list[tuple[str, str]] = []
        self.ever_published: set[str] = set()
        self.ever_withdrawn: set[str] = set()
        self.ever_verified: set[str] = set()
        self.attempts: set[tuple[str, int]] = set()
        self.retained_until: dict[str, datetime] = {}
        self.last_rollback: datetime | None = None
        self.held = False
        self.faulty = set(BAD_MANIFESTS)
        self.serial = 0

    # -- reading and submitting ---------------------------------------------------------------------------

    def fresh(self, what: str) -> str:
        """Return a name that has not been used yet."""
        self.serial += 1
        return f"{what}-{self.serial}"

    def record(self, batch_id: str) -> BatchRecord | None:
        """Return a batch's record, or None."""
        return self.table.batch(MODEL, batch_id)

    def known(self, batch_id: str) -> BatchRecord:
        """Return a batch's record, or an empty one."""
        return self.record(batch_id) or BatchRecord(
            model=MODEL, batch_id=batch_id, partition=BATCHES[batch_id]
        )

    def live_pointers(self) -> LivePointers:
        """Return the model's live pointers."""
        return LivePointers(
            home_region=HOME,
            home=self.table.pointer(MODEL, HOME),
            regions={FAR: self.table.pointer(MODEL, FAR)},
            highest_projected=self.world.projected_sequence,
        )

    def submit(self, plan: Plan | None) -> bool:
        """Submit a change, check its effects, and return whether the registry accepted it."""
        if plan is None:
            return False
        for write in plan.transaction.writes:
            self.seen_conditions.update(f"{plan.rule}.{condition.name}" for condition in write.conditions)
        before = {batch_id: self.record(batch_id) for batch_id in BATCHES}
        pointers = {region: self.table.pointer(MODEL, region) for region in (HOME, FAR)}
        entries = {
            key: dict(self.table.read(key)) for key in self.table.records if "publication#" in key.record
        }
        if self.table.apply(plan.rule, plan.transaction) is not None:
            return False
        check_entries(self.table, entries, plan.rule)
        check_records(self.table, plan.rule)
        for batch_id, was in before.items():
            check_transition(plan.rule, was, self.record(batch_id))
        for region, pointed in pointers.items():
            check_pointer(self.table, region, pointed, plan.rule)
        if plan.transaction.writes:
            plan.done()
        return True

    def retain(self, batch_id: str, since: datetime) -> None:
        """Record that a batch must be kept for the retention period from this time on."""
        self.retained_until[batch_id] = since + RETENTION

    def clock(self) -> datetime:
        """Return the current time as the next actor's clock shows it."""
        self.serial += 1
        return self.world.now + CLOCK_ERRORS[self.serial % len(CLOCK_ERRORS)]

    # -- registering and loading --------------------------------------------------------------------------

    def plan_notice(self, batch_id: str, choice: int) -> Plan:
        """Register a done file, or its repeated delivery."""
        facts, batch = self.world.facts(batch_id, DIGESTS[choice % 2]), self.record(batch_id)
        registered = manifest_rules.register_batch(facts, batch, redelivered=choice % 3 == 0)
        return Plan("register_batch", registered)

    def plan_refuse_manifest(self, _batch_id: str, _choice: int) -> Plan:
        """Refuse the invalid done file."""
        facts = self.world.facts(OLDER, "digest-0")
        return Plan(
            "refuse_manifest", manifest_rules.refuse_manifest(facts, "unreadable", self.record(OLDER))
        )

    def plan_claim(self, batch_id: str, choice: int) -> Plan | None:
        """Claim a load and start its job run, mistakenly twice if `choice` is even."""
        fault = FAULTS[choice % len(FAULTS)]
        return self.plan_claimed_jobs(batch_id, fault, 2 if choice % 2 == 0 else 1)[0]

    def plan_claimed_jobs(self, batch_id: str, fault: str, starts: int) -> tuple[Plan, list[JobRun]]:
        """Return the plan of a claim, and the job runs that will exist once it is carried out."""
        batch, token = self.known(batch_id), self.fresh("token")
        transaction = load_rules.claim_load(
            batch,
            token=token,
            confirm_by=self.world.now + timedelta(minutes=30),
            now=self.world.now,
            ended_job_run_id=self.ended_holder(batch),
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

    def ended_holder(self, batch: BatchRecord) -> str | None:
        """Return the job run or sweep that holds the batch's claim, if it is known to have ended."""
        holder = batch.claim_job_run_id
        if holder is None or (holder.startswith("purge") and holder in self.purges):
            return None
        ended = any(job.job_run_id == holder and job.reported_ended for job in self.world.jobs)
        return holder if ended or holder.startswith("purge") else None

    def plan_abandon(self, batch_id: str, _choice: int) -> Plan | None:
        """Abandon the batch's claim, if the registry permits it."""
        batch = self.record(batch_id)
        if batch is None:
            return None
        ended = self.ended_holder(batch)
        return Plan(
            "abandon_claim", load_rules.abandon_claim(batch, now=self.world.now, ended_job_run_id=ended)
        )

    def plan_job_step(self, batch_id: str, choice: int) -> Plan | None:
        """Let a running job process, possibly a zombie, take its next step or fail."""
        jobs = [job for job in self.world.jobs if job.batch_id == batch_id and not job.finished]
        return self.plan_next(jobs[choice % len(jobs)], fail=choice % 7 == 0) if jobs else None

    def plan_next(self, job: JobRun, *, fail: bool = False) -> Plan | None:
        """Return a job run's next change, or None if its next step does not change the registry."""
        batch = self.known(job.batch_id)

        def finished() -> None:
            job.finished = True

        if not job.confirmed:
            transaction = load_rules.confirm_claim(batch, token=job.token, job_run_id=job.job_run_id)
            return Plan("confirm_claim", transaction, lambda: setattr(job, "confirmed", True))
        if job.cleaning is None and (
            (job.batch_id, job.digest) in BAD_MANIFESTS or job.fault == "file-altered"
        ):
            return self.plan_refuse_load(batch, job, finished)
        if fail:
            return Plan("release_claim", load_rules.release_claim(batch, token=job.token), finished)
        if job.cleaning is None:
            begin = load_rules.begin_writing(
                batch,
                token=job.token,
                manifest_digest=job.digest,
                cleaning=f"cleaning of {job.job_run_id}",
                now=self.world.now,
            )
            effective = begin.writes[0].assign["cleaning"]
            return Plan("begin_writing", begin, lambda: setattr(job, "cleaning", effective))
        if job.dynamodb is None:
            first_load = job.batch_id not in self.ever_verified and batch.claim_token == job.token
            job.fault = job.fault if first_load else "none"
            self.world.write(job)
            return None
        complete = load_rules.complete_load(
            batch, token=job.token, expire_at=job.expire_at, now=self.world.now, retention=RETENTION
        )

        def completed() -> None:
            self.evidence[(job.batch_id, batch.load_attempts)] = job
            self.retain(job.batch_id, self.world.now)
            finished()

        return Plan("complete_load", complete, completed)

    def plan_refuse_load(self, batch: BatchRecord, job: JobRun, finished: Callable[[], None]) -> Plan:
        """Return a job run's refusal of the batch because of faults in its files."""
        self.faulty.add((job.batch_id, job.digest))
        transaction = load_rules.refuse_load(
            batch,
            token=job.token,
            manifest_digest=job.digest,
            reason="part missing",
            now=self.world.now,
            retention=RETENTION,
        )

        def refused() -> None:
            self.retain(job.batch_id, self.world.now)
            finished()

        return Plan("refuse_load", transaction, refused)

    def plan_verify(self, batch_id: str, choice: int) -> Plan | None:
        """Verify a batch with the counts of one of its loads, usually the last one."""
        attempts = sorted(attempt for counted, attempt in self.evidence if counted == batch_id)
        if not attempts:
            return None
        attempt = attempts[choice % len(attempts)] if choice % 3 == 0 else attempts[-1]
        job = self.evidence[(batch_id, attempt)]
        assert job.dynamodb is not None
        assert job.snowflake is not None
        evidence = LoadEvidence(
            attempt=attempt, dynamodb=job.dynamodb, snowflake=job.snowflake, quarantined=job.quarantined
        )
        transaction = load_rules.verify_load(
            self.known(batch_id), evidence, now=self.world.now, retention=RETENTION
        )

        def verified() -> None:
            check_verified(self.world, self.known(batch_id))
            self.ever_verified.add(batch_id)
            self.retain(batch_id, self.world.now)

        return Plan("verify_load", transaction, verified)

    def plan_check(self, batch_id: str, choice: int) -> Plan | None:
        """Record the model's checks for the verified load, or sometimes for the one before."""
        batch = self.record(batch_id)
        if batch is None or batch.verified_attempt is None:
            return None
        attempt = max(1, batch.verified_attempt - (choice % 7 == 0))
        faults = ["too few rows"] if choice % 5 == 0 else []
        return Plan(
            "record_checks", automatic_publication.record_checks(batch, attempt=attempt, faults=faults)
        )

    # -- publication --------------------------------------------------------------------------------------

    def plan_request(self, kind: str) -> Callable[[str, int], Plan | None]:
        """Return an actor that makes a new request of this kind."""

        def plan(batch_id: str, _choice: int) -> Plan | None:
            request = ChangeRequest(
                request_id=self.fresh("request"), actor="tester", automatic=kind == "automatic"
            )
            self.requests.append((kind, batch_id, request))
            return self.plan_asked(kind, batch_id, request)

        return plan

    def plan_ask_again(self, _batch_id: str, choice: int) -> Plan | None:
        """Repeat an earlier request, as after a lost answer."""
        return self.plan_asked(*self.requests[choice % len(self.requests)]) if self.requests else None

    def plan_asked(self, kind: str, target: str, request: ChangeRequest) -> Plan | None:
        """Return the change for a request, decided on the current records."""
        batch, live_pointers, now = self.known(target), self.live_pointers(), self.clock()

        def carried_out() -> None:
            must(request.request_id not in self.carried_out, f"{request.request_id} was carried out twice")
            self.carried_out.add(request.request_id)

        if kind in {"hold", "release_hold"}:
            held = kind == "hold"

            def changed_hold() -> None:
                carried_out()
                self.held = held

            change = publication_rules.hold(live_pointers, request, model=MODEL, held=held, now=now)
            return Plan("hold", change, changed_hold)
        live_before = live_pointers.home.batch_id if live_pointers.home else None
        life: LifeRules = {"minimum_life": MINIMUM_LIFE, "retention": RETENTION}

        def moved() -> None:
            carried_out()
            check_move(self, kind, target, now, live_before=live_before, state_before=batch.release_state)
            if kind == "rollback":
                self.last_rollback = max(now, self.last_rollback or now)
                self.ever_withdrawn.update({live_before} if live_before else ())
            self.ever_published.add(target)
            if live_before:
                self.retain(live_before, now)

        if kind == "rollback":
            return Plan(
                "rollback", publication_rules.rollback(batch, live_pointers, request, now=now, **life), moved
            )
        return Plan(
            "publish", publication_rules.publish(batch, live_pointers, request, now=now, **life), moved
        )

    # -- the second region, the projection, retention -----------------------------------------------------

    def plan_confirm_region(self, batch_id: str, _choice: int) -> Plan | None:
        """Confirm that the far region holds a batch, with an earlier count of its replica."""
        if batch_id not in self.region_findings:
            return None
        transaction = load_rules.confirm_region(
            self.known(batch_id), region=FAR, attempt=self.region_findings[batch_id]
        )
        return Plan("confirm_region", transaction, lambda: check_replica(self.world, self.known(batch_id)))

    def plan_follow(self, _batch_id: str, _choice: int) -> Plan | None:
        """Move the far region to the batch that the home region serves."""
        live_pointers = self.live_pointers()
        if not live_pointers.home or not live_pointers.home.batch_id:
            return None
        sequence, batch_id = live_pointers.home.sequence, live_pointers.home.batch_id

        def followed() -> None:
            home = self.table.pointer(MODEL, HOME)
            must(
                home is not None and (home.sequence, home.batch_id) == (sequence, batch_id),
                f"{FAR} moved to publication {sequence} after home had left it",
            )

        transaction = publication_rules.follow_home(
            self.known(batch_id), live_pointers, region=FAR, now=self.clock()
        )
        return Plan("follow_home", transaction, followed)

    def plan_retire(self, batch_id: str, _choice: int) -> Plan | None:
        """Retire a batch, as the retention sweep does."""
        run_id, batch = self.fresh("purge"), self.known(batch_id)
        transaction = retention_rules.retire(
            batch,
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
            waits = batch.load_state == LoadState.DONE and batch.writing_begun_at is None
            must(not waits, f"{batch_id} was retired while it waited for its load")
            self.purges[run_id] = batch_id

        return Plan("retire", transaction, retired)

    def finish_purge(self, run_id: str, *, dies: bool = False) -> None:
        """Delete a retired batch's rows and clear its record, or let the sweep die before."""
        batch = self.known(self.purges.pop(run_id))
        if dies:
            self.late_purges.append((batch.batch_id, str(batch.claim_token)))
            return
        self.world.warehouse.pop(batch.batch_id, None)
        self.submit(
            Plan("clear", retention_rules.clear(batch, token=str(batch.claim_token), now=self.world.now))
        )

    def plan_late_purge(self, _batch_id: str, choice: int) -> Plan | None:
        """Let a sweep that was considered dead delete its batch's rows and clear the record."""
        if not self.late_purges:
            return None
        batch_id, token = self.late_purges[choice % len(self.late_purges)]
        self.world.warehouse.pop(batch_id, None)
        return Plan("clear", retention_rules.clear(self.known(batch_id), token=token, now=self.world.now))

    def project_next(self) -> None:
        """Snowflake's projection takes the next publication entry."""
        entry = self.table.read(publication_key(MODEL, self.world.projected_sequence + 1))
        if entry:
            self.world.projected_sequence += 1
            batch_id = entry.get("batch_id")
            self.world.projected_batch = str(batch_id) if batch_id else None

    def count_replica(self, batch_id: str) -> None:
        """Count the far replica, and record the verified attempt if the replica is complete."""
        batch = self.record(batch_id)
        if batch and batch.verified_attempt and self.world.is_whole(FAR, batch):
            self.region_findings[batch_id] = batch.verified_attempt

    # -- several steps at once ----------------------------------------------------------------------------

    def load_some_way(self, batch_id: str, choice: int, steps: int) -> JobRun | None:
        """Register and claim a load, start it once or mistakenly twice, and take the first steps."""
        self.submit(self.plan_notice(batch_id, choice))
        starts = 2 if choice % 4 == 0 else 1
        claim, jobs = self.plan_claimed_jobs(batch_id, FAULTS[choice % len(FAULTS)], starts)
        if not self.submit(claim):
            return None
        for _ in range(steps):
            for job in jobs:
                if not job.finished:
                    self.submit(self.plan_next(job))
        return jobs[0]

    def load_at_once(self, batch_id: str, choice: int) -> bool:
        """Register, claim, load and verify without interruption, where the registry allows it."""
        self.submit(self.plan_notice(batch_id, choice))
        claim, (job,) = self.plan_claimed_jobs(batch_id, "none", 1)
        if not self.submit(claim):
            return False
        while not job.finished:
            plan = self.plan_next(job)
            if plan and not self.submit(plan):
                job.finished = True
                return False
        attempt = (batch_id, self.known(batch_id).load_attempts)
        verified = attempt in self.evidence and self.submit(self.plan_verify(batch_id, 1))
        self.submit(self.plan_check(batch_id, 1))
        return verified

    def release_at_home(self, batch_id: str, choice: int) -> None:
        """Load, publish and project, where the registry allows it; the far region stays behind."""
        self.load_at_once(batch_id, choice)
        self.submit(self.plan_request("publish")(batch_id, choice))
        for _ in range(10):
            self.project_next()

    def release_unprojected(self, batch_id: str, choice: int) -> None:
        """Load and publish, and let the far region follow; Snowflake's projection stays behind."""
        self.load_at_once(batch_id, choice)
        self.submit(self.plan_request("publish")(batch_id, choice))
        self.world.replicate(batch_id)
        self.count_replica(batch_id)
        self.submit(self.plan_confirm_region(batch_id, choice))
        self.submit(self.plan_follow(batch_id, choice))

    def release_at_once(self, batch_id: str, choice: int) -> None:
        """Release everywhere, where the registry allows it."""
        self.release_unprojected(batch_id, choice)
        for _ in range(10):
            self.project_next()

    def roll_back_and_forward(self, batch_id: str, choice: int) -> None:
        """Roll back, publish the batch that was live again, and then repeat the rollback request."""
        home = self.table.pointer(MODEL, HOME)
        self.submit(self.plan_request("rollback")(batch_id, choice))
        rolled_back = self.requests[-1]
        if home and home.batch_id:
            self.submit(self.plan_request("publish")(home.batch_id, choice))
        self.submit(self.plan_asked(*rolled_back))

    def release_automatically(self, batch_id: str, choice: int) -> None:
        """Load, apply the model's checks, and publish as the pipeline does, where the registry allows it."""
        self.load_at_once(batch_id, choice)
        # Failed checks must be frequent, so that a search finds that they stop a publication.
        self.submit(self.plan_check(batch_id, choice))
        self.submit(self.plan_request("automatic")(batch_id, choice))

    def roll_back_and_go_on(self, batch_id: str, choice: int) -> None:
        """Roll back, and then load each batch and publish it automatically."""
        self.submit(self.plan_request("rollback")(batch_id, choice))
        for other in BATCHES:
            self.release_automatically(other, choice)

    def publish_and_follow(self, batch_id: str, choice: int) -> None:
        """Load and publish, and let the far region follow at once, whatever its replica holds."""
        self.load_at_once(batch_id, choice)
        self.submit(self.plan_request("publish")(batch_id, choice))
        self.submit(self.plan_follow(batch_id, choice))

    def retire_and_restore(self, batch_id: str, choice: int) -> None:
        """Retire a batch and delete its rows, then try to load, correct and refuse it again."""
        if self.submit(self.plan_retire(batch_id, choice)):
            self.finish_purge(max(self.purges, key=lambda run_id: int(run_id.split("-")[1])))
            self.load_at_once(batch_id, DIGESTS.index(self.known(batch_id).manifest_digest))
            self.submit(self.plan_notice(batch_id, choice))
            self.submit(self.plan_refuse_manifest(batch_id, choice))

    def refuse_at_once(self, batch_id: str, choice: int) -> None:
        """Refuse a batch before a row is written; it is retained and may still be corrected."""
        self.submit(self.plan_notice(batch_id, choice))
        claim, (job,) = self.plan_claimed_jobs(batch_id, "file-altered", 1)
        if self.submit(claim) and self.submit(self.plan_next(job)):
            self.submit(self.plan_next(job))

    def retire_twice(self, batch_id: str, choice: int) -> None:
        """Let a second sweep replace a dead one, which then wakes up before a third one starts."""
        if self.submit(self.plan_retire(batch_id, choice)):
            self.finish_purge(max(self.purges, key=lambda run_id: int(run_id.split("-")[1])), dies=True)
            self.submit(self.plan_abandon(batch_id, choice))
            self.submit(self.plan_retire(batch_id, choice))
            self.submit(self.plan_late_purge(batch_id, len(self.late_purges) - 1))
            self.submit(self.plan_retire(batch_id, choice))

    def replace_job(self, batch_id: str, choice: int) -> None:
        """Report all job runs of the batch as ended, and start another load."""
        for job in self.world.jobs:
            job.reported_ended = job.reported_ended or job.batch_id == batch_id
        self.load_some_way(batch_id, choice, 2 + choice % 4)

    def replace_manifest_under_a_load(self, batch_id: str, choice: int) -> None:
        """Register another done file after a load was confirmed, and then continue the load."""
        self.submit(self.plan_notice(batch_id, choice))
        fault = "file-altered" if choice % 4 < 2 else "none"
        claim, (job,) = self.plan_claimed_jobs(batch_id, fault, 1)
        if self.submit(claim) and self.submit(self.plan_next(job)):
            self.submit(self.plan_notice(batch_id, choice + 1))
            self.submit(self.plan_next(job))

    def sweep(self, _batch_id: str, choice: int) -> None:
        """Try to retire every batch and delete its rows; the sweep sometimes dies before it deletes."""
        for batch_id in BATCHES:
            if self.submit(self.plan_retire(batch_id, choice)):
                self.finish_purge(
                    max(self.purges, key=lambda run_id: int(run_id.split("-")[1])), dies=choice % 5 == 0
                )

    def let_time_pass(self, hours: int) -> None:
        """Advance the clock, and reload served batches before they expire, as the platform does."""
        later = self.world.now + timedelta(hours=hours)
        for job in self.world.jobs:
            job.reported_ended = job.finished = True
        pointers = [pointer for region in (HOME, FAR) if (pointer := self.table.pointer(MODEL, region))]
        for batch_id in BATCHES:
            batch = self.record(batch_id)
            if (
                batch
                and retention_rules.needs_reload(batch, pointers, now=later, margin=RELOAD_MARGIN)
                and not self.load_at_once(batch_id, DIGESTS.index(batch.manifest_digest))
            ):
                self.world.now += timedelta(minutes=1)
                return
        self.world.now = later
        for batch_id in BATCHES:
            self.world.replicate(batch_id)
