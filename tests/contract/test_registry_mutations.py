"""No condition of the rules is there for nothing: leaving any one out breaks an invariant."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.contract.registry_machine import InvariantBrokenError, RegistryMachine

CONDITIONS = ()


def histories(examples: int) -> settings:
    """Return how many random histories to try; the first broken invariant ends the search."""
    return settings(
        max_examples=examples,
        stateful_step_count=60,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
