"""The API's function: its archive, the alias that receives traffic, and the rollout of new versions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_codedeploy as codedeploy
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_

from infra.capabilities.accepted_findings import acknowledge
from infra.capabilities.log_storage import add_log_group
from infra.capabilities.roles import add_role
from infra.definitions.api_definitions import ALARMS_THAT_ROLL_BACK, api_function
from infra.packaging import build_api_archive
from infra.permissions.platform_roles import api_deployment_role
from infra.permissions.role_definitions import api_role

if TYPE_CHECKING:
    from pathlib import Path

    from infra.settings import StageSettings
    from prediction_contract.naming.resource_names import Deployment

# The share of warm environments in use above which more are added.
_UTILISATION = 0.7
_ARCHITECTURES = {"aarch64": lambda_.Architecture.ARM_64, "x86_64": lambda_.Architecture.X86_64}


def add_function(
    stack: cdk.Stack, settings: StageSettings, deployment: Deployment, archives: Path
) -> lambda_.Alias:
    """Add function, role, log group, version and alias with warm environments; return the alias.

    SnapStart is not used, because it excludes provisioned concurrency, and only that avoids all cold starts.
    """
    definition = api_function(
        deployment,
        settings.tokens,
        provider_origins=settings.provider_origins,
        public_documentation=settings.public_documentation,
    )
    role = add_role(stack, "FunctionRole", deployment, api_role(deployment))
    log_group = add_log_group(stack, "FunctionLogs", deployment.api_log_group)
    archive = build_api_archive(archives, platform=settings.api.architecture)
    function = lambda_.Function(
        stack,
        "Function",
        function_name=definition.name,
        description="Serves live predictions",
        # Not mutable, so that the CDK adds no statements to those of the definition.
        role=iam.Role.from_role_arn(stack, "FunctionRoleByName", definition.role_arn, mutable=False),
        handler=definition.handler,
        runtime=lambda_.Runtime(definition.runtime, lambda_.RuntimeFamily.PYTHON),
        architecture=_ARCHITECTURES[settings.api.architecture],
        code=lambda_.Code.from_asset(str(archive.path)),
        memory_size=definition.memory_mb,
        timeout=cdk.Duration.seconds(definition.timeout_seconds),
        environment=definition.environment,
        tracing=lambda_.Tracing.ACTIVE,
        log_group=log_group,
        current_version_options=lambda_.VersionOptions(removal_policy=cdk.RemovalPolicy.RETAIN),
    )
    function.node.add_dependency(role)
    resource = function.node.default_child
    if resource is not None:
        acknowledge(resource, L1="The archive's packages and byte code require this Python version.")
    alias = lambda_.Alias(
        stack,
        "Live",
        alias_name=deployment.api_alias,
        version=function.current_version,  # type: ignore[arg-type]  # jsii declares another type
        provisioned_concurrent_executions=settings.api.warm_environments,
    )
    scaling = alias.add_auto_scaling(
        min_capacity=settings.api.warm_environments, max_capacity=settings.api.most_warm_environments
    )
    scaling.scale_on_utilization(utilization_target=_UTILISATION)
    return alias


def add_deployment(
    stack: cdk.Stack,
    deployment: Deployment,
    alias: lambda_.Alias,
) -> None:
    """Shift a tenth of the traffic to a new version first, and roll back if an alarm goes off."""
    role = add_role(stack, "DeploymentRole", deployment, api_deployment_role(deployment))
    role_arn = deployment.role_arn(deployment.api_deployment_role)
    group = codedeploy.LambdaDeploymentGroup(
        stack,
        "Deployment",
        alias=alias,
        deployment_config=codedeploy.LambdaDeploymentConfig.CANARY_10_PERCENT_5_MINUTES,
        role=iam.Role.from_role_arn(stack, "DeploymentRoleByName", role_arn, mutable=False),
        # By name: references would make the alarms and the alias depend on one another.
        alarms=[
            cloudwatch.Alarm.from_alarm_arn(stack, f"by-name-{what}", deployment.alarm_arn(what))
            for what in ALARMS_THAT_ROLL_BACK
        ],
        auto_rollback=codedeploy.AutoRollbackConfig(
            failed_deployment=True, stopped_deployment=True, deployment_in_alarm=True
        ),
    )
    group.node.add_dependency(role)
