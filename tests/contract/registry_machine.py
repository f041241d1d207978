"""A state machine that interleaves all actors of the registry and checks the invariants.

Publications, rollbacks, loads, reloads, a retention sweep, the projection and a second region take turns. A
change may be decided now and submitted later (a stalled actor), submitted twice (a lost answer) or requested
again (a retry). Job runs may be reported as ended while their process still runs (zombies).
"""

from __future__ import annotations

from datetime import timedelta

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from tests.contract import registry_invariants as invariants
from tests.contract.registry_simulation import Plan, RegistrySimulation
from tests.contract.rules_machine import RulesMachine
from tests.fakes.prediction_stores import FIRST, OLDER, SECOND

ACTORS = (
    "notice",
    "refuse_manifest",
    "claim",
    "abandon",
    "job_step",
    "job_step",
    "job_step",
    "verify",
    "check",
    "confirm_region",
    "follow",
    "retire",
    "late_purge",
    "automatic",
    "automatic",
    "publish",
    "rollback",
    "hold",
    "release_hold",
    "ask_again",
)
SEQUELS = (
    "load_at_once",
    "release_at_home",
    "release_at_once",
    "release_automatically",
    "release_unprojected",
    "roll_back_and_forward",
    "roll_back_and_go_on",
    "publish_and_follow",
    "retire_and_restore",
    "retire_twice",
    "refuse_at_once",
    "replace_job",
    "replace_manifest_under_a_load",
    "sweep",
)
# The actor that decides first, and the one that overtakes it on the same record.
RACES = (
    ("abandon", "job_step"),
    ("automatic", "check"),
    ("automatic", "hold"),
    ("automatic", "rollback"),
    ("claim", "replace_job"),
    ("claim", "retire_and_restore"),
    ("claim", "verify"),
    ("confirm_region", "retire_and_restore"),
    ("confirm_region", "sweep"),
    ("follow", "follow"),
    ("follow", "publish"),
    ("hold", "publish"),
    ("job_step", "notice"),
    ("job_step", "replace_job"),
    ("notice", "load_at_once"),
    ("notice", "refuse_manifest"),
    ("publish", "retire_and_restore"),
    ("refuse_manifest", "claim"),
    ("refuse_manifest", "load_at_once"),
    ("refuse_manifest", "notice"),
    ("retire", "claim"),
    ("rollback", "load_at_once"),
    ("rollback", "publish"),
    ("rollback", "sweep"),
    ("rollback", "retire_and_restore"),
    ("verify", "claim"),
    ("verify", "retire"),
)

batches = st.sampled_from((FIRST, SECOND, OLDER))
actors = st.sampled_from(ACTORS)
choices = st.integers(0, 41)


class RegistryMachine(RulesMachine):
    """Interleaves the actors of batches; the module describes how."""

    def __init__(self) -> None:
        super().__init__()
        self.simulation = RegistrySimulation(self.table_class(self.disabled))
        self.stalled: list[Plan] = []

    def plan(self, actor: str, batch_id: str, choice: int) -> Plan | None:
        """Return the change that an actor decides on from the current records, or None."""
        planned = getattr(self.simulation, f"plan_{actor}", None) or self.simulation.plan_request(actor)
        return planned(batch_id, choice)

    @initialize(
        released=st.lists(st.sampled_from((FIRST, SECOND, OLDER)), unique=True),
        later=st.sampled_from(("release_at_once", "release_at_home", "release_unprojected")),
        hours=st.sampled_from((0, 0, 30, 70)),
    )
    def begin(self, released: list[str], later: str, hours: int) -> None:
        """Release up to three batches and let time pass, so that runs reach interesting states.

        From the second batch on, the far region or Snowflake's projection may lag behind.
        """
        for number, batch_id in enumerate(released):
            getattr(self.simulation, later if number else "release_at_once")(batch_id, 1)
            live = self.simulation.known(batch_id).release_state == "live"
            invariants.must(live, "a batch could not be released although nothing stood against it")
        self.simulation.let_time_pass(hours)

    @rule(actor=actors, batch_id=batches, choice=choices)
    def somebody_acts(self, actor: str, batch_id: str, choice: int) -> None:
        """One actor decides and submits its change immediately."""
        self.simulation.submit(self.plan(actor, batch_id, choice))

    @rule(actor=actors, batch_id=batches, choice=choices)
    def somebody_decides_and_stalls(self, actor: str, batch_id: str, choice: int) -> None:
        """One actor decides, and submits its change later or never."""
        if plan := self.plan(actor, batch_id, choice):
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
        quick=st.lists(
            st.tuples(st.sampled_from(ACTORS + SEQUELS), st.booleans(), choices), min_size=1, max_size=3
        ),
        batch_id=batches,
        other=batches,
    )
    def an_actor_is_overtaken(
        self, slow: str, choice: int, quick: list[tuple[str, bool, int]], batch_id: str, other: str
    ) -> None:
        """One actor decides, others act, mostly on the same batch, and then the first one acts."""
        late = self.plan(slow, batch_id, choice)
        for name, elsewhere, chosen in quick:
            concerned = other if elsewhere else batch_id
            if name in SEQUELS:
                getattr(self.simulation, name)(concerned, chosen)
            else:
                self.simulation.submit(self.plan(name, concerned, chosen))
        self.simulation.submit(late)

    @rule(
        race=st.sampled_from(RACES),
        steps_before=st.sampled_from((None, 1, 4)),
        batch_id=batches,
        choice=choices,
        chosen=choices,
    )
    def two_race(
        self, race: tuple[str, str], steps_before: int | None, batch_id: str, choice: int, chosen: int
    ) -> None:
        """One actor decides, and another one changes the same record before the first one acts.

        A load may have been confirmed (one step) or completed (four steps) before.
        """
        if steps_before is not None:
            self.simulation.load_some_way(batch_id, choice, steps_before)
        slow, quick = race
        late = self.plan(slow, batch_id, choice)
        if quick in SEQUELS:
            getattr(self.simulation, quick)(batch_id, chosen)
        else:
            self.simulation.submit(self.plan(quick, batch_id, chosen))
        self.simulation.submit(late)

    @rule(batch_id=batches, choice=choices, steps=st.integers(0, 4), chosen=choices)
    def a_zombie_wakes(self, batch_id: str, choice: int, steps: int, chosen: int) -> None:
        """A job run stalls, counts as ended, is replaced by another one, and then takes its next step."""
        job = self.simulation.load_some_way(batch_id, choice, steps)
        late = self.simulation.plan_next(job) if job and not job.finished else None
        self.simulation.replace_job(batch_id, chosen)
        self.simulation.submit(late)

    @rule(sequel=st.sampled_from(SEQUELS), batch_id=batches, choice=choices)
    def several_steps_happen_at_once(self, sequel: str, batch_id: str, choice: int) -> None:
        """A sequence of steps runs without interruption."""
        getattr(self.simulation, sequel)(batch_id, choice)

    @rule(batch_id=batches, choice=choices, steps=st.integers(0, 4), becomes_a_zombie=st.booleans())
    def a_load_gets_some_way(self, batch_id: str, choice: int, steps: int, becomes_a_zombie: bool) -> None:
        """A load takes its first steps; a zombie then stalls and is reported as ended."""
        job = self.simulation.load_some_way(batch_id, choice, steps)
        if job and becomes_a_zombie and not job.finished:
            if plan := self.simulation.plan_next(job):
                self.stalled.append(plan)
            job.reported_ended = True

    @rule(position=st.integers(0, 6), process_dies=st.booleans())
    def a_job_run_is_reported_as_ended(self, position: int, process_dies: bool) -> None:
        """The job service reports a job run as ended, although its process may still run."""
        running = [job for job in self.simulation.world.jobs if not job.finished]
        if running:
            job = running[-1 - position % len(running)]
            job.reported_ended, job.finished = True, process_dies

    @rule(batch_id=batches)
    def the_replica_catches_up_and_is_counted(self, batch_id: str) -> None:
        """The far region's replica catches up, and its rows are counted."""
        self.simulation.world.replicate(batch_id)
        self.simulation.count_replica(batch_id)

    @rule()
    def the_next_publication_is_projected(self) -> None:
        """Snowflake's projection takes the next entry."""
        self.simulation.project_next()

    @precondition(lambda self: self.simulation.purges)
    @rule(position=st.integers(0, 6), dies=st.booleans())
    def the_sweep_deletes(self, position: int, dies: bool) -> None:
        """The sweep deletes a retired batch's rows, or is considered dead before it does."""
        purges = sorted(self.simulation.purges)
        self.simulation.finish_purge(purges[position % len(purges)], dies=dies)

    @rule()
    def half_an_hour_passes(self) -> None:
        """Unconfirmed claims expire; their job runs may still arrive late."""
        self.stalled.clear()
        self.simulation.world.now += timedelta(minutes=31)

    @rule(hours=st.sampled_from((30, 70, 170)))
    def time_passes(self, hours: int) -> None:
        """Hours pass, and stalled changes are dropped, because signatures expire within minutes."""
        self.stalled.clear()
        self.simulation.let_time_pass(hours)

    @invariant()
    def the_design_holds(self) -> None:
        """Check all invariants after a step."""
        invariants.check_readers(self.simulation)
        invariants.check_release_states(self.simulation)
        invariants.check_workers(self.simulation)
        invariants.check_requests(self.simulation)
