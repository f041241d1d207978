"""Tests that every condition of the registry's rules is needed: without it, an invariant breaks."""

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
# State machine, histories and simulation, for batches and for model versions.
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
    """Return a machine whose rules lack one condition."""

    class MutatedMachine(machine):
        """The machine without the condition."""

        disabled = frozenset({condition})

    return MutatedMachine


@pytest.mark.parametrize(("machine", "condition", "steps"), CONDITIONS)
def test_disabling_a_condition_breaks_an_invariant(
    machine: type[RulesMachine], condition: str, steps: tuple[Step, ...]
) -> None:
    """Each condition's history keeps all invariants, but breaks one if the condition is disabled."""
    replay(machine, steps)
    with pytest.raises(InvariantBrokenError):
        replay(without(condition, machine), steps)


@both_machines
def test_every_condition_has_a_history(
    machine: type[RulesMachine],
    histories: Histories,
    simulation: type[RegistrySimulation | VersionSimulation],
) -> None:
    """Each condition of the rules has a history, and no history outlives its condition."""
    for steps in histories.values():
        replay(machine, steps)
    assert sorted(simulation.seen_conditions) == sorted(histories)


@pytest.mark.slow
@pytest.mark.timeout(900)
@both_machines
def test_random_histories_keep_all_invariants(
    machine: type[RulesMachine],
    histories: Histories,
    simulation: type[RegistrySimulation | VersionSimulation],
) -> None:
    """Random histories break no invariant and meet no condition without a history."""
    search(machine, 1000 if machine is RegistryMachine else 300)
    assert sorted(simulation.seen_conditions) == sorted(histories)


@pytest.mark.drill
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("machine", "condition", "steps"), CONDITIONS)
def test_random_search_finds_each_disabled_condition(
    machine: type[RulesMachine],
    condition: str,
    steps: tuple[Step, ...],  # noqa: ARG001  # the same parameters as above
) -> None:
    """A random search breaks an invariant if any one condition is disabled."""
    with pytest.raises(InvariantBrokenError):
        search(without(condition, machine), 20_000)
