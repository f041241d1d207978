"""No condition of the rules is there for nothing: leaving any one out breaks an invariant."""

from __future__ import annotations

import pytest

from tests.contract import registry_histories, version_histories
from tests.contract.registry_invariants import InvariantBrokenError
from tests.contract.registry_machine import RegistryMachine
from tests.contract.registry_simulation import RegistrySimulation
from tests.contract.rules_machine import RulesMachine, Step, replay, search
from tests.contract.version_machine import VersionMachine
from tests.contract.version_simulation import VersionSimulation

Histories = dict[str, tuple[Step, ...]]
# The machine of the batches, and that of the models' versions.
BATCHES = RegistryMachine, registry_histories.HISTORIES, RegistrySimulation
VERSIONS = VersionMachine, version_histories.HISTORIES, VersionSimulation
CONDITIONS = [
    pytest.param(machine, condition, steps, id=condition)
    for machine, histories, _ in (BATCHES, VERSIONS)
    for condition, steps in histories.items()
]
both_machines = pytest.mark.parametrize(
    ("machine", "histories", "simulation"), [BATCHES, VERSIONS], ids=["batches", "versions"]
)


def without(condition: str, machine: type[RulesMachine]) -> type[RulesMachine]:
    """Return the machine of the same actors under rules that lack one condition."""

    class MutatedMachine(machine):
        """See above."""

        disabled = frozenset({condition})

    return MutatedMachine


@pytest.mark.parametrize(("machine", "condition", "steps"), CONDITIONS)
def test_leaving_a_condition_out_breaks_an_invariant(
    machine: type[RulesMachine], condition: str, steps: tuple[Step, ...]
) -> None:
    """Somebody sees half a batch, a lost answer acts twice, or the like; under whole rules nobody does."""
    replay(machine, steps)
    with pytest.raises(InvariantBrokenError):
        replay(without(condition, machine), steps)


@both_machines
def test_every_condition_has_a_history(
    machine: type[RulesMachine],
    histories: Histories,
    simulation: type[RegistrySimulation | VersionSimulation],
) -> None:
    """A new condition cannot be left out of the test above, nor a history outlive its condition."""
    for steps in histories.values():
        replay(machine, steps)
    assert sorted(simulation.seen_conditions) == sorted(histories)


@pytest.mark.slow
@pytest.mark.timeout(900)
@both_machines
def test_many_histories_break_nothing_and_know_no_other_condition(
    machine: type[RulesMachine],
    histories: Histories,
    simulation: type[RegistrySimulation | VersionSimulation],
) -> None:
    """Random histories under the whole rules; what they meet, the histories above meet too."""
    search(machine, 1000 if machine is RegistryMachine else 300)
    assert sorted(simulation.seen_conditions) == sorted(histories)


@pytest.mark.drill
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("machine", "condition", "steps"), CONDITIONS)
def test_random_histories_find_what_a_condition_prevents(
    machine: type[RulesMachine],
    condition: str,
    steps: tuple[Step, ...],  # noqa: ARG001  # the same parameters as above
) -> None:
    """The actors are able to break what each condition protects, without anybody leading them there."""
    with pytest.raises(InvariantBrokenError):
        search(without(condition, machine), 20_000)
