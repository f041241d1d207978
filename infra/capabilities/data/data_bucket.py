"""The platform's data bucket and its encryption key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aws_cdk as cdk
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3

from infra.capabilities.log_storage import (
    add_bucket_policy,
    add_logs_bucket,
    encryption,
    no_public_access,
    ownership_controls_of,
)
from infra.definitions.resource_definitions import (
    BucketDefinition,
    ExpiryRule,
    data_bucket,
    tls_only_statement,
)
from infra.permissions.policy_statements import POLICY_VERSION

if TYPE_CHECKING:
    from prediction_contract.naming.resource_names import Deployment

_ACCESS_LOG_PREFIX = "data-bucket-access/"
_KEY_WINDOW_DAYS = 30


def add_data_bucket(stack: cdk.Stack, deployment: Deployment) -> s3.CfnBucket:
    """Add the key, the bucket and the bucket with its access logs."""
    definition = data_bucket(deployment)
    key = _key(stack, deployment, definition)
    logs = add_logs_bucket(stack, "LogsBucket", deployment.logs_bucket, deployment, *_log_writers(deployment))
    bucket = s3.CfnBucket(
        stack,
        "DataBucket",
        bucket_name=definition.name,
        bucket_encryption=encryption(
            definition.encryption, key.attr_arn, bucket_key_enabled=definition.bucket_key_enabled
        ),
        public_access_block_configuration=no_public_access(),
        ownership_controls=ownership_controls_of(definition.object_ownership),
        versioning_configuration=s3.CfnBucket.VersioningConfigurationProperty(status="Enabled"),
        notification_configuration=s3.CfnBucket.NotificationConfigurationProperty(
            event_bridge_configuration=s3.CfnBucket.EventBridgeConfigurationProperty(
                event_bridge_enabled=definition.event_bridge_enabled
            )
        ),
        logging_configuration=s3.CfnBucket.LoggingConfigurationProperty(
            destination_bucket_name=logs.bucket.ref, log_file_prefix=_ACCESS_LOG_PREFIX
        ),
        lifecycle_configuration=s3.CfnBucket.LifecycleConfigurationProperty(rules=_lifecycle(definition)),
    )
    bucket.apply_removal_policy(cdk.RemovalPolicy.RETAIN)
    arn = deployment.data_bucket_arn
    add_bucket_policy(stack, "DataBucketPolicy", bucket, tls_only_statement("s3", arn, f"{arn}/*"))
    return bucket


def _key(stack: cdk.Stack, deployment: Deployment, definition: BucketDefinition) -> kms.CfnKey:
    policy: dict[str, Any] = {
        "Version": POLICY_VERSION,
        "Statement": [
            {
                # Roles decide who uses the key. Without this statement nobody could administer it.
                "Sid": "AccountDecidesByRoles",
                "Effect": "Allow",
                "Principal": {"AWS": f"arn:{deployment.partition}:iam::{deployment.account_id}:root"},
                "Action": "kms:*",
                "Resource": "*",
            }
        ],
    }
    key = kms.CfnKey(
        stack,
        "DataKey",
        description=f"Encrypts {deployment.data_bucket}",
        enable_key_rotation=True,
        pending_window_in_days=_KEY_WINDOW_DAYS,
        key_policy=policy,
    )
    key.apply_removal_policy(cdk.RemovalPolicy.RETAIN)
    kms.CfnAlias(stack, "DataKeyAlias", alias_name=definition.key_alias, target_key_id=key.ref)
    return key


def _log_writers(deployment: Deployment) -> list[dict[str, Any]]:
    arn = f"arn:{deployment.partition}:s3:::{deployment.logs_bucket}"
    of_this_account = {"StringEquals": {"aws:SourceAccount": deployment.account_id}}
    return [
        {
            "Sid": "DataBucketTellsWhoReads",
            "Effect": "Allow",
            "Principal": {"Service": "logging.s3.amazonaws.com"},
            "Action": "s3:PutObject",
            "Resource": f"{arn}/{_ACCESS_LOG_PREFIX}*",
            "Condition": {**of_this_account, "ArnLike": {"aws:SourceArn": deployment.data_bucket_arn}},
        },
        {
            "Sid": "NetworksTellTheirFlows",
            "Effect": "Allow",
            "Principal": {"Service": "delivery.logs.amazonaws.com"},
            "Action": "s3:PutObject",
            "Resource": f"{arn}/*",
            "Condition": of_this_account,
        },
        {
            "Sid": "NetworksLookForTheBucket",
            "Effect": "Allow",
            "Principal": {"Service": "delivery.logs.amazonaws.com"},
            "Action": ["s3:GetBucketAcl", "s3:ListBucket"],
            "Resource": arn,
            "Condition": of_this_account,
        },
    ]


def _lifecycle(definition: BucketDefinition) -> list[s3.CfnBucket.RuleProperty]:
    # The rules per prefix expire objects only; this one removes unfinished uploads and old versions.
    everywhere = s3.CfnBucket.RuleProperty(
        id="abandoned-uploads-and-old-versions",
        status="Enabled",
        abort_incomplete_multipart_upload=s3.CfnBucket.AbortIncompleteMultipartUploadProperty(
            days_after_initiation=definition.abort_multipart_after_days
        ),
        noncurrent_version_expiration=s3.CfnBucket.NoncurrentVersionExpirationProperty(
            noncurrent_days=definition.old_versions_days
        ),
        expired_object_delete_marker=True,
    )
    return [everywhere, *(_expiry(rule) for rule in definition.expiry_rules)]


def _expiry(rule: ExpiryRule) -> s3.CfnBucket.RuleProperty:
    archived = None
    if rule.archive_after_days is not None:
        archived = [
            s3.CfnBucket.TransitionProperty(
                storage_class="INTELLIGENT_TIERING", transition_in_days=rule.archive_after_days
            )
        ]
    return s3.CfnBucket.RuleProperty(
        id=rule.name,
        status="Enabled",
        prefix=rule.prefix,
        expiration_in_days=rule.expire_after_days,
        transitions=archived,
    )
