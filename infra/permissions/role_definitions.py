"""The trust and the statements of every role, as narrow as possible.

Statements name single actions and the deployment's own resources. They use a wildcard only if AWS has no
narrower resource (`ecr:GetAuthorizationToken`), if AWS chooses the rest of an ARN (a secret's suffix, a job
run), or if a new model must not change a policy (online tables).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from infra.permissions.platform_roles import COMPUTE_LOGS_PREFIX, platform_roles, watch_versions
from infra.permissions.policy_statements import (
    WRITE_JOB_LOGS,
    WRITE_LOGS,
    RoleDefinition,
    Statement,
    allow,
    allow_detecting_missing_keys,
    list_bucket,
    log_streams,
    objects,
    pass_sagemaker_role,
    pull_image,
    use_data_key,
)
from prediction_contract.naming.resource_names import (
    PROCESSING_LOG_GROUP,
    TRAINING_LOG_GROUP,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prediction_contract.naming.resource_names import Deployment

_READ_TABLE = ("dynamodb:GetItem", "dynamodb:BatchGetItem", "dynamodb:Query")
# AWS authorises a transaction item by item, each by the action for it.
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
            allow(
                "ReadBatches",
                ["s3:GetObject"],
                objects(deployment, "done", "predictions", "reports", "quarantine", "code", "pipes"),
            ),
            allow(
                "LeaveReportAndQuarantine",
                ["s3:PutObject", "s3:AbortMultipartUpload"],
                objects(deployment, "reports", "quarantine", "pipes"),
            ),
            list_bucket(deployment, "done", "predictions", "reports", "quarantine", "code"),
            allow_detecting_missing_keys(deployment.data_bucket_arn),
            # Glue asks for the bucket's region before it fetches the zip of wheels.
            allow("LocateBucket", ["s3:GetBucketLocation"], [deployment.data_bucket_arn]),
            use_data_key(deployment, writes=True),
            allow(
                "WriteOnlineItems",
                ["dynamodb:BatchWriteItem", "dynamodb:BatchGetItem", "dynamodb:Scan"],
                [deployment.online_tables_arn_pattern],
            ),
            allow("ConfirmClaimAndLoadState", _CHANGE_REGISTRY, [deployment.registry_table_arn]),
            allow(
                "ReadSnowflakeConnection",
                ["secretsmanager:GetSecretValue"],
                [deployment.secret_arn_pattern(deployment.snowflake_secret)],
            ),
            allow(
                "WriteLogs",
                WRITE_JOB_LOGS,
                log_streams(deployment, *deployment.load_log_groups),
            ),
            allow(
                "WriteMetrics",
                ["cloudwatch:PutMetricData"],
                ["*"],
                StringEquals={"cloudwatch:namespace": "Glue"},
            ),
        ),
    )


def sagemaker_role(deployment: Deployment, sources: Sequence[Statement]) -> RoleDefinition:
    """Return the role of feature preparation, scoring and training.

    Args:
        deployment: The names and ARNs of the stage in its region.
        sources: Statements of `source_rights` for data other than the platform's own.
    """
    written = ("features", "predictions", "done", "models", "shadow")
    return RoleDefinition(
        deployment.sagemaker_role,
        "sagemaker.amazonaws.com",
        deployment.account_id,
        (
            allow("ReadInputs", ["s3:GetObject"], objects(deployment, "code", "pipes", *written)),
            allow(
                "WriteOutputs",
                ["s3:PutObject", "s3:AbortMultipartUpload"],
                objects(deployment, *written, "pipes"),
            ),
            list_bucket(deployment, "code", *written),
            allow_detecting_missing_keys(deployment.data_bucket_arn),
            *sources,
            use_data_key(deployment, writes=True),
            allow(
                "FindPreviousBatch",
                ["dynamodb:GetItem", "dynamodb:Query"],
                [deployment.registry_table_arn],
            ),
            *pull_image(deployment.job_image_repository_arn),
            allow(
                "WriteLogs",
                WRITE_JOB_LOGS,
                log_streams(deployment, PROCESSING_LOG_GROUP, TRAINING_LOG_GROUP),
            ),
            allow(
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
            allow(
                "ReadPointersAndPredictions",
                _READ_TABLE,
                [deployment.registry_table_arn, deployment.online_tables_arn_pattern],
            ),
            # To find the models. The action has no resource.
            allow("ListOnlineTables", ["dynamodb:ListTables"], ["*"]),
            allow(
                "ReadProviderTokens",
                ["secretsmanager:GetSecretValue"],
                [deployment.provider_secrets_arn_pattern],
            ),
            allow("WriteLogs", WRITE_LOGS, log_streams(deployment, deployment.api_log_group)),
            allow("WriteTraces", ["xray:PutTraceSegments", "xray:PutTelemetryRecords"], ["*"]),
        ),
    )


def dagster_run_role(deployment: Deployment) -> RoleDefinition:
    """Return the role of a Dagster run: starts and watches jobs, checks both stores, moves the pointer.

    It trains only through the retraining pipeline, so it cannot start training jobs.
    """
    jobs = f"arn:{deployment.partition}:sagemaker:{deployment.region}:{deployment.account_id}"
    read = ("done", "predictions", "reports", "quarantine", "features", "models", "shadow")
    return RoleDefinition(
        deployment.dagster_run_role,
        "ecs-tasks.amazonaws.com",
        deployment.account_id,
        (
            allow("ReadBatches", ["s3:GetObject"], objects(deployment, *read, "pipes")),
            list_bucket(deployment, *read, "pipes", COMPUTE_LOGS_PREFIX),
            allow_detecting_missing_keys(deployment.data_bucket_arn),
            use_data_key(deployment, writes=True),
            allow(
                "KeepComputeLogs",
                ["s3:GetObject", "s3:PutObject"],
                objects(deployment, COMPUTE_LOGS_PREFIX),
            ),
            # Input of jobs that does not fit into arguments: the Pipes context and the schema.
            allow("TellJobs", ["s3:PutObject"], objects(deployment, "pipes", "models")),
            allow("TidyUp", ["s3:DeleteObject"], objects(deployment, "pipes")),
            *_retire_batches(deployment),
            allow(
                "RunLoadJob",
                [
                    "glue:StartJobRun",
                    "glue:GetJobRun",
                    # To compare the checkout's code with the job's.
                    "glue:GetJob",
                    "glue:BatchStopJobRun",
                ],
                [deployment.load_job_arn],
            ),
            allow(
                "RunSageMakerJobs",
                [f"sagemaker:{verb}ProcessingJob" for verb in ("Create", "Describe", "Stop")]
                + ["sagemaker:AddTags"],
                [f"{jobs}:processing-job/*"],
            ),
            pass_sagemaker_role(deployment),
            allow(
                "RunRetraining",
                [
                    "sagemaker:StartPipelineExecution",
                    "sagemaker:DescribePipelineExecution",
                    "sagemaker:ListPipelineExecutions",
                    "sagemaker:ListPipelineExecutionSteps",
                    "sagemaker:StopPipelineExecution",
                ],
                [deployment.retraining_pipelines_arn_pattern],
            ),
            watch_versions(deployment),
            allow(
                "ChangeRegistry",
                [*_CHANGE_REGISTRY, "dynamodb:BatchGetItem"],
                [deployment.registry_table_arn],
            ),
            allow(
                "CompareOnlineItems",
                ["dynamodb:BatchGetItem"],
                # A serving region's replica is checked before the region follows home.
                [deployment.online_replicas_arn_pattern],
            ),
            allow(
                "AskApiAsAClient",
                ["secretsmanager:GetSecretValue"],
                [deployment.secret_arn_pattern(deployment.token_client_secret)],
            ),
            allow(
                "ReadJobLogs",
                ["logs:GetLogEvents", "logs:DescribeLogStreams"],
                log_streams(
                    deployment,
                    *deployment.load_log_groups,
                    PROCESSING_LOG_GROUP,
                    TRAINING_LOG_GROUP,
                ),
            ),
        ),
    )


def _retire_batches(deployment: Deployment) -> tuple[Statement, ...]:
    """Return retention's statements: it may delete parts, Delta's data files and archives, not reports."""
    bucket = deployment.data_bucket_arn
    return (
        allow(
            "DeleteRetiredBatches",
            ["s3:DeleteObject"],
            [
                f"{bucket}/predictions/*/json/*",
                # Data files lie in their batch's folder, or begin with `part-` if deltalake names them. No
                # entry of Delta's log matches these patterns.
                f"{bucket}/predictions/*/delta/????????T??????Z-????????/*",
                f"{bucket}/predictions/*/delta/part-*",
                f"{bucket}/quarantine/*",
                f"{bucket}/reports/*/acknowledged/*",
            ],
        ),
        allow("DeleteRetiredVersions", ["s3:DeleteObject"], [f"{bucket}/models/*/candidates/*"]),
        allow(
            "RemoveRetiredBatchesFromDelta", ["s3:PutObject"], [f"{bucket}/predictions/*/delta/_delta_log/*"]
        ),
    )


def dagster_daemon_role(deployment: Deployment) -> RoleDefinition:
    """Return the role of Dagster's daemon and code server: reads queues, records batches, starts runs."""
    ecs = f"arn:{deployment.partition}:ecs:{deployment.region}:{deployment.account_id}"
    cluster = deployment.dagster_cluster
    task_roles = [
        deployment.role_arn(role) for role in (deployment.dagster_run_role, deployment.dagster_execution_role)
    ]
    return RoleDefinition(
        deployment.dagster_daemon_role,
        "ecs-tasks.amazonaws.com",
        deployment.account_id,
        (
            allow(
                "TakeNotices",
                [
                    "sqs:ReceiveMessage",
                    "sqs:DeleteMessage",
                ],
                [deployment.done_file_queue_arn, deployment.model_events_queue_arn],
            ),
            allow("ReadManifests", ["s3:GetObject"], objects(deployment, "done")),
            # Only the existence of candidates is checked, but S3 has no narrower right for that.
            allow(
                "ReadVerdictsAndAccuracy",
                ["s3:GetObject"],
                [
                    f"{deployment.data_bucket_arn}/models/*/{kind}/*"
                    for kind in ("retraining", "candidates", "accuracy")
                ],
            ),
            # Drift and decayed accuracy start a retraining.
            allow(
                "StartRetraining",
                ["sagemaker:StartPipelineExecution", "sagemaker:ListPipelineExecutions"],
                [deployment.retraining_pipelines_arn_pattern],
            ),
            watch_versions(deployment),
            # The logs of sensor and schedule ticks. Runs and the web server use the other compute logs.
            allow("KeepTickLogs", ["s3:PutObject"], objects(deployment, COMPUTE_LOGS_PREFIX)),
            # To find prepared partitions and measured batches.
            list_bucket(deployment, "done", "features", "models"),
            allow_detecting_missing_keys(deployment.data_bucket_arn),
            use_data_key(deployment, writes=True),
            allow("RecordBatches", _CHANGE_REGISTRY, [deployment.registry_table_arn]),
            allow(
                "LaunchRuns",
                ["ecs:RunTask", "ecs:StopTask", "ecs:DescribeTasks", "ecs:TagResource"],
                [f"{ecs}:task-definition/{deployment.dagster_run_family}:*", f"{ecs}:task/{cluster}/*"],
            ),
            # A run's task copies the daemon's network settings. Neither action has a resource.
            allow("ReadOwnTask", ["ecs:DescribeTaskDefinition", "ec2:DescribeNetworkInterfaces"], ["*"]),
            allow(
                "PassRunRole",
                ["iam:PassRole"],
                task_roles,
                StringEquals={"iam:PassedToService": "ecs-tasks.amazonaws.com"},
            ),
            # To find why a run's task ended before it could report.
            allow(
                "ReadLogsOfRuns",
                ["logs:GetLogEvents"],
                log_streams(deployment, deployment.dagster_log_group),
            ),
        ),
    )


def all_roles(deployment: Deployment, sources: Sequence[Statement]) -> tuple[RoleDefinition, ...]:
    """Return every role, in the order of `Deployment.roles`.

    Args:
        deployment: The names and ARNs of the stage in its region.
        sources: Statements that let SageMaker's jobs read data other than the platform's own.
    """
    return (
        glue_load_role(deployment),
        sagemaker_role(deployment, sources),
        api_role(deployment),
        dagster_run_role(deployment),
        dagster_daemon_role(deployment),
        *platform_roles(deployment),
    )
