"""The resources of the platform, as data for both local provisioning and the CDK app.

Nothing here calls AWS or imports its SDK. Names come from `prediction_contract.naming.resource_names`, and
roles from `infra.permissions.role_definitions`.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Literal

from infra.glue_wheels import wheels_digest
from prediction_contract.naming.resource_names import READ_SCOPE
from prediction_contract.naming.s3_layout import PIPES_PREFIX

if TYPE_CHECKING:
    from prediction_contract.naming.resource_names import Deployment

# The types of EventBridge's events about model packages and about pipeline executions.
# https://docs.aws.amazon.com/sagemaker/latest/dg/automating-sagemaker-with-eventbridge.html
PACKAGE_CHANGE = "SageMaker Model Package State Change"
EXECUTION_CHANGE = "SageMaker Model Building Pipeline Execution Status Change"
# Matches every model and day: `done/<UTC date>/<model>/<batch_id>.json`.
DONE_FILE_WILDCARD = "done/*/*/*.json"


@dataclasses.dataclass(frozen=True, slots=True)
class TableDefinition:
    """A DynamoDB table: on demand, restorable to a point in time, protected against deletion.

    Args:
        name: The table's name, the same in every region.
        partition_key: The partition key, an attribute of type S.
        sort_key: The sort key, an attribute of type S.
        ttl_attribute: The attribute with the epoch second of expiry, or `None` if items never expire.
    """

    name: str
    partition_key: str
    sort_key: str
    ttl_attribute: str | None = None
    billing_mode: Literal["PAY_PER_REQUEST"] = "PAY_PER_REQUEST"
    point_in_time_recovery: bool = True
    deletion_protection: bool = True


def registry_table(deployment: Deployment) -> TableDefinition:
    """Return the registry; its sort key `record` is `batch#<batch_id>`, `live#<region>` and others."""
    return TableDefinition(deployment.registry_table, partition_key="model", sort_key="record")


def online_table(deployment: Deployment, model: str) -> TableDefinition:
    """Return a model's table of predictions; items of superseded batches expire."""
    return TableDefinition(
        deployment.online_table(model),
        partition_key="entity_id",
        sort_key="batch_id",
        ttl_attribute="expires_at",
    )


@dataclasses.dataclass(frozen=True, slots=True)
class ExpiryRule:
    """The lifecycle of objects below a prefix.

    Args:
        name: The rule's name.
        prefix: The prefix, which ends in a slash.
        expire_after_days: Days after which objects are deleted; `None` for never.
        archive_after_days: Days after which objects move to S3 Intelligent-Tiering; `None` for never.
    """

    name: str
    prefix: str
    expire_after_days: int | None = None
    archive_after_days: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class BucketDefinition:
    """The data bucket: private, encrypted, owned by the account, with EventBridge events for every object.

    Args:
        name: The bucket's name.
        key_alias: The alias of the KMS key that encrypts it.
    """

    name: str
    key_alias: str
    event_bridge_enabled: bool = True
    block_public_access: bool = True
    # With a KMS key, S3 gives equal bytes a new ETag at each put.
    encryption: Literal["aws:kms"] = "aws:kms"
    # S3 asks KMS once for many objects instead of once for each.
    bucket_key_enabled: bool = True
    object_ownership: Literal["BucketOwnerEnforced"] = "BucketOwnerEnforced"
    # Delta and the scoring script upload in parts. The parts that a killed job leaves behind cost money.
    abort_multipart_after_days: int = 2
    # Objects that were overwritten or deleted by mistake can be restored for this long.
    old_versions_days: int = 30
    # No rule expires manifests, models and Delta files: later batches and Snowflake refer to them.
    expiry_rules: tuple[ExpiryRule, ...] = (
        # Messages between a killed run and its job; a run that adopts the job deletes them earlier.
        ExpiryRule("pipes-objects", PIPES_PREFIX, expire_after_days=7),
        ExpiryRule("compute-logs", "compute-logs/", expire_after_days=90),
        ExpiryRule("quarantine", "quarantine/", expire_after_days=180),
        ExpiryRule("reports", "reports/", expire_after_days=400),
        # Compared when it is written, and again when the outcomes are known with the next partition.
        ExpiryRule("shadow", "shadow/", expire_after_days=90),
        ExpiryRule("raw", "raw/", archive_after_days=60),
        ExpiryRule("features", "features/", archive_after_days=60),
        ExpiryRule("predictions", "predictions/", archive_after_days=60),
    )


def data_bucket(deployment: Deployment) -> BucketDefinition:
    """Return the definition of the data bucket."""
    return BucketDefinition(deployment.data_bucket, deployment.data_key_alias)


def done_file_pattern(deployment: Deployment) -> dict[str, Any]:
    """Return the EventBridge pattern that matches only the creation of done files."""
    return {
        "source": ["aws.s3"],
        "detail-type": ["Object Created"],
        "detail": {
            "bucket": {"name": [deployment.data_bucket]},
            "object": {"key": [{"wildcard": DONE_FILE_WILDCARD}]},
        },
    }


def model_events_pattern(deployment: Deployment) -> dict[str, Any]:
    """Return the EventBridge pattern of changed model packages and of retraining executions."""
    _, packages = deployment.model_packages_arn_patterns
    arns = (packages, deployment.retraining_pipelines_arn_pattern)
    return {
        "source": ["aws.sagemaker"],
        "detail-type": [PACKAGE_CHANGE, EXECUTION_CHANGE],
        # An event has the ARN of its package, or those of its pipeline and execution.
        "resources": [{"prefix": arn.removesuffix("*")} for arn in arns],
    }


@dataclasses.dataclass(frozen=True, slots=True)
class QueueDefinition:
    """An SQS queue, encrypted with SQS's own key.

    Args:
        name: The queue's name.
        visibility_timeout_seconds: How long a received message is hidden; twice the sensor's time limit.
        retention_seconds: How long an unread message is kept.
        dead_letter_queue: The queue for messages that reached `max_receives`, or `None`.
        max_receives: How often a message is received before SQS moves it to the dead-letter queue.
    """

    name: str
    visibility_timeout_seconds: int = 120
    retention_seconds: int = 14 * 24 * 3600
    dead_letter_queue: str | None = None
    max_receives: int = 5
    sse_managed: bool = True


def dead_letter_queue(deployment: Deployment) -> QueueDefinition:
    """Return the queue of messages that the sensor could not handle."""
    return QueueDefinition(deployment.dead_letter_queue)


def done_file_queue(deployment: Deployment) -> QueueDefinition:
    """Return the queue of done files."""
    return _sensor_queue(deployment, deployment.done_file_queue)


def model_events_queue(deployment: Deployment) -> QueueDefinition:
    """Return the queue of events about model packages and retraining executions."""
    return _sensor_queue(deployment, deployment.model_events_queue)


def _sensor_queue(deployment: Deployment, name: str) -> QueueDefinition:
    # A moved message keeps its age, so the dead-letter queue needs a longer retention.
    return QueueDefinition(
        name, retention_seconds=7 * 24 * 3600, dead_letter_queue=deployment.dead_letter_queue
    )


def queue_policy_statement(deployment: Deployment, queue_arn: str | None = None) -> dict[str, Any]:
    """Return the statement that lets only the done-file rule send to a queue, by default the rule's own."""
    return _rule_sends(
        "DoneFileRuleSends", deployment.done_file_rule_arn, queue_arn or deployment.done_file_queue_arn
    )


def model_events_policy_statement(deployment: Deployment, queue_arn: str | None = None) -> dict[str, Any]:
    """Return the statement that lets only the model-event rule send to a queue, by default the rule's own."""
    return _rule_sends(
        "ModelEventsRuleSends",
        deployment.model_events_rule_arn,
        queue_arn or deployment.model_events_queue_arn,
    )


def _rule_sends(sid: str, rule_arn: str, queue_arn: str) -> dict[str, Any]:
    return {
        "Sid": sid,
        "Effect": "Allow",
        "Principal": {"Service": "events.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": queue_arn,
        "Condition": {"ArnEquals": {"aws:SourceArn": rule_arn}},
    }


def package_group_policy(deployment: Deployment, model: str) -> dict[str, Any]:
    """Return the policy that denies all roles of the stage the right to change or delete a model's versions.

    The roles do not have this right now. The denial still holds if a role is granted it later.
    """
    group = deployment.model_package_group_arn(model)
    statement = {
        "Sid": "PeopleDecide",
        "Effect": "Deny",
        "Principal": {"AWS": f"arn:{deployment.partition}:iam::{deployment.account_id}:root"},
        "Action": ["sagemaker:UpdateModelPackage", "sagemaker:DeleteModelPackage"],
        "Resource": [group, f"{group.replace(':model-package-group/', ':model-package/')}/*"],
        "Condition": {"ArnLike": {"aws:PrincipalArn": deployment.roles_arn_pattern}},
    }
    return {"Version": "2012-10-17", "Statement": [statement]}


def tls_only_statement(service: Literal["s3", "sqs"], *resource_arns: str) -> dict[str, Any]:
    """Return the statement that denies requests without TLS. Only for AWS: the local stack uses HTTP."""
    return {
        "Sid": "TlsOnly",
        "Effect": "Deny",
        "Principal": "*",
        "Action": f"{service}:*",
        "Resource": list(resource_arns),
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }


@dataclasses.dataclass(frozen=True, slots=True)
class GlueJobDefinition:
    """The Glue job that loads batches: Spark, two workers, never retried by Glue itself.

    Dagster starts retries, because each attempt needs a new claim in the registry. The timeout is far shorter
    than any expiry margin, so a forgotten job run ends before it could do harm.
    """

    name: str
    role_arn: str
    script_location: str
    default_arguments: dict[str, str]
    glue_version: str = "5.1"
    worker_type: str = "G.1X"
    workers: int = 2
    timeout_minutes: int = 60
    max_concurrent_runs: int = 20
    max_retries: int = 0

    def job_update(self) -> dict[str, Any]:
        """Return Glue's `JobUpdate` document; `CreateJob` takes the same with `Name`."""
        return {
            "Role": self.role_arn,
            "Command": {"Name": "glueetl", "ScriptLocation": self.script_location, "PythonVersion": "3"},
            "DefaultArguments": dict(self.default_arguments),
            "ExecutionProperty": {"MaxConcurrentRuns": self.max_concurrent_runs},
            "GlueVersion": self.glue_version,
            "MaxRetries": self.max_retries,
            "NumberOfWorkers": self.workers,
            "Timeout": self.timeout_minutes,
            "WorkerType": self.worker_type,
        }


def load_job(
    deployment: Deployment,
    *,
    code_archive_key: str | None = None,
    code_urls: tuple[str, str] | None = None,
) -> GlueJobDefinition:
    """Return the load job.

    Args:
        deployment: The names and ARNs of the stage in its region.
        code_archive_key: The key of the packaged `glue_scripts` in the data bucket; `None` if the script runs
            from the checkout, as on the local stack.
        code_urls: The `s3://` addresses of script and package, if they are not in the data bucket.
    """
    bucket = deployment.data_bucket
    arguments = {
        "--job-language": "python",
        # All modules with their dependencies, each checked by its hash. Without a package index, a start
        # needs no other service, and all runs get the same bytes.
        "--additional-python-modules": f"s3://{bucket}/{deployment.glue_wheels_key(wheels_digest())}",
        "--python-modules-installer-option": "--no-index",
        "--enable-continuous-cloudwatch-log": "true",
        # Glue's default groups are shared by all jobs of the account, and their lines never expire.
        "--custom-logGroup-prefix": deployment.load_log_prefix,
        # AWS does not document the region in the environment of Spark's executors.
        "--aws_region": deployment.region,
        "--enable-metrics": "true",
    }
    if code_archive_key is not None:
        arguments["--extra-py-files"] = f"s3://{bucket}/{code_archive_key}"
    script = f"s3://{bucket}/{deployment.load_script_key}"
    if code_urls is not None:
        script, arguments["--extra-py-files"] = code_urls
    return GlueJobDefinition(
        name=deployment.load_job,
        role_arn=deployment.role_arn(deployment.glue_load_role),
        script_location=script,
        default_arguments=arguments,
    )


@dataclasses.dataclass(frozen=True, slots=True)
class TokenIssuerDefinition:
    """The Cognito pool, its resource server and its only client. It issues machine-to-machine tokens only."""

    pool: str
    domain: str
    resource_server: str
    scope_name: str
    scope_description: str
    client: str
    access_token_minutes: int = 60

    @property
    def scope(self) -> str:
        """The scope as it appears in tokens."""
        return f"{self.resource_server}/{self.scope_name}"

    def pool_settings(self) -> dict[str, Any]:
        """Return the pool's settings: no sign-up, and deletion protection."""
        return {"AdminCreateUserConfig": {"AllowAdminCreateUserOnly": True}, "DeletionProtection": "ACTIVE"}

    def resource_server_settings(self) -> dict[str, Any]:
        """Return the resource server's name and scopes."""
        scope = {"ScopeName": self.scope_name, "ScopeDescription": self.scope_description}
        return {"Name": self.resource_server, "Scopes": [scope]}

    def client_settings(self) -> dict[str, Any]:
        """Return the client's settings that can be updated after its creation."""
        return {
            "AllowedOAuthFlows": ["client_credentials"],
            "AllowedOAuthFlowsUserPoolClient": True,
            "AllowedOAuthScopes": [self.scope],
            "AccessTokenValidity": self.access_token_minutes,
            "TokenValidityUnits": {"AccessToken": "minutes"},
            "EnableTokenRevocation": True,
            "PreventUserExistenceErrors": "ENABLED",
        }


def token_issuer(deployment: Deployment) -> TokenIssuerDefinition:
    """Return the issuer of the API's tokens."""
    return TokenIssuerDefinition(
        pool=deployment.user_pool,
        domain=deployment.token_domain,
        resource_server=deployment.resource_server,
        scope_name=READ_SCOPE,
        scope_description="Read live predictions",
        client=deployment.token_client,
    )
