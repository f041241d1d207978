"""All actors that change a model's versions, as plans: decided now and submitted now or later.

SageMaker's packages are outside the registry: people and pipelines change them at any time, and the platform
reads them after an event or a listing. Batches pin the champion, are scored, and request their automatic
publication.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import ClassVar

from prediction_contract.registry import publication_rules, version_rules
from prediction_contract.registry.records import (
    ChangeRequest,
    LivePointers,
    LoadState,
    ReleaseState,
    batch_key,
)
from prediction_contract.registry.transaction import Transaction, Write
from prediction_contract.registry.version_records import ChampionPointer, ModelVersion
from prediction_contract.text.utc_time import format_utc
from tests.contract import version_invariants as invariants
from tests.contract.registry_invariants import must
from tests.contract.registry_simulation import CLOCK_ERRORS, Plan
from tests.fakes.prediction_stores import (
    BATCHES,
    FIRST,
    HOME,
    ITEM_LIFE,
    MINIMUM_LIFE,
    MODEL,
    OLDER,
    RETENTION,
    SECOND,
    START,
)
from tests.fakes.registry_table import FakeRegistryTable

NUMBERS = (1, 2, 3, 4, 5)
APPROVALS = ("Approved", "PendingManualApproval", "Rejected")
BATCH_IDS = (OLDER, FIRST, SECOND)
# No actor submits a change this long after its decision.
_LATEST = timedelta(hours=1)


@dataclass(slots=True)
class Package:
    """A model package in SageMaker.

    Attributes:
        number: Its number in the group.
        digest: The digest of the trained objects.
        approval: Its approval status.
        judged_against: The champion that its metadata names, or 0 for none.
        created_at: The time of its creation.
        revision: The number of changes to it.
    """

    number: int
    digest: str
    approval: str
    judged_against: int
    created_at: datetime
    revision: int = 0


class VersionSimulation:
    """A registry, SageMaker's packages, batches, and a record of past events.

    Args:
        table: The table that applies transactions.
    """

    seen_conditions: ClassVar[set[str]] = set()

    def __init__(self, table: FakeRegistryTable) -> None:
        self.table = table
        self.now = START
        self.packages: dict[int, Package] = {}
        self.pins: dict[str, int] = {}
        self.attempts: list[tuple[str, int]] = []
        self.requests: list[tuple[str, int, ChangeRequest]] = []
        self.carried_out: set[str] = set()
        self.approved_once: set[int] = set()
        self.recorded: dict[int, int] = {}
        self.ever_champion: set[int] = set()
        self.withdrawn: set[int] = set()
        self.over_since: dict[int, datetime] = {}
        self.last_demotion: datetime | None = None
        self.held = False
        self.serial = 0

    # -- reading and submitting ---------------------------------------------------------------------------

    def fresh(self, what: str) -> str:
        """Return a name that has not been used yet."""
        self.serial += 1
        return f"{what}-{self.serial}"

    def clock(self) -> datetime:
        """Return the current time as the next actor's clock shows it."""
        self.serial += 1
        return self.now + CLOCK_ERRORS[self.serial % len(CLOCK_ERRORS)]

    def champion(self) -> int | None:
        """Return the champion's number."""
        pointer = self.table.champion(MODEL)
        return pointer.version if pointer else None

    def state(self, number: int | None) -> str | None:
        """Return the recorded state of a version."""
        record = self.table.model_version(MODEL, number) if number else None
        return record.state if record else None

    def submit(self, plan: Plan | None) -> bool:
        """Submit a change, check its effects, and return whether the registry accepted it."""
        if plan is None:
            return False
        for write in plan.transaction.writes:
            if plan.rule != "publish" or write.key.record.startswith("version#"):
                self.seen_conditions.update(f"{plan.rule}.{condition.name}" for condition in write.conditions)
        before = {number: self.table.model_version(MODEL, number) for number in NUMBERS}
        pointer = self.table.champion(MODEL)
        entries = {
            key: dict(self.table.read(key)) for key in self.table.records if "promotion#" in key.record
        }
        if self.table.apply(plan.rule, plan.transaction) is not None:
            return False
        invariants.check_history(self.table, entries, plan.rule)
        invariants.check_pointer(pointer, self.table.champion(MODEL), plan.rule)
        for number, was in before.items():
            invariants.check_version(plan.rule, was, self.table.model_version(MODEL, number))
            if self.state(number) in {"superseded", "withdrawn", "refused"}:
                self.over_since.setdefault(number, self.now)
            else:
                self.over_since.pop(number, None)
        if plan.transaction.writes or plan.rule == "pin":
            plan.done()
        return True

    # -- SageMaker's packages ------------------------------------------------------------------------------

    def plan_register(self, _number: int, choice: int) -> None:
        """Add a retraining's package, judged against the champion, the previous one or none."""
        if len(self.packages) == len(NUMBERS):
            return
        pointer = self.table.champion(MODEL) or ChampionPointer(model=MODEL)
        planned_with = (pointer.version, pointer.previous_version, None)[choice // 3 % 3]
        self.now += timedelta(minutes=1)
        number = len(self.packages) + 1
        self.packages[number] = Package(
            number=number,
            digest=f"{number:016x}",
            approval=APPROVALS[choice % 3],
            judged_against=planned_with or 0,
            created_at=self.now,
        )
        self._note_approval(number)

    def plan_decide(self, number: int, choice: int) -> None:
        """Change a package's approval, as a person does."""
        if package := self.packages.get(number):
            package.approval = APPROVALS[choice % 3]
            package.revision += 1
            self._note_approval(number)

    def plan_judge_again(self, number: int, _choice: int) -> None:
        """Judge a package against the current champion, and change its metadata, as a person does."""
        if package := self.packages.get(number):
            package.judged_against = self.champion() or 0

    def plan_make_again(self, number: int, choice: int) -> None:
        """Replace a package by one with the same number, as in a recreated group."""
        if package := self.packages.get(number):
            package.digest = f"{choice:08x}{number:08x}"
            self.plan_decide(number, choice)

    def _note_approval(self, number: int) -> None:
        if self.packages[number].approval == "Approved":
            self.approved_once.add(number)

    def plan_follow(self, number: int, _choice: int) -> Plan | None:
        """Read a package and record it, as after an event or a listing."""
        seen, package = self.table.model_version(MODEL, number), self.packages.get(number)
        if package is None:
            return None
        revision, digest, approval = package.revision, package.digest, package.approval
        found = ModelVersion(
            model=MODEL,
            version=number,
            state="candidate",
            digest=digest,
            artifact_key=f"models/{MODEL}/candidates/{number}/output/model.tar.gz",
            artifact_sha256="0" * 64,
            package_arn=f"arn:aws:sagemaker:us-east-1:111111111111:model-package/group/{number}",
            approval=approval,
            created_at=format_utc(package.created_at),
            judged_against=package.judged_against,
        )

        def recorded() -> None:
            must(revision >= self.recorded.get(number, 0), f"a later finding of {number} was overwritten")
            self.recorded[number] = revision
            record = self.table.model_version(MODEL, number)
            must(
                record is not None and record.digest == digest, f"{number} follows another version's package"
            )
            self.withdrawn.update({number} if self.state(number) == "withdrawn" else ())
            again = version_rules.record_version(record, found)
            must(not again.writes, f"the package {number} was recorded twice")

        return Plan("record_version", version_rules.record_version(seen, found), recorded)

    # -- the champion --------------------------------------------------------------------------------------

    def plan_request(self, kind: str) -> Callable[[int, int], Plan | None]:
        """Return an actor that makes a new request of this kind."""

        def plan(number: int, choice: int) -> Plan | None:
            request = ChangeRequest(
                request_id=self.fresh("request"), actor="tester", automatic=kind == "by_rule"
            )
            target = 0 if choice % 2 and kind in {"demote", "challenge"} else number
            self.requests.append((kind, target, request))
            return self.plan_asked(kind, target, request)

        return plan

    def plan_ask_again(self, _number: int, choice: int) -> Plan | None:
        """Repeat an earlier request, as after a lost answer."""
        return self.plan_asked(*self.requests[choice % len(self.requests)]) if self.requests else None

    def plan_asked(self, kind: str, target: int, request: ChangeRequest) -> Plan | None:
        """Return the change for a request, decided on the current records."""
        pointer, now = self.table.champion(MODEL), self.clock()
        version = self.table.model_version(MODEL, target) if target else None
        if target and version is None and kind in {"by_rule", "by_person", "demote", "challenge"}:
            return None

        def carried_out() -> None:
            must(request.request_id not in self.carried_out, f"{request.request_id} was carried out twice")
            self.carried_out.add(request.request_id)

        if kind in {"hold", "release_hold"}:
            held = kind == "hold"

            def changed_hold() -> None:
                carried_out()
                self.held = held

            change = version_rules.hold_versions(pointer, request, model=MODEL, held=held, now=now)
            return Plan("hold_versions", change, changed_hold)
        if kind == "challenge":
            change = version_rules.challenge(version, pointer, request, model=MODEL, now=now)
            state_before = self.state(target)

            def challenged() -> None:
                carried_out()
                invariants.check_challenger(self, target)

            return Plan("challenge", change, challenged) if state_before or not target else None
        if kind == "demote":
            return self._planned_demotion(version, pointer, request, now, carried_out)
        if version is None:
            return None

        def promoted() -> None:
            carried_out()
            invariants.check_promotion(
                self, version, replaced=pointer.version if pointer else None, request=request
            )
            self.ever_champion.add(version.version)
            self.withdrawn.discard(version.version)

        return Plan("promote", version_rules.promote(version, pointer, request, now=now), promoted)

    def _planned_demotion(
        self,
        version: ModelVersion | None,
        pointer: ChampionPointer | None,
        request: ChangeRequest,
        now: datetime,
        carried_out: Callable[[], None],
    ) -> Plan | None:
        """Return the demotion to the named version, or else to the one that was superseded last."""
        if pointer is None:
            return None
        target = version or self.demotion_target()

        def demoted() -> None:
            carried_out()
            must(pointer.version is not None, "a demotion withdrew no version")
            must(
                target is None or target.version not in self.withdrawn,
                f"a demotion went to {target and target.version}, which was withdrawn",
            )
            invariants.check_champion_may_score(self, target.version if target else None)
            self.withdrawn.update({pointer.version} if pointer.version else ())
            self.ever_champion.update({target.version} if target else ())
            self.last_demotion = max(now, self.last_demotion or now)

        return Plan("demote", version_rules.demote(target, pointer, request, now=now), demoted)

    def demotion_target(self) -> ModelVersion | None:
        """Return what `RegistryTable.demotion_target` returns."""
        versions = [version for number in NUMBERS if (version := self.table.model_version(MODEL, number))]
        superseded = [version for version in versions if version.state == "superseded"]
        return max(superseded, key=lambda version: version.superseded_sequence or 0, default=None)

    def plan_retire(self, number: int, _choice: int) -> Plan | None:
        """Retire a version that no batch uses, unless it was needed within the last hour."""
        record = self.table.model_version(MODEL, number)
        since = self.over_since.get(number)
        if record is None or number in self.pins.values() or (since and self.now - since < _LATEST):
            return None
        return Plan("retire_version", version_rules.retire_version(record))

    # -- batches -------------------------------------------------------------------------------------------

    def plan_pin(self, number: int, _choice: int) -> Plan | None:
        """Pin the champion for a batch, unless another attempt has pinned a version already."""
        champion, batch_id = self.champion(), BATCH_IDS[number % 3]
        if champion is None:
            return None

        def put() -> None:
            self.attempts.append((batch_id, self.pins.setdefault(batch_id, champion)))

        # The pin is stored on S3 and not in the registry.
        return Plan("pin", Transaction(MODEL, batch_id), put)

    def plan_score(self, number: int, _choice: int) -> None:
        """Score a pinned batch with the pinned version, and record it as verified."""
        batch_id = BATCH_IDS[number % 3]
        key = batch_key(MODEL, batch_id)
        if batch_id not in self.pins or key in self.table.records:
            return
        self.attempts.append((batch_id, self.pins[batch_id]))
        verified = {
            "batch_id": batch_id,
            "partition": BATCHES[batch_id],
            "release_state": ReleaseState.UNPUBLISHED,
            "load_state": LoadState.VERIFIED,
            "verified_attempt": 1,
            "checked_attempt": 1,
            "items_expire_at": format_utc(self.now + 10 * ITEM_LIFE),
            "version_number": self.pins[batch_id],
        }
        self.table.apply("score", Transaction(MODEL, batch_id, (Write(key=key, assign=verified),)))

    def plan_publish(self, number: int, _choice: int) -> Plan | None:
        """Request the automatic publication of a batch."""
        batch_id = BATCH_IDS[number % 3]
        record = self.table.batch(MODEL, batch_id)
        if record is None:
            return None
        pointers = LivePointers(home_region=HOME, home=self.table.pointer(MODEL, HOME))
        request = ChangeRequest(request_id=self.fresh("publication"), actor="tester", automatic=True)
        change = publication_rules.publish(
            record, pointers, request, now=self.now, minimum_life=MINIMUM_LIFE, retention=RETENTION
        )

        def published() -> None:
            must(
                self.pins[batch_id] not in self.withdrawn,
                f"{batch_id} was published automatically although {self.pins[batch_id]} was withdrawn",
            )

        return Plan("publish", change, published)

    # -- several steps at once ------------------------------------------------------------------------------

    def release(self, _number: int, choice: int) -> None:
        """Add an approved package, record it, and promote it by rule."""
        self.plan_register(0, choice // 3 * 3)
        newest = len(self.packages)
        self.submit(self.plan_follow(newest, choice))
        self.submit(self.plan_request("by_rule")(newest, choice))

    def approve_and_promote(self, number: int, choice: int) -> None:
        """Approve a version and promote it, as a person does."""
        self.plan_decide(number, 0)
        self.submit(self.plan_follow(number, choice))
        self.submit(self.plan_request("by_person")(number, choice))

    def judge_late(self, number: int, choice: int) -> None:
        """Judge a package again, record it, and promote it by rule."""
        self.plan_judge_again(number, choice)
        self.submit(self.plan_follow(number, choice))
        self.submit(self.plan_request("by_rule")(number, choice))

    def serve_once_more(self, number: int, choice: int) -> None:
        """Promote a version as a person does, pin it for a batch, and then promote three others."""
        self.submit(self.plan_request("by_person")(number, choice))
        self.submit(self.plan_pin(number, choice))
        for other in [each for each in NUMBERS if each != number][:3]:
            self.submit(self.plan_request("by_person")(other, choice))

    def change_and_follow(self, number: int, choice: int) -> None:
        """Change a package's approval and record it."""
        self.plan_decide(number, choice)
        self.submit(self.plan_follow(number, choice))

    def score_and_publish(self, number: int, choice: int) -> None:
        """Pin and score a batch, and request its publication."""
        self.submit(self.plan_pin(number, choice))
        self.plan_score(number, choice)
        self.submit(self.plan_publish(number, choice))

    def let_time_pass(self, hours: int) -> None:
        """Advance the clock."""
        self.now += timedelta(hours=hours)
