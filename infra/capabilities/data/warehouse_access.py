"""The role with which Snowflake reads the bucket, and the secret with which jobs log in to Snowflake."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aws_cdk as cdk
from aws_cdk import aws_secretsmanager as secretsmanager

from infra.capabilities.accepted_findings import acknowledge
from infra.capabilities.roles import add_trusted_role
from infra.permissions.platform_roles import snowflake_statements, snowflake_trust_policy
from infra.settings import SnowflakeTrust

if TYPE_CHECKING:
    from infra.settings import StageSettings
    from prediction_contract.naming.resource_names import Deployment


def add_warehouse_access(stack: cdk.Stack, settings: StageSettings) -> secretsmanager.CfnSecret:
    """Add the storage integration's role, and return the empty secret for the connection."""
    deployment = settings.deployment()
    trust = settings.snowflake or _placeholder_trust(deployment)
    add_trusted_role(
        stack,
        "SnowflakeAccessRole",
        deployment,
        name=deployment.snowflake_access_role,
        trust=snowflake_trust_policy(trust.user_arn, trust.external_id),
        statements=snowflake_statements(deployment),
    )
    return add_secret(
        stack,
        "SnowflakeConnection",
        deployment.snowflake_secret,
        "Arguments of the Snowflake connector, as one JSON document",
        "Rotating Snowflake's key pair begins with ALTER USER; docs/operations.md describes it.",
    )


def add_secret(
    stack: cdk.Stack, construct_id: str, name: str, description: str, rotation: str
) -> secretsmanager.CfnSecret:
    """Add a secret whose value a person writes after the first deployment.

    Args:
        stack: The stack to add to.
        construct_id: The construct's id in the stack.
        name: The secret's name.
        description: The secret's content, for people.
        rotation: Why no Lambda function rotates it.
    """
    secret = secretsmanager.CfnSecret(stack, construct_id, name=name, description=description)
    secret.apply_removal_policy(cdk.RemovalPolicy.RETAIN)
    acknowledge(secret, SMG4=rotation)
    return secret


def _placeholder_trust(deployment: Deployment) -> SnowflakeTrust:
    # A role must trust somebody. Nobody can assume this one: the external id is never used.
    account = f"arn:{deployment.partition}:iam::{deployment.account_id}:root"
    return SnowflakeTrust(user_arn=account, external_id="until-the-storage-integration-exists")
