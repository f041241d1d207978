"""The one error of provisioning."""

from __future__ import annotations


class ProvisioningError(Exception):
    """A resource of the local stack cannot be brought to its definition.

    Args:
        what: One sentence without a full stop: which resource and what is wrong with it.
        remedy: One sentence without a full stop: what to do.
    """

    def __init__(self, what: str, *, remedy: str) -> None:
        self.what = what
        self.remedy = remedy
        super().__init__(f"{what}. {remedy}.")
