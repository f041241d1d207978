"""Shared parts of the registry's state machines: disabled conditions, random search and replay."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.internal.conjecture.providers import AVAILABLE_PROVIDERS, HypothesisProvider
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from tests.fakes.registry_table import FakeRegistryTable

Step = tuple[str, Mapping[str, Any]]
"""The name of a machine's rule, and its arguments."""


class RulesMachine(RuleBasedStateMachine):
    """A state machine of actors on a registry; `disabled` names omitted conditions as `rule.condition`."""

    disabled: ClassVar[frozenset[str]] = frozenset()
    table_class: ClassVar[type[FakeRegistryTable]] = FakeRegistryTable

    def the_design_holds(self) -> None:
        """Check all invariants after a step."""
        raise NotImplementedError


class IndependentHistories(HypothesisProvider):
    """Generates each history independently of earlier ones, from the seed of the search.

    Hypothesis's own generator reuses parts and choices of earlier histories. Independent histories find rare
    races ten times sooner.
    """


AVAILABLE_PROVIDERS["independent-histories"] = IndependentHistories


def independent_histories(examples: int) -> settings:
    """Return settings for this many independent histories; the first broken invariant ends the search."""
    return settings(
        max_examples=examples,
        stateful_step_count=25,
        backend="independent-histories",
        deadline=None,
        database=None,
        phases=[Phase.generate],
        report_multiple_bugs=False,
        # Long histories are intended, and a slow computer is no fault of the rules.
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    )


def search(machine: type[RulesMachine], examples: int) -> None:
    """Search random histories for a broken invariant; pytest's `--randomly-seed` repeats a search.

    Raises:
        InvariantBrokenError: A history broke an invariant.
    """

    class SeededMachine(machine):
        """The machine with the seed of this search."""

    run_state_machine_as_test(
        seed(random.getrandbits(64))(SeededMachine), settings=independent_histories(examples)
    )


def replay(machine: type[RulesMachine], steps: Sequence[Step]) -> None:
    """Replay the steps of one history, and check the invariants after each step.

    Args:
        machine: The machine whose rules are run.
        steps: Names of rules with their arguments; the first one is `begin`.

    Raises:
        InvariantBrokenError: The history breaks an invariant.
    """
    history = machine()
    for rule_name, arguments in steps:
        getattr(history, rule_name)(**arguments)
        history.the_design_holds()
