"""The one error of provisioning."""

from __future__ import annotations

from infra.local.supervision.stack_state import StackError


class ProvisioningError(StackError):
    """A resource of the local stack cannot be brought to its definition."""
