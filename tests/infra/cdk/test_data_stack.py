"""What keeps data is configured as it must be: the emulator drops most of this, so the template says it."""

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
def test_every_model_has_a_table_that_expires_and_is_replicated(templates: Templates, stage: str) -> None:
    """Registry and predictions: on demand, restorable, protected, and the same in both regions."""
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
def test_the_data_bucket_is_private_versioned_encrypted_and_tells_of_objects(
    templates: Templates, stage: str
) -> None:
    """By the stage's own key; nobody gets in without TLS, and reads are logged."""
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
def test_no_rule_expires_what_a_batch_consists_of(templates: Templates, stage: str) -> None:
    """Each prefix has its own rule; manifests, models and predictions are never taken by one."""
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
def test_every_bucket_and_queue_refuses_what_comes_without_tls(templates: Templates, stage: str) -> None:
    """A statement that denies, for everybody and every action, on the bucket and its objects."""
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
    for each in templates.properties(stage, "data", "AWS::SQS::QueuePolicy"):
        assert [s["Effect"] for s in each["PolicyDocument"]["Statement"]].count("Deny") == 1


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize(
    ("rule_id", "queue", "pattern"),
    [
        ("DoneFileRule", "DoneFiles", done_file_pattern),
        ("ModelEventsRule", "ModelEvents", model_events_pattern),
    ],
)
def test_events_go_to_their_queue_and_else_to_dead_letters(
    templates: Templates, stage: str, rule_id: str, queue: str, pattern: Callable[[Deployment], Any]
) -> None:
    """What the rule cannot deliver is kept as well; a dead letter outlives the queue it came from."""
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
def test_no_secret_stands_in_a_template(templates: Templates, stage: str) -> None:
    """A secret is empty until a person fills it, or made by Secrets Manager."""
    for stack in ("data", "orchestration"):
        for each in templates.properties(stage, stack, "AWS::SecretsManager::Secret"):
            assert "SecretString" not in each
    client = templates.one(stage, "data", "AWS::Cognito::UserPoolClient")
    assert client["AllowedOAuthFlows"] == ["client_credentials"]
    assert client["AllowedOAuthScopes"] == [SETTINGS[stage].deployment().read_scope]
    pool = templates.one(stage, "data", "AWS::Cognito::UserPool")
    assert pool["AdminCreateUserConfig"] == {"AllowAdminCreateUserOnly": True}
    assert pool["DeletionProtection"] == "ACTIVE"
