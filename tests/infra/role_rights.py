"""What a role may do, judged as IAM does: some statement names both the action and the resource."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from infra.permissions.policy_statements import RoleDefinition


def allows(role: RoleDefinition, action: str, resource: str) -> bool:
    """Whether a role may do something to a resource; conditions count as fulfilled."""
    return any(
        action in statement["Action"]
        and any(_matches(pattern, resource) for pattern in statement["Resource"])
        for statement in role.statements
    )


def holders(roles: tuple[RoleDefinition, ...], action: str, resource: str) -> set[str]:
    """Return the names of the roles that may do something to a resource."""
    return {role.name for role in roles if allows(role, action, resource)}


def _matches(pattern: str, resource: str) -> bool:
    # IAM's star stands for any characters, slashes and colons too, and its question mark for one.
    expression = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(expression, resource) is not None
