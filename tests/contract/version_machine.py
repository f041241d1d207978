"""A state machine that interleaves all actors that change a model's versions and checks the invariants.

Retrainings, people, rules, a retention sweep and batches take turns. A change may be decided now and
submitted later (an event out of order, a stalled actor), twice (a duplicate event, a lost answer) or never
(a lost event).
"""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from tests.contract import version_invariants as invariants
from tests.contract.registry_invariants import must
from tests.contract.registry_simulation import Plan
from tests.contract.rules_machine import RulesMachine
from tests.contract.version_simulation import NUMBERS, VersionSimulation

ACTORS = (
    "register",
    "decide",
    "judge_again",
    "make_again",
    "follow",
    "follow",
    "by_rule",
    "by_rule",
    "by_person",
    "demote",
    "hold",
    "release_hold",
    "challenge",
    "retire",
    "pin",
    "score",
    "publish",
    "ask_again",
)
SEQUELS = (
    "release",
    "approve_and_promote",
    "change_and_follow",
    "judge_late",
    "score_and_publish",
    "serve_once_more",
)

numbers = st.sampled_from(NUMBERS)
actors = st.sampled_from(ACTORS)
anything = st.sampled_from(ACTORS + SEQUELS)
choices = st.integers(0, 17)


class VersionMachine(RulesMachine):
    """Interleaves the actors of versions; the module describes how."""

    def __init__(self) -> None:
        super().__init__()
        self.simulation = VersionSimulation(self.table_class(self.disabled))
        self.stalled: list[Plan] = []

    def plan(self, actor: str, number: int, choice: int) -> Plan | None:
        """Return the change that an actor decides on now; changes at SageMaker take effect immediately."""
        planned = getattr(self.simulation, f"plan_{actor}", None) or self.simulation.plan_request(actor)
        return planned(number, choice)

    def act(self, actor: str, number: int, choice: int) -> None:
        """Let one actor decide and act, or run a sequence of steps without interruption."""
        if actor in SEQUELS:
            getattr(self.simulation, actor)(number, choice)
        else:
            self.simulation.submit(self.plan(actor, number, choice))

    @initialize(released=st.integers(0, 3))
    def begin(self, released: int) -> None:
        """Promote the first versions by rule, so that runs reach interesting states."""
        for number in range(1, released + 1):
            self.simulation.release(number, 0)
            must(self.simulation.champion() == number, "a judged version could not be promoted by rule")

    @rule(actor=anything, number=numbers, choice=choices)
    def somebody_acts(self, actor: str, number: int, choice: int) -> None:
        """One actor decides and submits its change immediately."""
        self.act(actor, number, choice)

    @rule(actor=actors, number=numbers, choice=choices)
    def somebody_decides_and_stalls(self, actor: str, number: int, choice: int) -> None:
        """One actor decides, and submits its change later or never."""
        if plan := self.plan(actor, number, choice):
            self.stalled.append(plan)

    @precondition(lambda self: self.stalled)
    @rule(position=st.integers(0, 11), answer_lost=st.booleans())
    def a_stalled_actor_goes_on(self, position: int, answer_lost: bool) -> None:
        """Submit a stalled change; if its answer is lost, it may be submitted again later."""
        index = position % len(self.stalled)
        plan = self.stalled[index] if answer_lost else self.stalled.pop(index)
        self.simulation.submit(plan)

    @rule(
        slow=actors,
        choice=choices,
        quick=st.lists(st.tuples(anything, numbers, choices), min_size=1, max_size=3),
        number=numbers,
    )
    def an_actor_is_overtaken(
        self, slow: str, choice: int, quick: list[tuple[str, int, int]], number: int
    ) -> None:
        """One actor decides, others act, and then the first one acts."""
        late = self.plan(slow, number, choice)
        for name, other, chosen in quick:
            self.act(name, other, chosen)
        self.simulation.submit(late)

    @rule(hours=st.sampled_from((1, 1, 30)))
    def time_passes(self, hours: int) -> None:
        """Hours pass, and stalled changes are dropped, because signatures expire within minutes."""
        self.stalled.clear()
        self.simulation.let_time_pass(hours)

    @invariant()
    def the_design_holds(self) -> None:
        """Check all invariants after a step."""
        invariants.check_versions(self.simulation)
        invariants.check_batches(self.simulation)
        invariants.check_requests(self.simulation)
