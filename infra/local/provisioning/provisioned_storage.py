"""The data bucket and the DynamoDB tables."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from infra.local.provisioning.clients import ProvisioningError, none_on_error

if TYPE_CHECKING:
    from infra.definitions.resource_definitions import BucketDefinition, TableDefinition

_LOG = logging.getLogger(__name__)
_PUBLIC_ACCESS = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")


def ensure_bucket(s3: Any, bucket: BucketDefinition, region: str) -> None:
    """Create the bucket or update its settings to the definition; objects stay."""
    if none_on_error("404", s3.head_bucket, Bucket=bucket.name) is None:
        # S3 refuses us-east-1 as a location constraint.
        where = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        s3.create_bucket(Bucket=bucket.name, **where)
        _LOG.info("created bucket %s", bucket.name)
    _ensure_notifications(s3, bucket)
    # Each put replaces the whole setting, so all of them are repeated every time.
    s3.put_bucket_encryption(
        Bucket=bucket.name,
        ServerSideEncryptionConfiguration={
            "Rules": [
                {
                    # The alias has no key here, because the emulator does not encrypt.
                    "ApplyServerSideEncryptionByDefault": {
                        "SSEAlgorithm": bucket.encryption,
                        "KMSMasterKeyID": bucket.key_alias,
                    },
                    "BucketKeyEnabled": bucket.bucket_key_enabled,
                }
            ]
        },
    )
    s3.put_public_access_block(
        Bucket=bucket.name,
        PublicAccessBlockConfiguration=dict.fromkeys(_PUBLIC_ACCESS, bucket.block_public_access),
    )
    s3.put_bucket_ownership_controls(
        Bucket=bucket.name, OwnershipControls={"Rules": [{"ObjectOwnership": bucket.object_ownership}]}
    )
    s3.put_bucket_lifecycle_configuration(
        Bucket=bucket.name,
        LifecycleConfiguration={
            "Rules": [
                {
                    "ID": "abandoned-uploads",
                    "Status": "Enabled",
                    "Filter": {"Prefix": ""},
                    "AbortIncompleteMultipartUpload": {
                        "DaysAfterInitiation": bucket.abort_multipart_after_days
                    },
                },
                *(
                    {
                        "ID": rule.name,
                        "Status": "Enabled",
                        "Filter": {"Prefix": rule.prefix},
                        "Expiration": {"Days": rule.expire_after_days},
                    }
                    for rule in bucket.expiry_rules
                    if rule.expire_after_days is not None
                ),
            ]
        },
    )


def _ensure_notifications(s3: Any, bucket: BucketDefinition) -> None:
    configuration = s3.get_bucket_notification_configuration(Bucket=bucket.name)
    configuration.pop("ResponseMetadata", None)
    if ("EventBridgeConfiguration" in configuration) == bucket.event_bridge_enabled:
        return
    # The put replaces all notifications, so include those that somebody added.
    s3.put_bucket_notification_configuration(
        Bucket=bucket.name, NotificationConfiguration={**configuration, "EventBridgeConfiguration": {}}
    )
    _LOG.info("turned on EventBridge notifications of bucket %s", bucket.name)


def ensure_table(dynamodb: Any, table: TableDefinition) -> None:
    """Create the table or update its settings to the definition; items stay.

    Raises:
        ProvisioningError: A table of that name has other keys, which cannot be updated.
    """
    found = none_on_error("ResourceNotFoundException", dynamodb.describe_table, TableName=table.name)
    described = found["Table"] if found else _create(dynamodb, table)
    _require_keys(described, table)
    changes: dict[str, Any] = {}
    # DynamoDB omits the summary for tables that always had provisioned capacity.
    mode = described.get("BillingModeSummary", {}).get("BillingMode", "PROVISIONED")
    if mode != table.billing_mode:
        changes["BillingMode"] = table.billing_mode
    if described.get("DeletionProtectionEnabled", False) != table.deletion_protection:
        changes["DeletionProtectionEnabled"] = table.deletion_protection
    for setting, value in changes.items():
        # DynamoDB accepts only one kind of change per call.
        dynamodb.update_table(TableName=table.name, **{setting: value})
        _wait_until_active(dynamodb, table.name)
        _LOG.info("restored %s of table %s to %s", setting, table.name, value)
    _ensure_recovery(dynamodb, table)
    _ensure_expiry(dynamodb, table)


def _create(dynamodb: Any, table: TableDefinition) -> dict[str, Any]:
    keys = (table.partition_key, table.sort_key)
    created = none_on_error(
        # Another `mlpipe up` of the same stack has created it.
        "ResourceInUseException",
        dynamodb.create_table,
        TableName=table.name,
        AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in keys],
        KeySchema=_key_schema(table),
        BillingMode=table.billing_mode,
        DeletionProtectionEnabled=table.deletion_protection,
    )
    if created:
        _LOG.info("created table %s", table.name)
    _wait_until_active(dynamodb, table.name)
    return dynamodb.describe_table(TableName=table.name)["Table"]


def _wait_until_active(dynamodb: Any, name: str) -> None:
    dynamodb.get_waiter("table_exists").wait(TableName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 30})


def _key_schema(table: TableDefinition) -> list[dict[str, str]]:
    return [
        {"AttributeName": table.partition_key, "KeyType": "HASH"},
        {"AttributeName": table.sort_key, "KeyType": "RANGE"},
    ]


def _require_keys(described: dict[str, Any], table: TableDefinition) -> None:
    types = {entry["AttributeName"]: entry["AttributeType"] for entry in described["AttributeDefinitions"]}
    keys = described["KeySchema"]
    if keys == _key_schema(table) and types[table.partition_key] == types[table.sort_key] == "S":
        return
    found = ", ".join(f"{key['AttributeName']} {types.get(key['AttributeName'])}" for key in keys)
    raise ProvisioningError(
        f"Table {table.name} has the keys ({found}) instead of ({table.partition_key} S, {table.sort_key} S)",
        remedy="Keys cannot be changed: save what you need, delete the table, and run `mlpipe up` again",
    )


def _ensure_recovery(dynamodb: Any, table: TableDefinition) -> None:
    backups = dynamodb.describe_continuous_backups(TableName=table.name)["ContinuousBackupsDescription"]
    status = backups.get("PointInTimeRecoveryDescription", {}).get("PointInTimeRecoveryStatus", "DISABLED")
    if (status == "ENABLED") == table.point_in_time_recovery:
        return
    dynamodb.update_continuous_backups(
        TableName=table.name,
        PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": table.point_in_time_recovery},
    )
    _LOG.info("set point-in-time recovery of table %s to %s", table.name, table.point_in_time_recovery)


def _ensure_expiry(dynamodb: Any, table: TableDefinition) -> None:
    expiry = dynamodb.describe_time_to_live(TableName=table.name)["TimeToLiveDescription"]
    on = expiry.get("TimeToLiveStatus") in {"ENABLED", "ENABLING"}
    current = expiry.get("AttributeName") if on else None
    if current == table.ttl_attribute:
        return
    if current is not None:
        _set_expiry(dynamodb, table.name, current, enabled=False)
    if table.ttl_attribute is not None:
        _set_expiry(dynamodb, table.name, table.ttl_attribute, enabled=True)
    _LOG.info("set expiry of table %s from %s to %s", table.name, current, table.ttl_attribute)


def _set_expiry(dynamodb: Any, name: str, attribute: str, *, enabled: bool) -> None:
    dynamodb.update_time_to_live(
        TableName=name, TimeToLiveSpecification={"AttributeName": attribute, "Enabled": enabled}
    )
