"""Provisioning the local stack is complete and repeatable, and repairs manual changes."""

from __future__ import annotations

import dataclasses
import json
import logging
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from infra.code_upload import RETENTION_DAYS, SHARED_LOG_GROUPS, create_shared_log_groups
from infra.definitions import resource_definitions
from infra.local.provisioning import ProvisioningError
from infra.local.provisioning.clients import Clients
from infra.local.provisioning.provisioned_jobs import local_trust
from infra.local.provisioning.provisioned_storage import ensure_table
from infra.permissions import policy_statements, role_definitions
from infra.permissions.source_rights import source_statements
from infra.provisioned_models import provisioned_models
from model_declaration.declared_models import deployable_names
from prediction_contract.naming.resource_names import PROCESSING_LOG_GROUP
from tests.infra.job_executor.job_stack import http
from tests.infra.local_servers import DEPLOYMENT, drain, provision_on, receive
from tests.projects import EXAMPLE

if TYPE_CHECKING:
    from tests.infra.local_servers import LocalServers

pytestmark = pytest.mark.stack
LOGGER = "infra.local.provisioning"


def snapshot(clients: Clients) -> dict[str, Any]:
    """Return everything provisioned, without times and request ids."""
    dynamodb, sqs, iam = (clients.client(name) for name in ("dynamodb", "sqs", "iam"))
    events, cognito = clients.client("events"), clients.client("cognito-idp")
    queues = sorted(sqs.list_queues()["QueueUrls"])
    attributes = [
        sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"] for url in queues
    ]
    table = dynamodb.describe_table(TableName=DEPLOYMENT.registry_table)["Table"]
    pools = cognito.list_user_pools(MaxResults=60)["UserPools"]
    clients_of_pools = [
        client
        for pool in pools
        for client in cognito.list_user_pool_clients(UserPoolId=pool["Id"])["UserPoolClients"]
    ]
    return {
        "buckets": [bucket["Name"] for bucket in clients.client("s3").list_buckets()["Buckets"]],
        "tables": dynamodb.list_tables()["TableNames"],
        "table": (table["TableId"], table["KeySchema"], table["BillingModeSummary"]["BillingMode"]),
        "queues": queues,
        "attributes": [
            {name: found.get(name) for name in ("VisibilityTimeout", "RedrivePolicy", "Policy", "QueueArn")}
            for found in attributes
        ],
        "rules": [rule["Name"] for rule in events.list_rules()["Rules"]],
        "targets": [
            events.list_targets_by_rule(Rule=rule)["Targets"]
            for rule in (DEPLOYMENT.done_file_rule, DEPLOYMENT.model_events_rule)
        ],
        "roles": sorted((role["RoleName"], role["RoleId"]) for role in iam.list_roles()["Roles"]),
        "pools": [pool["Id"] for pool in pools],
        "clients": [client["ClientId"] for client in clients_of_pools],
        "jobs": [job["Name"] for job in clients.client("glue").get_jobs()["Jobs"]],
        "pipelines": clients.client("sagemaker").list_pipelines()["PipelineSummaries"],
        "groups": clients.client("sagemaker").list_model_package_groups()["ModelPackageGroupSummaryList"],
        "secrets": sorted(
            (secret["Name"], sorted(secret.get("SecretVersionsToStages", {})))
            for secret in clients.client("secretsmanager").list_secrets()["SecretList"]
        ),
    }


def test_provisioning_again_changes_nothing(
    local_servers: LocalServers, clients: Clients, caplog: pytest.LogCaptureFixture
) -> None:
    """A second run creates and logs no change and returns the same variables."""
    first = provision_on(local_servers)
    before = snapshot(clients)
    with caplog.at_level(logging.INFO, logger=LOGGER):
        second = provision_on(local_servers)

    assert second == first
    assert snapshot(clients) == before
    said = [record.getMessage() for record in caplog.records if record.name.startswith(LOGGER)]
    assert [line for line in said if line.startswith(("created", "set", "gave", "turned"))] == []


def test_lost_create_response_is_recovered(
    local_servers: LocalServers, clients: Clients, variables: dict[str, str]
) -> None:
    """The client's retry is refused because the resource exists, and provisioning then finds it."""
    sagemaker = clients.client("sagemaker")
    group = sagemaker.list_model_package_groups()["ModelPackageGroupSummaryList"][0]["ModelPackageGroupName"]
    sagemaker.delete_model_package_group_policy(ModelPackageGroupName=group)
    sagemaker.delete_model_package_group(ModelPackageGroupName=group)
    fault = {"service": "sagemaker", "operation": "CreateModelPackageGroup", "lost_answer": True}
    header = {"Content-Type": "application/json"}
    status, _ = http("POST", f"{local_servers.jobs}/_executor/faults", json.dumps(fault).encode(), **header)
    assert status < 300

    assert provision_on(local_servers) == variables

    assert sagemaker.get_model_package_group_policy(ModelPackageGroupName=group)["ResourcePolicy"]


def test_resources_have_the_deployment_names(clients: Clients, variables: dict[str, str]) -> None:
    """Every resource has the name that product code looks up."""
    found = snapshot(clients)

    assert DEPLOYMENT.data_bucket in found["buckets"]
    assert DEPLOYMENT.registry_table in found["tables"]
    assert {DEPLOYMENT.online_table(model) for model in deployable_names(EXAMPLE.defs)} <= set(
        found["tables"]
    )
    assert [url.rsplit("/", 1)[1] for url in found["queues"]] == [
        DEPLOYMENT.done_file_queue,
        DEPLOYMENT.dead_letter_queue,
        DEPLOYMENT.model_events_queue,
    ]
    assert DEPLOYMENT.load_job in found["jobs"]
    assert [name for name, _ in found["roles"]] == sorted(DEPLOYMENT.roles)
    assert {DEPLOYMENT.snowflake_secret, DEPLOYMENT.token_client_secret} == {
        name for name, _ in found["secrets"]
    }
    assert variables["MLPIPE_DATA_BUCKET"] == DEPLOYMENT.data_bucket
    assert (variables["MLPIPE_STAGE"], variables["MLPIPE_ACCOUNT_ID"]) == ("local", "000000000000")


def test_variables_contain_no_client_secret(clients: Clients, variables: dict[str, str]) -> None:
    """The token client's secret stays in Secrets Manager; the variables only name it."""
    secrets = clients.client("secretsmanager")
    stored = secrets.get_secret_value(SecretId=variables["MLPIPE_TOKEN_CLIENT_SECRET_NAME"])["SecretString"]
    client = json.loads(stored)

    assert client["client_id"] == variables["MLPIPE_TOKEN_CLIENT_ID"]
    assert client["client_secret"] not in variables.values()


def test_sagemaker_log_groups_have_retention(clients: Clients, variables: dict[str, str]) -> None:
    """Log groups are created with a retention; an existing group without one is reported and unchanged."""
    assert variables
    logs = clients.client("logs")

    def kept() -> dict[str, int | None]:
        found = logs.describe_log_groups(logGroupNamePrefix="/aws/sagemaker/")["logGroups"]
        return {each["logGroupName"]: each.get("retentionInDays") for each in found}

    assert kept() == dict.fromkeys(SHARED_LOG_GROUPS, RETENTION_DAYS)
    assert create_shared_log_groups(logs) == ()
    logs.delete_log_group(logGroupName=PROCESSING_LOG_GROUP)
    logs.create_log_group(logGroupName=PROCESSING_LOG_GROUP)
    try:
        assert create_shared_log_groups(logs) == (PROCESSING_LOG_GROUP,)
        assert kept()[PROCESSING_LOG_GROUP] is None
    finally:
        logs.put_retention_policy(logGroupName=PROCESSING_LOG_GROUP, retentionInDays=RETENTION_DAYS)


def test_changed_queue_is_repaired(
    local_servers: LocalServers, clients: Clients, variables: dict[str, str]
) -> None:
    """Attributes changed by hand are restored, and a waiting message is kept."""
    sqs = clients.client("sqs")
    url = variables["MLPIPE_DONE_QUEUE_URL"]
    drain(sqs, url)
    body = uuid.uuid4().hex
    sqs.send_message(QueueUrl=url, MessageBody=body)
    arn = DEPLOYMENT.dead_letter_queue_arn
    redrive = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 999})
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": "1", "RedrivePolicy": redrive})

    provision_on(local_servers)

    found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    definition = resource_definitions.done_file_queue(DEPLOYMENT)
    assert found["VisibilityTimeout"] == str(definition.visibility_timeout_seconds)
    assert int(json.loads(found["RedrivePolicy"])["maxReceiveCount"]) == definition.max_receives
    assert [message["Body"] for message in receive(sqs, url)] == [body]


def test_changed_registry_is_repaired_and_keeps_items(
    local_servers: LocalServers, clients: Clients, variables: dict[str, str]
) -> None:
    """Recovery and deletion protection are enabled again, and the items are unchanged."""
    dynamodb = clients.client("dynamodb")
    name = variables["MLPIPE_REGISTRY_TABLE"]
    key = {"model": {"S": "kept"}, "record": {"S": "publication#1"}}
    dynamodb.put_item(TableName=name, Item=key)
    dynamodb.update_continuous_backups(
        TableName=name, PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": False}
    )
    dynamodb.update_table(TableName=name, DeletionProtectionEnabled=False)

    provision_on(local_servers)

    backups = dynamodb.describe_continuous_backups(TableName=name)["ContinuousBackupsDescription"]
    assert backups["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"] == "ENABLED"
    assert dynamodb.describe_table(TableName=name)["Table"]["DeletionProtectionEnabled"] is True
    assert dynamodb.get_item(TableName=name, Key=key)["Item"] == key
    dynamodb.delete_item(TableName=name, Key=key)


def test_online_table_has_its_keys_and_ttl(clients: Clients) -> None:
    """A model's table has the defined keys, and its TTL is enabled again if it was turned off."""
    dynamodb = clients.client("dynamodb")
    table = resource_definitions.online_table(DEPLOYMENT, f"m{uuid.uuid4().hex}")
    ensure_table(dynamodb, table)
    off = {"AttributeName": "expires_at", "Enabled": False}
    dynamodb.update_time_to_live(TableName=table.name, TimeToLiveSpecification=off)

    ensure_table(dynamodb, table)

    keys = dynamodb.describe_table(TableName=table.name)["Table"]["KeySchema"]
    assert [(key["AttributeName"], key["KeyType"]) for key in keys] == [
        ("entity_id", "HASH"),
        ("batch_id", "RANGE"),
    ]
    expiry = dynamodb.describe_time_to_live(TableName=table.name)["TimeToLiveDescription"]
    assert (expiry["TimeToLiveStatus"], expiry["AttributeName"]) == ("ENABLED", "expires_at")


def test_table_with_wrong_keys_is_reported_and_kept(clients: Clients) -> None:
    """Keys cannot be changed and data is never deleted, so a person has to decide."""
    dynamodb = clients.client("dynamodb")
    table = resource_definitions.online_table(DEPLOYMENT, f"m{uuid.uuid4().hex}")
    ensure_table(dynamodb, dataclasses.replace(table, sort_key="partition"))

    with pytest.raises(ProvisioningError, match=r"partition S.*batch_id S.*delete the table"):
        ensure_table(dynamodb, table)

    assert dynamodb.describe_table(TableName=table.name)["Table"]["TableStatus"] == "ACTIVE"


@pytest.mark.usefixtures("variables")
def test_changed_role_is_repaired(local_servers: LocalServers, clients: Clients) -> None:
    """Trust and permissions that were widened by hand are restored."""
    iam = clients.client("iam")
    name = DEPLOYMENT.api_role
    allow = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [allow]})
    trust = {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}
    iam.put_role_policy(RoleName=name, PolicyName=policy_statements.POLICY_NAME, PolicyDocument=policy)
    iam.update_assume_role_policy(
        RoleName=name, PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    )

    provision_on(local_servers)

    definition = role_definitions.api_role(DEPLOYMENT)
    found = iam.get_role_policy(RoleName=name, PolicyName=policy_statements.POLICY_NAME)
    assert found["PolicyDocument"] == definition.policy()
    assert iam.get_role(RoleName=name)["Role"]["AssumeRolePolicyDocument"] == local_trust(
        definition, DEPLOYMENT.account_id
    )


# The rights on the example's sources are part of the jobs' role.
SOURCES = source_statements(DEPLOYMENT, [model.inputs for model in provisioned_models(EXAMPLE)])
ROLES = role_definitions.all_roles(DEPLOYMENT, SOURCES)


@pytest.mark.parametrize("definition", ROLES, ids=lambda role: role.name)
@pytest.mark.usefixtures("variables")
def test_every_role_has_its_policies(clients: Clients, definition: policy_statements.RoleDefinition) -> None:
    """Each role has the trust and the permissions of its definition."""
    iam = clients.client("iam")
    role = iam.get_role(RoleName=definition.name)["Role"]
    policy = iam.get_role_policy(RoleName=definition.name, PolicyName=policy_statements.POLICY_NAME)

    assert role["Arn"] == DEPLOYMENT.role_arn(definition.name)
    assert role["AssumeRolePolicyDocument"] == local_trust(definition, DEPLOYMENT.account_id)
    assert policy["PolicyDocument"] == definition.policy()


PREDICTIONS = DEPLOYMENT.online_table_arn("flight_delay")
DONE_FILE = f"{DEPLOYMENT.data_bucket_arn}/done/2013-02-01/flight_delay/b.json"


@pytest.mark.parametrize(
    ("role", "action", "resource", "decision"),
    [
        (DEPLOYMENT.api_role, "dynamodb:GetItem", PREDICTIONS, "allowed"),
        (DEPLOYMENT.api_role, "dynamodb:GetItem", DEPLOYMENT.registry_table_arn, "allowed"),
        (DEPLOYMENT.api_role, "dynamodb:PutItem", PREDICTIONS, "implicitDeny"),
        (DEPLOYMENT.api_role, "s3:GetObject", DONE_FILE, "implicitDeny"),
        (DEPLOYMENT.glue_load_role, "dynamodb:BatchWriteItem", PREDICTIONS, "allowed"),
        (DEPLOYMENT.glue_load_role, "s3:GetObject", DONE_FILE, "allowed"),
        (DEPLOYMENT.glue_load_role, "s3:PutObject", DONE_FILE, "implicitDeny"),
        (DEPLOYMENT.sagemaker_role, "s3:PutObject", DONE_FILE, "allowed"),
        (DEPLOYMENT.sagemaker_role, "dynamodb:UpdateItem", DEPLOYMENT.registry_table_arn, "implicitDeny"),
        (DEPLOYMENT.dagster_run_role, "glue:StartJobRun", DEPLOYMENT.load_job_arn, "allowed"),
        (DEPLOYMENT.dagster_run_role, "dynamodb:BatchWriteItem", PREDICTIONS, "implicitDeny"),
        (DEPLOYMENT.dagster_daemon_role, "sqs:ReceiveMessage", DEPLOYMENT.done_file_queue_arn, "allowed"),
        (DEPLOYMENT.dagster_daemon_role, "glue:StartJobRun", DEPLOYMENT.load_job_arn, "implicitDeny"),
    ],
)
@pytest.mark.usefixtures("variables")
def test_role_allows_only_its_own_work(
    clients: Clients, role: str, action: str, resource: str, decision: str
) -> None:
    """IAM's own simulator allows a role's work and denies the work of other roles."""
    answer = clients.client("iam").simulate_principal_policy(
        PolicySourceArn=DEPLOYMENT.role_arn(role), ActionNames=[action], ResourceArns=[resource]
    )

    assert [result["EvalDecision"] for result in answer["EvaluationResults"]] == [decision]


def test_changed_glue_job_is_repaired(
    local_servers: LocalServers, clients: Clients, variables: dict[str, str]
) -> None:
    """A changed timeout is restored, and so are the settings that the change removed."""
    glue = clients.client("glue")
    name = variables["MLPIPE_LOAD_JOB"]
    archive = glue.get_job(JobName=name)["Job"]["DefaultArguments"]["--extra-py-files"].partition("/code/")[2]
    wanted = resource_definitions.load_job(DEPLOYMENT, code_archive_key=f"code/{archive}").job_update()
    drifted = {"Role": wanted["Role"], "Command": wanted["Command"], "Timeout": 5}
    glue.update_job(JobName=name, JobUpdate=drifted)

    provision_on(local_servers)

    job = glue.get_job(JobName=name)["Job"]
    assert {setting: job.get(setting) for setting in wanted} == wanted
