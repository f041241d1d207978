"""Tests of the policies of buckets, queues, topics and the data key, statement by statement."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.infra.cdk.templates import AWAY, HOME, STACKS, STAGES
from tests.infra.example_stages import STAGES as SETTINGS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.infra.cdk.templates import Templates

API = [(stage, region) for stage in STAGES for region in (HOME, AWAY)]
TLS = {"Bool": {"aws:SecureTransport": "false"}}
# The condition keys that each service is documented to send to a type of resource.
# A statement that compares another key never matches, and no error shows it.
SENT_KEYS: dict[tuple[str, str], set[str]] = {
    ("AWS::IAM::Role", "codedeploy"): {"aws:SourceAccount"},
    ("AWS::IAM::Role", "ecs-tasks"): {"aws:SourceAccount"},
    ("AWS::IAM::Role", "glue"): {"aws:SourceAccount"},
    ("AWS::IAM::Role", "sagemaker"): {"aws:SourceAccount"},
    ("AWS::IAM::Role", "scheduler"): {"aws:SourceAccount"},
    ("AWS::Lambda::Permission", "elasticloadbalancing"): {"aws:SourceAccount", "aws:SourceArn"},
    ("AWS::S3::BucketPolicy", "delivery.logs"): {"aws:SourceAccount", "aws:SourceArn"},
    ("AWS::S3::BucketPolicy", "logging.s3"): {"aws:SourceAccount", "aws:SourceArn"},
    ("AWS::SNS::TopicPolicy", "budgets"): {"aws:SourceAccount", "aws:SourceArn"},
    ("AWS::SNS::TopicPolicy", "cloudwatch"): {"aws:SourceAccount", "aws:SourceArn"},
    # EventBridge supports no condition in the policy of a topic.
    # https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-use-resource-based.html
    ("AWS::SNS::TopicPolicy", "events"): set(),
    ("AWS::SQS::QueuePolicy", "events"): {"aws:SourceArn"},
}
POLICIES = ("PolicyDocument", "AssumeRolePolicyDocument", "KeyPolicy", "RepositoryPolicyText")


def admitted(templates: Templates, stage: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield type of resource, service and statement for each policy of a stage that admits a service."""
    for stack in STACKS:
        for resource in templates.template(stage, stack)["Resources"].values():
            kind, properties = resource["Type"], resource.get("Properties", {})
            if kind == "AWS::Lambda::Permission":
                named = {
                    f"aws:{key}": properties[key]
                    for key in ("SourceAccount", "SourceArn")
                    if key in properties
                }
                statement = {"Condition": {"StringEquals": named}} if named else {}
                yield kind, properties["Principal"].removesuffix(".amazonaws.com"), statement
            for policy in POLICIES:
                for statement in properties.get(policy, {}).get("Statement", []):
                    principal = statement.get("Principal", {})
                    services = principal.get("Service", []) if isinstance(principal, dict) else []
                    for service in [services] if isinstance(services, str) else services:
                        yield kind, service.removesuffix(".amazonaws.com"), statement


@pytest.mark.parametrize("stage", STAGES)
def test_conditions_compare_only_keys_that_services_send(templates: Templates, stage: str) -> None:
    """A condition on a key that the service does not send would refuse it without an error."""
    found = list(admitted(templates, stage))
    assert {("AWS::SNS::TopicPolicy", "events"), ("AWS::SQS::QueuePolicy", "events")} <= {
        (kind, service) for kind, service, _ in found
    }
    for kind, service, statement in found:
        compared = {key for keys in statement.get("Condition", {}).values() for key in keys}
        assert compared <= SENT_KEYS.get((kind, service), set()), (kind, service)


@pytest.mark.parametrize("stage", STAGES)
def test_topics_and_queues_use_no_kms_key(templates: Templates, stage: str) -> None:
    """Topics and queues use no KMS key, because its policy would have to admit each service that writes."""
    for stack in STACKS:
        for kind in ("AWS::SNS::Topic", "AWS::SQS::Queue"):
            for each in templates.properties(stage, stack, kind):
                assert "KmsMasterKeyId" not in each


def statements(properties: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a policy's statements without their Sids."""
    document = properties["PolicyDocument"]
    assert document["Version"] == "2012-10-17"
    return [{key: value for key, value in each.items() if key != "Sid"} for each in document["Statement"]]


def allowed(service: str, actions: str | list[str], resource: str | list[str], **condition: Any) -> Any:
    """Return the statement that lets a service of AWS do something."""
    found: dict[str, Any] = {
        "Effect": "Allow",
        "Principal": {"Service": f"{service}.amazonaws.com"},
        "Action": actions,
        "Resource": resource,
    }
    return {**found, "Condition": condition} if condition else found


def denied(action: str, resource: str | list[str]) -> dict[str, Any]:
    """Return the statement that denies everyone requests without TLS."""
    return {"Effect": "Deny", "Principal": "*", "Action": action, "Resource": resource, "Condition": TLS}


def bucket_policies(templates: Templates, stage: str, stack: str) -> dict[str, list[dict[str, Any]]]:
    """Return the statements of a stack's bucket policies by bucket."""
    found = templates.properties(stage, stack, "AWS::S3::BucketPolicy")
    return {each["Bucket"]: statements(each) for each in found}


@pytest.mark.parametrize("stage", STAGES)
def test_only_the_account_controls_the_data_key(templates: Templates, stage: str) -> None:
    """The key's policy leaves the decision to the account's roles and names no other principal."""
    (statement,) = templates.one(stage, "data", "AWS::KMS::Key")["KeyPolicy"]["Statement"]
    root = f"arn:aws:iam::{SETTINGS[stage].account_id}:root"
    assert (statement["Effect"], statement["Principal"]) == ("Allow", {"AWS": root})
    assert (statement["Action"], statement["Resource"]) == ("kms:*", "*")
    assert templates.one(stage, "data", "AWS::KMS::Alias")["TargetKeyId"] == {"Ref": "DataKey"}


@pytest.mark.parametrize("stage", STAGES)
def test_only_services_of_this_account_write_logs(templates: Templates, stage: str) -> None:
    """S3 and flow logs may write to the logs bucket, and no service to the data bucket."""
    deployment = SETTINGS[stage].deployment()
    data, logs = deployment.data_bucket_arn, f"arn:aws:s3:::{deployment.logs_bucket}"
    mine = {"StringEquals": {"aws:SourceAccount": SETTINGS[stage].account_id}}
    assert bucket_policies(templates, stage, "data") == {
        deployment.data_bucket: [denied("s3:*", [data, f"{data}/*"])],
        deployment.logs_bucket: [
            denied("s3:*", [logs, f"{logs}/*"]),
            allowed(
                "logging.s3",
                "s3:PutObject",
                f"{logs}/data-bucket-access/*",
                **mine,
                ArnLike={"aws:SourceArn": data},
            ),
            allowed("delivery.logs", "s3:PutObject", f"{logs}/*", **mine),
            allowed("delivery.logs", ["s3:GetBucketAcl", "s3:ListBucket"], logs, **mine),
        ],
    }
    flows = templates.one(stage, "orchestration", "AWS::EC2::FlowLog")
    assert flows["LogDestination"].startswith(f"{logs}/")
    assert (flows["ResourceType"], flows["TrafficType"]) == ("VPC", "ALL")


@pytest.mark.parametrize(("stage", "region"), API)
def test_load_balancer_may_write_both_of_its_logs(templates: Templates, stage: str, region: str) -> None:
    """The load balancer may write where its attributes say, and is created after that policy."""
    stack, deployment = f"api-{region}", SETTINGS[stage].deployment(region)
    arn = f"arn:aws:s3:::{deployment.api_logs_bucket}"
    (balancer,) = templates.found(stage, stack, "AWS::ElasticLoadBalancingV2::LoadBalancer").values()
    balancer_attributes = {
        each["Key"]: each["Value"] for each in balancer["Properties"]["LoadBalancerAttributes"]
    }
    kinds = ("access_logs", "connection_logs")
    assert {balancer_attributes[f"{kind}.s3.bucket"] for kind in kinds} == {deployment.api_logs_bucket}
    places = [
        f"{arn}/{balancer_attributes[f'{kind}.s3.prefix']}/AWSLogs/{deployment.account_id}/*"
        for kind in kinds
    ]
    assert bucket_policies(templates, stage, stack)[deployment.api_logs_bucket] == [
        denied("s3:*", [arn, f"{arn}/*"]),
        allowed("logdelivery.elasticloadbalancing", "s3:PutObject", places),
    ]
    assert "AccessLogsPolicy" in balancer["DependsOn"]


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("stack", ["data", f"api-{HOME}", f"api-{AWAY}"])
def test_no_bucket_can_be_public(templates: Templates, stage: str, stack: str) -> None:
    """Every bucket blocks public access and is encrypted and versioned, the data bucket with KMS."""
    for bucket in templates.properties(stage, stack, "AWS::S3::Bucket"):
        assert bucket["PublicAccessBlockConfiguration"] == dict.fromkeys(
            ("BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets"), True
        )
        assert bucket["OwnershipControls"] == {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}
        assert bucket["VersioningConfiguration"] == {"Status": "Enabled"}
        (rule,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
        is_data = bucket["BucketName"] == SETTINGS[stage].deployment().data_bucket
        algorithm = rule["ServerSideEncryptionByDefault"]["SSEAlgorithm"]
        assert algorithm == ("aws:kms" if is_data else "AES256")
        assert {each["Status"] for each in bucket["LifecycleConfiguration"]["Rules"]} == {"Enabled"}


@pytest.mark.parametrize("stage", STAGES)
def test_queues_admit_only_their_own_rules(templates: Templates, stage: str) -> None:
    """Each queue admits its own rule, and the dead letters both, or else undelivered events were lost."""
    deployment = SETTINGS[stage].deployment()
    found = {
        each["Queues"][0]["Ref"]: statements(each)
        for each in templates.properties(stage, "data", "AWS::SQS::QueuePolicy")
    }
    arns = {
        "DoneFiles": deployment.done_file_queue_arn,
        "ModelEvents": deployment.model_events_queue_arn,
        "DeadLetters": deployment.dead_letter_queue_arn,
    }
    done_files, model_events = deployment.done_file_rule_arn, deployment.model_events_rule_arn
    senders = {
        "DoneFiles": [done_files],
        "ModelEvents": [model_events],
        "DeadLetters": [done_files, model_events],
    }
    assert found == {
        name: [
            *(
                allowed("events", "sqs:SendMessage", arn, ArnEquals={"aws:SourceArn": rule})
                for rule in senders[name]
            ),
            denied("sqs:*", [arn]),
        ]
        for name, arn in arns.items()
    }
    rules = templates.properties(stage, "data", "AWS::Events::Rule")
    assert {each["Name"] for each in rules} == {deployment.done_file_rule, deployment.model_events_rule}
    queues = templates.properties(stage, "data", "AWS::SQS::Queue")
    assert {each["QueueName"] for each in queues} == {arn.rpartition(":")[2] for arn in arns.values()}
    assert all(each["SqsManagedSseEnabled"] for each in queues)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("stack", ["observability", f"api-{HOME}", f"api-{AWAY}"])
def test_alarm_topics_admit_only_known_services(templates: Templates, stage: str, stack: str) -> None:
    """Only CloudWatch, budgets and event rules may publish, and alarms are mailed to the stage."""
    settings = SETTINGS[stage]
    is_api = stack.startswith("api-")
    deployment = settings.deployment(stack.removeprefix("api-") if is_api else None)
    arn = deployment.api_alarm_topic_arn if is_api else deployment.alarm_topic_arn
    services = ["cloudwatch"] if is_api else ["cloudwatch", "budgets"]
    topic = templates.one(stage, stack, "AWS::SNS::Topic")
    assert topic["TopicName"] == arn.rpartition(":")[2]
    policy = templates.one(stage, stack, "AWS::SNS::TopicPolicy")
    assert policy["Topics"] == [{"Ref": "AlarmTopic"}]
    sending, refusing, *from_rules = statements(policy)
    assert sending == {
        **allowed("", "sns:Publish", arn, StringEquals={"aws:SourceAccount": settings.account_id}),
        "Principal": {"Service": [f"{service}.amazonaws.com" for service in services]},
    }
    assert refusing == denied("sns:Publish", arn)
    assert from_rules == ([] if is_api else [allowed("events", "sns:Publish", arn)])
    subscription = templates.one(stage, stack, "AWS::SNS::Subscription")
    assert (subscription["Protocol"], subscription["Endpoint"]) == ("email", settings.alarm_address)
    assert subscription["TopicArn"] == {"Ref": "AlarmTopic"}
