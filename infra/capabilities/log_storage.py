"""Storage for the logs of services: log groups with a retention, and private buckets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aws_cdk as cdk
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3

from infra.capabilities.accepted_findings import acknowledge
from infra.definitions.resource_definitions import tls_only_statement
from infra.permissions.policy_statements import POLICY_VERSION, Statement

if TYPE_CHECKING:
    from constructs import Construct

    from prediction_contract.naming.resource_names import Deployment

_KEPT_DAYS = 400


def add_log_group(
    scope: Construct,
    construct_id: str,
    name: str,
    retention: logs.RetentionDays = logs.RetentionDays.THREE_MONTHS,
) -> logs.LogGroup:
    """Add a log group that outlives its stack, and return it so that other resources can depend on it.

    A log group that a service creates itself would keep every line for ever.

    Args:
        scope: The construct to add to.
        construct_id: The construct's id in the stack.
        name: The name that the writing service expects.
        retention: How long lines are kept.
    """
    return logs.LogGroup(
        scope,
        construct_id,
        log_group_name=name,
        retention=retention,
        removal_policy=cdk.RemovalPolicy.RETAIN,
    )


@dataclass(frozen=True, slots=True)
class LogsBucket:
    """A bucket and its policy, which lets services write to it."""

    bucket: s3.CfnBucket
    policy: s3.CfnBucketPolicy


def add_logs_bucket(
    stack: cdk.Stack, construct_id: str, name: str, deployment: Deployment, *statements: Statement
) -> LogsBucket:
    """Add a private bucket whose objects expire after 400 days.

    Args:
        stack: The stack to add to.
        construct_id: The construct's id in the stack.
        name: The bucket's name.
        deployment: The names and ARNs of the stage in its region.
        statements: Policy statements for the services that write to it.
    """
    bucket = s3.CfnBucket(
        stack,
        construct_id,
        bucket_name=name,
        # Load balancers and S3's access logs can write only with S3's own key.
        bucket_encryption=encryption("AES256"),
        public_access_block_configuration=no_public_access(),
        ownership_controls=ownership_controls_of("BucketOwnerEnforced"),
        versioning_configuration=s3.CfnBucket.VersioningConfigurationProperty(status="Enabled"),
        lifecycle_configuration=s3.CfnBucket.LifecycleConfigurationProperty(
            rules=[
                s3.CfnBucket.RuleProperty(
                    id="expiry",
                    status="Enabled",
                    expiration_in_days=_KEPT_DAYS,
                    noncurrent_version_expiration=s3.CfnBucket.NoncurrentVersionExpirationProperty(
                        noncurrent_days=1
                    ),
                    abort_incomplete_multipart_upload=s3.CfnBucket.AbortIncompleteMultipartUploadProperty(
                        days_after_initiation=2
                    ),
                )
            ]
        ),
    )
    bucket.apply_removal_policy(cdk.RemovalPolicy.RETAIN)
    acknowledge(bucket, S1="It stores access logs; logging access to itself would create endless logs.")
    arn = f"arn:{deployment.partition}:s3:::{name}"
    policy = add_bucket_policy(
        stack, f"{construct_id}Policy", bucket, tls_only_statement("s3", arn, f"{arn}/*"), *statements
    )
    return LogsBucket(bucket, policy)


def add_bucket_policy(
    stack: cdk.Stack, construct_id: str, bucket: s3.CfnBucket, *statements: Statement
) -> s3.CfnBucketPolicy:
    """Add the bucket's policy."""
    document: dict[str, Any] = {"Version": POLICY_VERSION, "Statement": list(statements)}
    name = bucket.bucket_name
    if name is None:
        raise ValueError(
            f"Bucket {construct_id} has no name. Use one from prediction_contract.naming.resource_names."
        )
    # By name, so that validation rules recognise the bucket in the statements' ARNs.
    policy = s3.CfnBucketPolicy(stack, construct_id, bucket=name, policy_document=document)
    policy.add_resource_dependency(bucket)
    return policy


def encryption(
    algorithm: str, key_arn: str | None = None, *, bucket_key_enabled: bool | None = None
) -> s3.CfnBucket.BucketEncryptionProperty:
    """Return the encryption with the given key, or with S3's own key."""
    rule = s3.CfnBucket.ServerSideEncryptionRuleProperty(
        bucket_key_enabled=bucket_key_enabled,
        server_side_encryption_by_default=s3.CfnBucket.ServerSideEncryptionByDefaultProperty(
            sse_algorithm=algorithm, kms_master_key_id=key_arn
        ),
    )
    return s3.CfnBucket.BucketEncryptionProperty(server_side_encryption_configuration=[rule])


def no_public_access() -> s3.CfnBucket.PublicAccessBlockConfigurationProperty:
    """Return the settings that block all public access."""
    return s3.CfnBucket.PublicAccessBlockConfigurationProperty(
        block_public_acls=True,
        block_public_policy=True,
        ignore_public_acls=True,
        restrict_public_buckets=True,
    )


def ownership_controls_of(ownership: str) -> s3.CfnBucket.OwnershipControlsProperty:
    """Return the bucket setting that decides who owns objects written by other accounts."""
    rule = s3.CfnBucket.OwnershipControlsRuleProperty(object_ownership=ownership)
    return s3.CfnBucket.OwnershipControlsProperty(rules=[rule])
