"""Tests of the data stack's settings in the templates, because the emulator drops most of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from infra.definitions.resource_definitions import data_bucket, done_file_pattern, model_events_pattern
from model_declaration.declared_models import deployable_names
from tests.infra.cdk.templates import AWAY, HOME, STAGES
from tests.infra.example_stages import STAGES as SETTINGS
from tests.projects import EXAMPLE

if TYPE_CHECKING:
    from collections.abc import Callable

    from prediction_contract.naming.resource_names import Deployment
    from tests.infra.cdk.templates import Templates


def buckets(templates: Templates, stage: str, stack: str) -> dict[str, dict[str, Any]]:
    """Return a stack's buckets by name."""
    return {each["BucketName"]: each for each in templates.properties(stage, stack, "AWS::S3::Bucket")}


@pytest.mark.parametrize("stage", STAGES)
def test_every_model_has_an_expiring_replicated_table(templates: Templates, stage: str) -> None:
    """All tables are on demand, restorable, protected and in both regions, and predictions expire."""
    deployment = SETTINGS[stage].deployment()
    tables = {
        each["TableName"]: each for each in templates.properties(stage, "data", "AWS::DynamoDB::GlobalTable")
    }
    online = {deployment.online_table(model) for model in deployable_names(EXAMPLE.defs)}
    assert set(tables) == online | {deployment.registry_table}
    for name, table in tables.items():
        assert table["BillingMode"] == "PAY_PER_REQUEST"
        assert [each["AttributeName"] for each in table["KeySchema"]] == (
            ["entity_id", "batch_id"] if name in online else ["model", "record"]
        )
        expiry = {"AttributeName": "expires_at", "Enabled": True} if name in online else None
        assert table.get("TimeToLiveSpecification") == expiry
        assert [each["Region"] for each in table["Replicas"]] == [AWAY, HOME]
        for replica in table["Replicas"]:
            assert replica["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
            assert replica["DeletionProtectionEnabled"] is True
        assert table["SSESpecification"] == {"SSEEnabled": True, "SSEType": "KMS"}


@pytest.mark.parametrize("stage", STAGES)
def test_data_bucket_is_private_encrypted_and_sends_events(templates: Templates, stage: str) -> None:
    """The data bucket is versioned, encrypted with the stage's key, logged, and sends events."""
    deployment = SETTINGS[stage].deployment()
    bucket = buckets(templates, stage, "data")[deployment.data_bucket]
    assert bucket["VersioningConfiguration"] == {"Status": "Enabled"}
    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    (rule,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert rule["BucketKeyEnabled"] is True
    assert rule["ServerSideEncryptionByDefault"] == {
        "SSEAlgorithm": "aws:kms",
        "KMSMasterKeyID": {"Fn::GetAtt": ["DataKey", "Arn"]},
    }
    notifications = bucket["NotificationConfiguration"]["EventBridgeConfiguration"]
    assert notifications == {"EventBridgeEnabled": True}
    assert bucket["LoggingConfiguration"]["DestinationBucketName"] == {"Ref": "LogsBucket"}
    key = templates.one(stage, "data", "AWS::KMS::Key")
    assert key["EnableKeyRotation"] is True
    alias = templates.one(stage, "data", "AWS::KMS::Alias")
    assert alias["AliasName"] == deployment.data_key_alias


@pytest.mark.parametrize("stage", STAGES)
def test_no_lifecycle_rule_expires_batches(templates: Templates, stage: str) -> None:
    """Lifecycle rules expire only the defined prefixes, never done files, models or predictions."""
    deployment = SETTINGS[stage].deployment()
    rules = buckets(templates, stage, "data")[deployment.data_bucket]["LifecycleConfiguration"]["Rules"]
    expiring = {rule["Prefix"]: rule["ExpirationInDays"] for rule in rules if "ExpirationInDays" in rule}
    assert expiring == {
        rule.prefix: rule.expire_after_days
        for rule in data_bucket(deployment).expiry_rules
        if rule.expire_after_days
    }
    assert not {"done/", "models/", "predictions/", "features/", "code/"} & set(expiring)
    (everywhere,) = [rule for rule in rules if "Prefix" not in rule]
    assert everywhere["NoncurrentVersionExpiration"] == {"NoncurrentDays": 30}
    assert everywhere["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 2}
    assert "ExpirationInDays" not in everywhere


@pytest.mark.parametrize("stage", STAGES)
def test_every_bucket_denies_insecure_requests(templates: Templates, stage: str) -> None:
    """Each bucket has a policy that denies requests without TLS."""
    for stack in ("data", f"api-{HOME}", f"api-{AWAY}"):
        policies = {
            each["Bucket"]: each["PolicyDocument"]["Statement"]
            for each in templates.properties(stage, stack, "AWS::S3::BucketPolicy")
        }
        assert set(policies) == set(buckets(templates, stage, stack))
        for name, statements in policies.items():
            (denied,) = [each for each in statements if each["Effect"] == "Deny"]
            assert denied["Resource"] == [f"arn:aws:s3:::{name}", f"arn:aws:s3:::{name}/*"]
            assert denied["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize(
    ("rule_id", "queue", "pattern"),
    [
        ("DoneFileRule", "DoneFiles", done_file_pattern),
        ("ModelEventsRule", "ModelEvents", model_events_pattern),
    ],
)
def test_events_go_to_their_queue_or_dead_letters(
    templates: Templates, stage: str, rule_id: str, queue: str, pattern: Callable[[Deployment], Any]
) -> None:
    """Undeliverable events become dead letters, which are kept longer than the messages of the queue."""
    rule = templates.found(stage, "data", "AWS::Events::Rule")[rule_id]["Properties"]
    assert rule["EventPattern"] == pattern(SETTINGS[stage].deployment())
    (target,) = rule["Targets"]
    assert target["Arn"] == {"Fn::GetAtt": [queue, "Arn"]}
    dead = {"Fn::GetAtt": ["DeadLetters", "Arn"]}
    assert target["DeadLetterConfig"] == {"Arn": dead}
    queues = templates.found(stage, "data", "AWS::SQS::Queue")
    assert queues[queue]["Properties"]["RedrivePolicy"]["deadLetterTargetArn"] == dead
    kept = {name: each["Properties"]["MessageRetentionPeriod"] for name, each in queues.items()}
    assert kept["DeadLetters"] > kept[queue]


@pytest.mark.parametrize("stage", STAGES)
def test_templates_contain_no_secret(templates: Templates, stage: str) -> None:
    """No secret has a value in the templates, and users cannot sign up for tokens themselves."""
    for stack in ("data", "orchestration"):
        for each in templates.properties(stage, stack, "AWS::SecretsManager::Secret"):
            assert "SecretString" not in each
    client = templates.one(stage, "data", "AWS::Cognito::UserPoolClient")
    assert client["AllowedOAuthFlows"] == ["client_credentials"]
    assert client["AllowedOAuthScopes"] == [SETTINGS[stage].deployment().read_scope]
    pool = templates.one(stage, "data", "AWS::Cognito::UserPool")
    assert pool["AdminCreateUserConfig"] == {"AllowAdminCreateUserOnly": True}
    assert pool["DeletionProtection"] == "ACTIVE"
