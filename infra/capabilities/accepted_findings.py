"""Accepted findings of validation rules on single resources, each with its reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aws_cdk as cdk

from infra.permissions.wildcards import wildcard_reasons

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from aws_cdk import aws_ec2 as ec2
    from constructs import IConstruct

    from infra.permissions.policy_statements import Statement
    from prediction_contract.naming.resource_names import Deployment

_PACK = "AwsSolutions"


def acknowledge(resource: IConstruct, **reasons: str) -> None:
    """Accept findings of the AWS Solutions rules on one resource.

    Args:
        resource: The only resource for which the findings are accepted.
        reasons: A reason for each rule. The keyword is the rule's name without `AwsSolutions-`, such as `S1`.
    """
    _acknowledge(resource, reasons)


def acknowledge_lint(resource: cdk.CfnResource, **reasons: str) -> None:
    """Accept findings of cfn-lint on one resource.

    Args:
        resource: The resource.
        reasons: A reason for each check. The keyword is the check's name, such as `W3010`.
    """
    resource.add_metadata("cfn-lint", {"config": {"ignore_checks": sorted(reasons)}})
    resource.add_metadata("mlpipe:reasons", reasons)


def acknowledge_named_zones(network: ec2.Vpc) -> None:
    """Accept cfn-lint's findings about subnets with a fixed availability zone."""
    for subnet in (*network.public_subnets, *network.private_subnets, *network.isolated_subnets):
        resource = subnet.node.default_child
        if isinstance(resource, cdk.CfnResource):
            acknowledge_lint(
                resource,
                W3010="The stage's settings name the zones, so synthesis looks nothing up and zones stay.",
            )


def acknowledge_wildcards(
    resource: IConstruct, deployment: Deployment, statements: Iterable[Statement]
) -> None:
    """Accept the wildcards of a role's statements one by one, each with its reason.

    Raises:
        UnexplainedWildcardError: A wildcard has no reason.
    """
    found: dict[str, str] = {}
    for statement in statements:
        for pattern, reason in wildcard_reasons(deployment, statement).items():
            found[pattern] = f"{found[pattern]}; {reason}" if pattern in found else reason
    stars = {pattern: reason for pattern, reason in found.items() if "*" in pattern}
    _acknowledge(resource, {f"IAM5[Resource::{pattern}]": reason for pattern, reason in stars.items()})


def _acknowledge(resource: IConstruct, reasons: Mapping[str, str]) -> None:
    acknowledgements = [
        cdk.Acknowledgment(id=f"{_PACK}::{_PACK}-{rule}", reason=reason) for rule, reason in reasons.items()
    ]
    cdk.Validations.of(resource).acknowledge(*acknowledgements)
