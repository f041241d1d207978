"""No condition of the rules is there for nothing: leaving any one out breaks an invariant."""

from __future__ import annotations

import pytest

from tests.contract.registry_histories import HISTORIES
from tests.contract.registry_invariants import InvariantBrokenError
from tests.contract.registry_machine import RegistryMachine, replay, search
from tests.contract.registry_simulation import RegistrySimulation


def without(condition: str) -> type[RegistryMachine]:
    """Return the machine of the same actors under rules that lack one condition."""

    class MutatedMachine(RegistryMachine):
        """See above."""

        disabled = frozenset({condition})

    return MutatedMachine


@pytest.mark.parametrize("condition", HISTORIES)
def test_leaving_a_condition_out_breaks_an_invariant(condition: str) -> None:
    """Somebody sees half a batch, a lost answer acts twice, or the like; under whole rules nobody does."""
    replay(RegistryMachine, HISTORIES[condition])
    with pytest.raises(InvariantBrokenError):
        replay(without(condition), HISTORIES[condition])


def test_every_condition_has_a_history() -> None:
    """A new condition cannot be left out of the test above, nor a history outlive its condition."""
    for steps in HISTORIES.values():
        replay(RegistryMachine, steps)
    assert sorted(RegistrySimulation.seen_conditions) == sorted(HISTORIES)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_many_histories_break_nothing_and_know_no_other_condition() -> None:
    """Random histories under the whole rules; what they meet, the histories above meet too."""
    search(RegistryMachine, 1000)
    assert sorted(RegistrySimulation.seen_conditions) == sorted(HISTORIES)


@pytest.mark.drill
@pytest.mark.timeout(900)
@pytest.mark.parametrize("condition", HISTORIES)
def test_random_histories_find_what_a_condition_prevents(condition: str) -> None:
    """The actors are able to break what each condition protects, without anybody leading them there."""
    with pytest.raises(InvariantBrokenError):
        search(without(condition), 20_000)
