"""Dagster's Postgres, and the secret with its password."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import aws_cdk as cdk
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_rds as rds
from aws_cdk import aws_secretsmanager as secretsmanager

from infra.capabilities.accepted_findings import acknowledge, acknowledge_lint
from infra.capabilities.dagster.dagster_network import POSTGRES, DagsterNetwork
from infra.capabilities.log_storage import add_log_group

if TYPE_CHECKING:
    from infra.settings import StageSettings
    from prediction_contract.naming.resource_names import Deployment

DATABASE = USER = "dagster"
# Only the major version: RDS upgrades minor versions itself, and a fixed one here would downgrade it.
_MAJOR_VERSION = "17"
_BACKUP_DAYS = 14
_PASSWORD_LENGTH = 40


def add_database(
    stack: cdk.Stack, settings: StageSettings, deployment: Deployment, network: DagsterNetwork
) -> tuple[rds.CfnDBInstance, secretsmanager.CfnSecret]:
    """Add the database and its secret."""
    size = settings.dagster
    secret = secretsmanager.CfnSecret(
        stack,
        "DatabaseSecret",
        name=deployment.dagster_database_secret,
        description="User and password of Dagster's Postgres",
        generate_secret_string=secretsmanager.CfnSecret.GenerateSecretStringProperty(
            secret_string_template=json.dumps({"username": USER}),
            generate_string_key="password",
            password_length=_PASSWORD_LENGTH,
            exclude_punctuation=True,
        ),
    )
    secret.apply_removal_policy(cdk.RemovalPolicy.RETAIN)
    acknowledge(
        secret,
        SMG4="Tasks read it when they start, so an automatic rotation would lock running tasks out. "
        "docs/operations.md describes how to rotate it together with the services.",
    )
    isolated = network.network.select_subnets(subnet_type=ec2.SubnetType.PRIVATE_ISOLATED)
    subnets = rds.CfnDBSubnetGroup(
        stack,
        "DatabaseSubnets",
        db_subnet_group_description="Subnets of Dagster's Postgres",
        subnet_ids=isolated.subnet_ids,
    )
    database = rds.CfnDBInstance(
        stack,
        "Database",
        db_instance_identifier=deployment.dagster_database,
        engine="postgres",
        engine_version=_MAJOR_VERSION,
        db_name=DATABASE,
        port=str(POSTGRES),
        master_username=USER,
        master_user_password=f"{{{{resolve:secretsmanager:{secret.ref}:SecretString:password}}}}",
        db_instance_class=size.database_class,
        allocated_storage=str(size.database_gb),
        max_allocated_storage=4 * size.database_gb,
        storage_type="gp3",
        storage_encrypted=True,
        multi_az=size.database_in_two_zones,
        publicly_accessible=False,
        db_subnet_group_name=subnets.ref,
        vpc_security_groups=[network.database.security_group_id],
        backup_retention_period=_BACKUP_DAYS,
        copy_tags_to_snapshot=True,
        delete_automated_backups=False,
        deletion_protection=settings.deletion_protection,
        enable_performance_insights=True,
        enable_cloudwatch_logs_exports=["postgresql"],
        auto_minor_version_upgrade=True,
        ca_certificate_identifier="rds-ca-rsa2048-g1",
    )
    database.apply_removal_policy(cdk.RemovalPolicy.SNAPSHOT)
    # Without the dependency RDS would create the log group itself.
    database.node.add_dependency(add_log_group(stack, "DatabaseLogs", deployment.dagster_database_log_group))
    acknowledge(
        database,
        RDS11="Security groups admit only Dagster's tasks, so another port would add no protection.",
    )
    acknowledge_lint(
        database,
        W3691="The check knows minor versions only; RDS also accepts a major version.",
    )
    if not size.database_in_two_zones:
        acknowledge(database, RDS3="This stage has no standby: runs wait if its zone fails.")
    return database, secret
