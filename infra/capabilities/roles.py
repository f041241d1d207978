"""Roles with exactly the statements of their definitions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aws_cdk import aws_iam as iam

from infra.capabilities.accepted_findings import acknowledge_wildcards
from infra.permissions.policy_statements import POLICY_NAME, POLICY_VERSION, RoleDefinition, Statement

if TYPE_CHECKING:
    import aws_cdk as cdk

    from prediction_contract.naming.resource_names import Deployment


def add_role(
    stack: cdk.Stack,
    construct_id: str,
    deployment: Deployment,
    role: RoleDefinition,
    *further: Statement,
) -> iam.CfnRole:
    """Add a role with its trust and its one inline policy.

    Args:
        stack: The stack to add to.
        construct_id: The construct's id in the stack.
        deployment: The names and ARNs of the stage in its region.
        role: The role's definition.
        further: Statements about resources of this deployment alone, such as its uploaded code.
    """
    statements = (*role.statements, *further)
    return add_trusted_role(
        stack, construct_id, deployment, name=role.name, trust=role.trust_policy(), statements=statements
    )


def add_trusted_role(
    stack: cdk.Stack,
    construct_id: str,
    deployment: Deployment,
    *,
    name: str,
    trust: dict[str, Any],
    statements: tuple[Statement, ...],
) -> iam.CfnRole:
    """Add a role by its trust policy.

    Raises:
        UnexplainedWildcardError: A statement has a wildcard without a reason.
    """
    document = {"Version": POLICY_VERSION, "Statement": list(statements)}
    policy = iam.CfnRole.PolicyProperty(policy_name=POLICY_NAME, policy_document=document)
    role = iam.CfnRole(
        stack, construct_id, role_name=name, assume_role_policy_document=trust, policies=[policy]
    )
    acknowledge_wildcards(role, deployment, statements)
    return role
