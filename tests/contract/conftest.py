"""Settings of the contract's property tests."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# Examples are judged by what they show, not by how long a busy machine takes for them.
settings.register_profile("contract", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("contract")
