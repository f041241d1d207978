"""The parts of roles: the trust policy, and statements with single actions on the deployment's resources."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prediction_contract.naming.resource_names import Deployment

Statement = dict[str, Any]
POLICY_VERSION = "2012-10-17"
POLICY_NAME = "permissions"

WRITE_LOGS = ("logs:CreateLogStream", "logs:PutLogEvents")
# AWS creates the log groups of Glue and SageMaker with the job's role.
WRITE_JOB_LOGS = ("logs:CreateLogGroup", "logs:DescribeLogStreams", *WRITE_LOGS)


@dataclasses.dataclass(frozen=True, slots=True)
class RoleDefinition:
    """A role: its trust and its statements.

    Args:
        name: The role's name.
        service: The AWS service that assumes it, such as `glue.amazonaws.com`.
        account_id: The only account for which the service may assume it, or `None` if the service does not
            send the account (Lambda).
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


def allow(sid: str, actions: Sequence[str], resources: Sequence[str], **condition: Any) -> Statement:
    """Return a statement that allows actions on resources, under a condition if one is given."""
    statement: Statement = {
        "Sid": sid,
        "Effect": "Allow",
        "Action": list(actions),
        "Resource": list(resources),
    }
    if condition:
        statement["Condition"] = condition
    return statement


def objects(deployment: Deployment, *prefixes: str) -> list[str]:
    """Return ARN patterns of the data bucket's objects below the prefixes."""
    return [f"{deployment.data_bucket_arn}/{prefix}/*" for prefix in prefixes]


def list_bucket(deployment: Deployment, *prefixes: str) -> Statement:
    """Return the statement that lets a role list the data bucket below the prefixes."""
    patterns = [f"{prefix}/*" for prefix in prefixes]
    return allow(
        "ListObjects",
        ["s3:ListBucket"],
        [deployment.data_bucket_arn],
        StringLike={"s3:prefix": patterns},
    )


def allow_detecting_missing_keys(*bucket_arns: str, sid: str = "TellMissingKeys") -> Statement:
    """Return the statement with which S3 answers 404, not 403, for missing keys of the buckets.

    deltalake requests a Delta table's last checkpoint, which a new table lacks, and accepts only 404 as the
    answer. S3 sends 404 only to callers who may list the bucket without a prefix:
    https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html
    """
    return allow(sid, ["s3:ListBucket"], bucket_arns, Null={"s3:prefix": "true"})


def use_data_key(deployment: Deployment, *, writes: bool) -> Statement:
    """Return the statement to read, and optionally write, objects encrypted with the data key.

    KMS chooses the key's id, so the statement refers to the key by its alias.
    """
    return allow(
        "UseDataKey",
        ["kms:Decrypt", *(["kms:GenerateDataKey"] if writes else [])],
        [deployment.keys_arn_pattern],
        **{"ForAnyValue:StringEquals": {"kms:ResourceAliases": deployment.data_key_alias}},
    )


def log_streams(deployment: Deployment, *log_groups: str) -> list[str]:
    """Return ARN patterns of log groups and their streams; actions on a group itself need its plain ARN."""
    arns = [deployment.log_group_arn(group) for group in log_groups]
    return [form for arn in arns for form in (arn, f"{arn}:*")]


def pull_image(repository_arn: str) -> tuple[Statement, ...]:
    """Return the statements that let a role pull the images of a repository."""
    actions = ("ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer")
    return (
        allow("LogInToImageRegistry", ["ecr:GetAuthorizationToken"], ["*"]),
        allow("PullImage", actions, [repository_arn]),
    )


def pass_sagemaker_role(deployment: Deployment) -> Statement:
    """Return the statement that lets a role pass the jobs' role to SageMaker."""
    return allow(
        "PassSageMakerRole",
        ["iam:PassRole"],
        [deployment.role_arn(deployment.sagemaker_role)],
        StringEquals={"iam:PassedToService": "sagemaker.amazonaws.com"},
    )
