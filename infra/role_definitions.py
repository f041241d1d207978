"""Who may do what: the trust and the statements of every role, written out and as narrow as they can be.

Statements name single actions and the deployment's own resources. A star stands where AWS knows no narrower
resource (`ecr:GetAuthorizationToken`), where the rest of an ARN is AWS's own (a secret's suffix, a job run),
or where a new model must not change a policy (online tables).
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from prediction_contract.resource_names import (
    GLUE_ERROR_LOG_GROUP,
    GLUE_OUTPUT_LOG_GROUP,
    PROCESSING_LOG_GROUP,
    TRAINING_LOG_GROUP,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prediction_contract.resource_names import Deployment

Statement = dict[str, Any]
POLICY_VERSION = "2012-10-17"
POLICY_NAME = "permissions"


@dataclasses.dataclass(frozen=True, slots=True)
class RoleDefinition:
    """A role: who takes it on and what it may do.

    Args:
        name: The role's name.
        service: The AWS service that assumes it, say `glue.amazonaws.com`.
        account_id: The only account on whose behalf the service may, or `None` where the service does not
            send it (Lambda).
        statements: The statements of its one inline policy.
    """

    name: str
    service: str
    account_id: str | None
    statements: tuple[Statement, ...]

    def trust_policy(self) -> dict[str, Any]:
        """Return the trust policy document."""
        statement: Statement = {
            "Effect": "Allow",
            "Principal": {"Service": self.service},
            "Action": "sts:AssumeRole",
        }
        if self.account_id is not None:
            statement["Condition"] = {"StringEquals": {"aws:SourceAccount": self.account_id}}
        return {"Version": POLICY_VERSION, "Statement": [statement]}

    def policy(self) -> dict[str, Any]:
        """Return the permissions as one policy document."""
        return {"Version": POLICY_VERSION, "Statement": list(self.statements)}


def _allow(sid: str, actions: Sequence[str], resources: Sequence[str], **condition: Any) -> Statement:
    statement: Statement = {
        "Sid": sid,
        "Effect": "Allow",
        "Action": list(actions),
        "Resource": list(resources),
    }
    if condition:
        statement["Condition"] = condition
    return statement


def _objects(deployment: Deployment, *prefixes: str) -> list[str]:
    return [f"{deployment.data_bucket_arn}/{prefix}/*" for prefix in prefixes]


def _list_bucket(deployment: Deployment, *prefixes: str) -> Statement:
    patterns = [f"{prefix}/*" for prefix in prefixes]
    return _allow(
        "ListObjects",
        ["s3:ListBucket"],
        [deployment.data_bucket_arn],
        StringLike={"s3:prefix": patterns},
    )


def _log_streams(deployment: Deployment, *log_groups: str) -> list[str]:
    # IAM matches a group's own actions by its plain ARN and its streams' by `:*`.
    arns = [deployment.log_group_arn(group) for group in log_groups]
    return [form for arn in arns for form in (arn, f"{arn}:*")]


_WRITE_LOGS = ("logs:CreateLogStream", "logs:PutLogEvents")
# AWS creates the groups of Glue and SageMaker on a job's behalf, under the job's role.
_WRITE_JOB_LOGS = ("logs:CreateLogGroup", "logs:DescribeLogStreams", *_WRITE_LOGS)
_READ_TABLE = ("dynamodb:GetItem", "dynamodb:BatchGetItem", "dynamodb:Query")
# A transaction is authorised item by item, by the action that each item stands for.
_CHANGE_REGISTRY = (
    "dynamodb:GetItem",
    "dynamodb:Query",
    "dynamodb:PutItem",
    "dynamodb:UpdateItem",
    "dynamodb:ConditionCheckItem",
)


def glue_load_role(deployment: Deployment) -> RoleDefinition:
    """Return the load job's role: reads batches, writes online items, reports and quarantine."""
    return RoleDefinition(
        deployment.glue_load_role,
        "glue.amazonaws.com",
        deployment.account_id,
        (
            _allow(
                "ReadBatches",
                ["s3:GetObject"],
                _objects(deployment, "done", "predictions", "reports", "quarantine", "code", "pipes"),
            ),
            _allow(
                "LeaveReportAndQuarantine",
                ["s3:PutObject", "s3:AbortMultipartUpload"],
                _objects(deployment, "reports", "quarantine", "pipes"),
            ),
            _list_bucket(deployment, "done", "predictions", "reports", "quarantine", "code"),
            _allow(
                "WriteOnlineItems",
                [*_READ_TABLE, "dynamodb:BatchWriteItem", "dynamodb:DescribeTable"],
                [deployment.online_tables_arn_pattern],
            ),
            _allow("ConfirmClaimAndLoadState", _CHANGE_REGISTRY, [deployment.registry_table_arn]),
            _allow(
                "ReadSnowflakeConnection",
                ["secretsmanager:GetSecretValue"],
                [deployment.secret_arn_pattern(deployment.snowflake_secret)],
            ),
            _allow(
                "WriteLogs",
                _WRITE_JOB_LOGS,
                _log_streams(deployment, GLUE_OUTPUT_LOG_GROUP, GLUE_ERROR_LOG_GROUP),
            ),
            _allow(
                "WriteMetrics",
                ["cloudwatch:PutMetricData"],
                ["*"],
                StringEquals={"cloudwatch:namespace": "Glue"},
            ),
        ),
    )


def sagemaker_role(deployment: Deployment) -> RoleDefinition:
    """Return the role of feature preparation, scoring and training."""
    groups = f"arn:{deployment.partition}:sagemaker:{deployment.region}:{deployment.account_id}"
    own_groups = [
        f"{groups}:{kind}/mlpipe-{deployment.stage}-*" for kind in ("model-package-group", "model-package")
    ]
    written = ("features", "predictions", "done", "models")
    return RoleDefinition(
        deployment.sagemaker_role,
        "sagemaker.amazonaws.com",
        deployment.account_id,
        (
            _allow("ReadInputs", ["s3:GetObject"], _objects(deployment, "raw", "code", "pipes", *written)),
            _allow(
                "WriteOutputs",
                ["s3:PutObject", "s3:AbortMultipartUpload"],
                _objects(deployment, *written, "pipes"),
            ),
            _list_bucket(deployment, "raw", "code", *written),
            _allow(
                "FindPreviousBatch",
                ["dynamodb:GetItem", "dynamodb:Query"],
                [deployment.registry_table_arn],
            ),
            _allow(
                "RegisterModels",
                [
                    "sagemaker:CreateModelPackage",
                    "sagemaker:DescribeModelPackage",
                    "sagemaker:DescribeModelPackageGroup",
                ],
                own_groups,
            ),
            _allow("LogInToImageRegistry", ["ecr:GetAuthorizationToken"], ["*"]),
            _allow(
                "PullImage",
                ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
                [deployment.job_image_repository_arn],
            ),
            _allow(
                "WriteLogs",
                _WRITE_JOB_LOGS,
                _log_streams(deployment, PROCESSING_LOG_GROUP, TRAINING_LOG_GROUP),
            ),
            _allow(
                "WriteMetrics",
                ["cloudwatch:PutMetricData"],
                ["*"],
                StringLike={"cloudwatch:namespace": "/aws/sagemaker/*"},
            ),
        ),
    )


def api_role(deployment: Deployment) -> RoleDefinition:
    """Return the API's role: reads pointers, predictions and its providers' tokens; changes nothing."""
    return RoleDefinition(
        deployment.api_role,
        "lambda.amazonaws.com",
        None,
        (
            _allow(
                "ReadPointersAndPredictions",
                _READ_TABLE,
                [deployment.registry_table_arn, deployment.online_tables_arn_pattern],
            ),
            # Which models there are; the action knows no resource.
            _allow("ListOnlineTables", ["dynamodb:ListTables"], ["*"]),
            _allow(
                "ReadProviderTokens",
                ["secretsmanager:GetSecretValue"],
                [deployment.provider_secrets_arn_pattern],
            ),
            _allow("WriteLogs", _WRITE_LOGS, _log_streams(deployment, deployment.api_log_group)),
        ),
    )


def dagster_run_role(deployment: Deployment) -> RoleDefinition:
    """Return the role of a Dagster run: starts and watches jobs, checks both stores, moves the pointer."""
    jobs = f"arn:{deployment.partition}:sagemaker:{deployment.region}:{deployment.account_id}"
    read = ("done", "predictions", "reports", "quarantine", "features", "models")
    return RoleDefinition(
        deployment.dagster_run_role,
        "ecs-tasks.amazonaws.com",
        deployment.account_id,
        (
            _allow("ReadBatches", ["s3:GetObject"], _objects(deployment, *read, "pipes")),
            _list_bucket(deployment, *read, "pipes"),
            # What a job is told that does not fit into its arguments: its Pipes context, its schema.
            _allow("TellJobs", ["s3:PutObject"], _objects(deployment, "pipes", "models")),
            _allow("TidyUp", ["s3:DeleteObject"], _objects(deployment, "pipes")),
            _allow(
                "RunLoadJob",
                [
                    "glue:GetJob",
                    "glue:StartJobRun",
                    "glue:GetJobRun",
                    "glue:GetJobRuns",
                    "glue:BatchStopJobRun",
                ],
                [deployment.load_job_arn],
            ),
            _allow(
                "RunSageMakerJobs",
                [
                    f"sagemaker:{verb}{kind}Job"
                    for kind in ("Processing", "Training")
                    for verb in ("Create", "Describe", "Stop")
                ]
                + ["sagemaker:AddTags"],
                [f"{jobs}:processing-job/*", f"{jobs}:training-job/*"],
            ),
            _allow(
                "PassSageMakerRole",
                ["iam:PassRole"],
                [deployment.role_arn(deployment.sagemaker_role)],
                StringEquals={"iam:PassedToService": "sagemaker.amazonaws.com"},
            ),
            _allow(
                "ChangeRegistry",
                [*_CHANGE_REGISTRY, "dynamodb:BatchGetItem"],
                [deployment.registry_table_arn],
            ),
            _allow(
                "CompareOnlineItems",
                [*_READ_TABLE, "dynamodb:DescribeTable"],
                # A region that serves follows home once its replica was counted.
                [deployment.online_replicas_arn_pattern],
            ),
            _allow(
                "ReadSnowflakeConnection",
                ["secretsmanager:GetSecretValue"],
                [deployment.secret_arn_pattern(deployment.snowflake_secret)],
            ),
            _allow(
                "AskApiAsAClient",
                ["secretsmanager:GetSecretValue"],
                [deployment.secret_arn_pattern(deployment.token_client_secret)],
            ),
            _allow(
                "ReadJobLogs",
                ["logs:GetLogEvents", "logs:FilterLogEvents", "logs:DescribeLogStreams"],
                _log_streams(
                    deployment,
                    GLUE_OUTPUT_LOG_GROUP,
                    GLUE_ERROR_LOG_GROUP,
                    PROCESSING_LOG_GROUP,
                    TRAINING_LOG_GROUP,
                ),
            ),
            _allow("WriteLogs", _WRITE_LOGS, _log_streams(deployment, deployment.dagster_log_group)),
        ),
    )


def dagster_daemon_role(deployment: Deployment) -> RoleDefinition:
    """Return the role of Dagster's daemon and code server: takes notices, records refusals, launches runs."""
    ecs = f"arn:{deployment.partition}:ecs:{deployment.region}:{deployment.account_id}"
    cluster = deployment.dagster_cluster
    task_roles = [deployment.role_arn(deployment.dagster_run_role)]
    return RoleDefinition(
        deployment.dagster_daemon_role,
        "ecs-tasks.amazonaws.com",
        deployment.account_id,
        (
            _allow(
                "TakeNotices",
                [
                    "sqs:ReceiveMessage",
                    "sqs:DeleteMessage",
                    "sqs:ChangeMessageVisibility",
                    "sqs:GetQueueAttributes",
                ],
                [deployment.done_file_queue_arn],
            ),
            _allow("ReadManifests", ["s3:GetObject"], _objects(deployment, "done")),
            _list_bucket(deployment, "done"),
            _allow("RecordBatches", _CHANGE_REGISTRY, [deployment.registry_table_arn]),
            _allow(
                "LaunchRuns",
                ["ecs:RunTask", "ecs:StopTask", "ecs:DescribeTasks", "ecs:TagResource"],
                [f"{ecs}:task-definition/{cluster}-*", f"{ecs}:task/{cluster}/*"],
            ),
            _allow(
                "PassRunRole",
                ["iam:PassRole"],
                task_roles,
                StringEquals={"iam:PassedToService": "ecs-tasks.amazonaws.com"},
            ),
            _allow("WriteLogs", _WRITE_LOGS, _log_streams(deployment, deployment.dagster_log_group)),
        ),
    )


def all_roles(deployment: Deployment) -> tuple[RoleDefinition, ...]:
    """Return every role, in the order of `Deployment.roles`."""
    return (
        glue_load_role(deployment),
        sagemaker_role(deployment),
        api_role(deployment),
        dagster_run_role(deployment),
        dagster_daemon_role(deployment),
    )
