"""What the state machines of the registry's rules share: mutated rules, random histories, histories told."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.internal.conjecture.providers import AVAILABLE_PROVIDERS, HypothesisProvider
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from tests.fakes.registry_table import FakeRegistryTable

Step = tuple[str, Mapping[str, Any]]
"""A rule of a machine with its arguments."""


class RulesMachine(RuleBasedStateMachine):
    """Actors on a registry. `disabled` names conditions to leave out, as `rule.condition`."""

    disabled: ClassVar[frozenset[str]] = frozenset()
    table_class: ClassVar[type[FakeRegistryTable]] = FakeRegistryTable

    def the_design_holds(self) -> None:
        """After each step, nothing forbidden is the case."""
        raise NotImplementedError


class IndependentHistories(HypothesisProvider):
    """Draws each history afresh, out of the search's seed.

    The stock generator builds histories out of parts of earlier ones and repeats their choices; rare races
    are found ten times sooner by histories that know nothing of one another.
    """


AVAILABLE_PROVIDERS["independent-histories"] = IndependentHistories


def independent_histories(examples: int) -> settings:
    """Return how many histories to try; the first broken invariant ends the search."""
    return settings(
        max_examples=examples,
        stateful_step_count=25,
        backend="independent-histories",
        deadline=None,
        database=None,
        phases=[Phase.generate],
        report_multiple_bugs=False,
        # A history is long on purpose, and a busy machine says nothing about the rules.
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    )


def search(machine: type[RulesMachine], examples: int) -> None:
    """Try histories; pytest's `--randomly-seed`, which each run prints, tries the same ones again.

    Raises:
        InvariantBrokenError: A history broke an invariant.
    """

    class SeededMachine(machine):
        """The same, with a seed of its own."""

    run_state_machine_as_test(
        seed(random.getrandbits(64))(SeededMachine), settings=independent_histories(examples)
    )


def replay(machine: type[RulesMachine], steps: Sequence[Step]) -> None:
    """Take the steps of one history.

    Args:
        machine: Whose rules are followed.
        steps: A rule of the machine with its arguments each, the first of them `begin`.

    Raises:
        InvariantBrokenError: The history breaks an invariant.
    """
    history = machine()
    for rule_name, arguments in steps:
        getattr(history, rule_name)(**arguments)
        history.the_design_holds()
