"""Roles of Dagster, deployments, schedules, pipelines and Snowflake."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from infra.permissions.policy_statements import (
    POLICY_VERSION,
    WRITE_LOGS,
    RoleDefinition,
    Statement,
    allow,
    list_bucket,
    log_streams,
    objects,
    pass_sagemaker_role,
    pull_image,
    use_data_key,
)

if TYPE_CHECKING:
    from prediction_contract.naming.resource_names import Deployment

COMPUTE_LOGS_PREFIX = "compute-logs"


def dagster_webserver_role(deployment: Deployment) -> RoleDefinition:
    """Return the role of Dagster's web server, which shows the output of runs and stops their tasks."""
    return RoleDefinition(
        deployment.dagster_webserver_role,
        "ecs-tasks.amazonaws.com",
        deployment.account_id,
        (
            allow("ShowComputeLogs", ["s3:GetObject"], objects(deployment, COMPUTE_LOGS_PREFIX)),
            list_bucket(deployment, COMPUTE_LOGS_PREFIX),
            use_data_key(deployment, writes=False),
            allow("StopRuns", ["ecs:StopTask", "ecs:DescribeTasks"], [deployment.dagster_tasks_arn_pattern]),
            allow("ReadRunTask", ["ecs:DescribeTaskDefinition"], ["*"]),
        ),
    )


def dagster_execution_role(deployment: Deployment) -> RoleDefinition:
    """Return the role that ECS uses to start Dagster's tasks: image, secrets, log streams."""
    secrets = (deployment.dagster_database_secret, deployment.snowflake_secret)
    return RoleDefinition(
        deployment.dagster_execution_role,
        "ecs-tasks.amazonaws.com",
        deployment.account_id,
        (
            *pull_image(deployment.dagster_image_repository_arn),
            allow(
                "ReadSecretsOfTasks",
                ["secretsmanager:GetSecretValue"],
                [deployment.secret_arn_pattern(secret) for secret in secrets],
            ),
            allow("WriteLogs", WRITE_LOGS, log_streams(deployment, deployment.dagster_log_group)),
        ),
    )


def api_deployment_role(deployment: Deployment) -> RoleDefinition:
    """Return the role that CodeDeploy uses to shift the API's traffic to a new version or back."""
    return RoleDefinition(
        deployment.api_deployment_role,
        "codedeploy.amazonaws.com",
        deployment.account_id,
        (
            allow(
                "ShiftTraffic",
                ["lambda:GetAlias", "lambda:UpdateAlias", "lambda:GetProvisionedConcurrencyConfig"],
                [deployment.api_function_arn, f"{deployment.api_function_arn}:*"],
            ),
            # CodeDeploy also reads composite alarms, which AWS shows only with this wide resource.
            allow("WatchAlarms", ["cloudwatch:DescribeAlarms"], ["*"]),
        ),
    )


def scoring_schedule_role(deployment: Deployment) -> RoleDefinition:
    """Return the role that a schedule uses to start a model's scoring pipeline."""
    return RoleDefinition(
        deployment.scoring_schedule_role,
        "scheduler.amazonaws.com",
        deployment.account_id,
        (
            allow(
                "StartScoring",
                ["sagemaker:StartPipelineExecution"],
                [deployment.scoring_pipelines_arn_pattern],
            ),
            allow("KeepWhatDidNotStart", ["sqs:SendMessage"], [deployment.dead_letter_queue_arn]),
        ),
    )


def scoring_pipeline_role(deployment: Deployment) -> RoleDefinition:
    """Return the role that a scoring pipeline uses to start its jobs; the jobs run with `sagemaker_role`."""
    return RoleDefinition(
        deployment.scoring_pipeline_role,
        "sagemaker.amazonaws.com",
        deployment.account_id,
        (
            allow(
                "RunScoringJobs",
                [f"sagemaker:{verb}ProcessingJob" for verb in ("Create", "Describe", "Stop")]
                + ["sagemaker:AddTags"],
                [deployment.scoring_jobs_arn_pattern],
            ),
            pass_sagemaker_role(deployment),
        ),
    )


def retraining_schedule_role(deployment: Deployment) -> RoleDefinition:
    """Return the role that a schedule uses to start a model's retraining pipeline."""
    return RoleDefinition(
        deployment.retraining_schedule_role,
        "scheduler.amazonaws.com",
        deployment.account_id,
        (
            allow(
                "StartRetraining",
                ["sagemaker:StartPipelineExecution"],
                [deployment.retraining_pipelines_arn_pattern],
            ),
            allow("KeepWhatDidNotStart", ["sqs:SendMessage"], [deployment.dead_letter_queue_arn]),
        ),
    )


def retraining_pipeline_role(deployment: Deployment) -> RoleDefinition:
    """Return the role of retraining pipelines: they run jobs, read verdicts and register versions.

    No other role of the platform registers a version. No role approves one: only a person may.
    """
    return RoleDefinition(
        deployment.retraining_pipeline_role,
        "sagemaker.amazonaws.com",
        deployment.account_id,
        (
            allow(
                "RunRetrainingJobs",
                [
                    f"sagemaker:{verb}{kind}Job"
                    for kind in ("Processing", "Training")
                    for verb in ("Create", "Describe", "Stop")
                ]
                + ["sagemaker:AddTags"],
                deployment.retraining_jobs_arn_patterns,
            ),
            pass_sagemaker_role(deployment),
            allow(
                "RegisterVersions",
                [
                    "sagemaker:CreateModelPackage",
                    "sagemaker:DescribeModelPackage",
                    "sagemaker:DescribeModelPackageGroup",
                ],
                deployment.model_packages_arn_patterns,
            ),
            # SageMaker reads the property files of its conditions with this role.
            allow(
                "ReadPlansAndVerdicts",
                ["s3:GetObject"],
                [f"{deployment.data_bucket_arn}/models/*/retraining/*"],
            ),
            use_data_key(deployment, writes=False),
        ),
    )


def watch_versions(deployment: Deployment) -> Statement:
    """Return the statement that lets a role list and describe the versions of models."""
    return allow(
        "WatchVersions",
        ["sagemaker:ListModelPackages", "sagemaker:DescribeModelPackage"],
        deployment.model_packages_arn_patterns,
    )


def platform_roles(deployment: Deployment) -> tuple[RoleDefinition, ...]:
    """Return these roles in the order of `Deployment.roles`."""
    return (
        dagster_webserver_role(deployment),
        dagster_execution_role(deployment),
        api_deployment_role(deployment),
        scoring_schedule_role(deployment),
        scoring_pipeline_role(deployment),
        retraining_schedule_role(deployment),
        retraining_pipeline_role(deployment),
    )


def snowflake_trust_policy(principal_arn: str, external_id: str) -> dict[str, Any]:
    """Return the trust policy that lets only Snowflake's user assume the role, for our integration only.

    Args:
        principal_arn: The user that `DESC INTEGRATION` names.
        external_id: The external id that `DESC INTEGRATION` names; it keeps Snowflake's other customers out.
    """
    statement: Statement = {
        "Effect": "Allow",
        "Principal": {"AWS": principal_arn},
        "Action": "sts:AssumeRole",
        "Condition": {"StringEquals": {"sts:ExternalId": external_id}},
    }
    return {"Version": POLICY_VERSION, "Statement": [statement]}


def snowflake_statements(deployment: Deployment) -> tuple[Statement, ...]:
    """Return Snowflake's statements: it may only read the files of Delta tables."""
    return (
        allow("ReadPredictions", ["s3:GetObject", "s3:GetObjectVersion"], objects(deployment, "predictions")),
        allow("LocateBucket", ["s3:GetBucketLocation"], [deployment.data_bucket_arn]),
        list_bucket(deployment, "predictions"),
        use_data_key(deployment, writes=False),
    )
