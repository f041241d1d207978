"""The Cognito pool that issues the API's tokens, for machines only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aws_cdk as cdk
from aws_cdk import aws_cognito as cognito

from infra.capabilities.accepted_findings import acknowledge
from infra.capabilities.data.warehouse_access import add_secret
from infra.definitions.resource_definitions import token_issuer

if TYPE_CHECKING:
    from infra.settings import StageSettings


def add_token_issuer(stack: cdk.Stack, settings: StageSettings) -> None:
    """Add the pool, its domain, the resource server, the only client and the secret with its credentials."""
    deployment = settings.deployment()
    issuer = token_issuer(deployment)
    pool = cognito.CfnUserPool(
        stack,
        "TokenPool",
        user_pool_name=issuer.pool,
        admin_create_user_config=cognito.CfnUserPool.AdminCreateUserConfigProperty(
            allow_admin_create_user_only=True
        ),
        deletion_protection="ACTIVE" if settings.deletion_protection else "INACTIVE",
    )
    pool.apply_removal_policy(cdk.RemovalPolicy.RETAIN)
    nobody = "The pool has no users: it issues tokens to machines by client credentials."
    acknowledge(pool, COG1=nobody, COG2=nobody, COG3=nobody, COG8=nobody)
    cognito.CfnUserPoolDomain(stack, "TokenDomain", domain=issuer.domain, user_pool_id=pool.ref)
    scope = cognito.CfnUserPoolResourceServer.ResourceServerScopeTypeProperty(
        scope_name=issuer.scope_name, scope_description=issuer.scope_description
    )
    server = cognito.CfnUserPoolResourceServer(
        stack,
        "TokenScopes",
        user_pool_id=pool.ref,
        identifier=issuer.resource_server,
        name=issuer.resource_server,
        scopes=[scope],
    )
    client = cognito.CfnUserPoolClient(
        stack,
        "TokenClient",
        user_pool_id=pool.ref,
        client_name=issuer.client,
        generate_secret=True,
        allowed_o_auth_flows=["client_credentials"],
        allowed_o_auth_flows_user_pool_client=True,
        allowed_o_auth_scopes=[issuer.scope],
        access_token_validity=issuer.access_token_minutes,
        token_validity_units=cognito.CfnUserPoolClient.TokenValidityUnitsProperty(access_token="minutes"),  # noqa: S106  # a unit
        enable_token_revocation=True,
        prevent_user_existence_errors="ENABLED",
    )
    client.add_resource_dependency(server)
    add_secret(
        stack,
        "TokenClientCredentials",
        deployment.token_client_secret,
        "client_id and client_secret with which checks call the API, as one JSON document",
        "Cognito cannot rotate a client's secret: a new client replaces the old one.",
    )
    cdk.CfnOutput(stack, "TokenPoolId", value=pool.ref, description="For tokens.cognito_pool in stages.yaml")
    cdk.CfnOutput(
        stack, "TokenClientId", value=client.ref, description="For tokens.client_ids in stages.yaml"
    )
