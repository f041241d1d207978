"""Decide what a role may do, as IAM does: a statement must name both the action and the resource."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from infra.permissions.policy_statements import RoleDefinition


def allows(role: RoleDefinition, action: str, resource: str) -> bool:
    """Whether a role may perform an action on a resource; conditions count as met."""
    return any(
        action in statement["Action"]
        and any(_matches(pattern, resource) for pattern in statement["Resource"])
        for statement in role.statements
    )


def holders(roles: tuple[RoleDefinition, ...], action: str, resource: str) -> set[str]:
    """Return the names of the roles that may perform an action on a resource."""
    return {role.name for role in roles if allows(role, action, resource)}


def _matches(pattern: str, resource: str) -> bool:
    # In IAM `*` matches any characters, including slashes and colons, and `?` matches one.
    expression = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(expression, resource) is not None
