"""The registry and one table of predictions per model, replicated to every serving region."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aws_cdk as cdk
from aws_cdk import aws_dynamodb as dynamodb

from infra.definitions.resource_definitions import TableDefinition, online_table, registry_table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from infra.settings import StageSettings


def add_tables(stack: cdk.Stack, settings: StageSettings, models: Iterable[str]) -> None:
    """Add the tables of a stage."""
    deployment = settings.deployment()
    _table(stack, "Registry", registry_table(deployment), settings)
    for model in models:
        _table(stack, f"Predictions-{model}", online_table(deployment, model), settings)


def _table(
    stack: cdk.Stack, construct_id: str, table: TableDefinition, settings: StageSettings
) -> dynamodb.TableV2:
    recovery = dynamodb.PointInTimeRecoverySpecification(
        point_in_time_recovery_enabled=table.point_in_time_recovery
    )
    protected = table.deletion_protection and settings.deletion_protection
    return dynamodb.TableV2(
        stack,
        construct_id,
        table_name=table.name,
        partition_key=dynamodb.Attribute(name=table.partition_key, type=dynamodb.AttributeType.STRING),
        sort_key=dynamodb.Attribute(name=table.sort_key, type=dynamodb.AttributeType.STRING),
        billing=dynamodb.Billing.on_demand(),
        encryption=dynamodb.TableEncryptionV2.aws_managed_key(),
        time_to_live_attribute=table.ttl_attribute,
        point_in_time_recovery_specification=recovery,
        deletion_protection=protected,
        removal_policy=cdk.RemovalPolicy.RETAIN,
        replicas=[
            dynamodb.ReplicaTableProps(
                region=region,
                point_in_time_recovery_specification=recovery,
                deletion_protection=protected,
            )
            for region in settings.serving_regions
        ],
    )
