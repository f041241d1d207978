"""The reasons for wildcards in the roles' resources; a wildcard without a reason is an error."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from infra.permissions.source_rights import READ_SOURCE_SECRETS, READ_SOURCES

if TYPE_CHECKING:
    from infra.permissions.policy_statements import Statement
    from prediction_contract.naming.resource_names import Deployment

# Actions for which AWS has no resources.
WITHOUT_RESOURCE = {
    "cloudwatch:DescribeAlarms": "composite alarms need a permission for all alarms; it shows states",
    "cloudwatch:PutMetricData": "metrics have no ARN; the condition names the namespace",
    "dynamodb:ListTables": "a listing has no ARN; it shows names only",
    "ec2:DescribeNetworkInterfaces": "EC2's Describe calls have no resource; it shows the task's own network",
    "ecr:GetAuthorizationToken": "the login is the registry's, not a repository's",
    "ecs:DescribeTaskDefinition": "the call has no resource; it shows names of secrets, not their values",
    "xray:PutTelemetryRecords": "traces have no ARN",
    "xray:PutTraceSegments": "traces have no ARN",
}
# A key prefix in a named bucket, as `source_rights` writes it; a whole bucket does not match. The
# characters before the last star match a date, a partition or an hour.
_SOURCE = re.compile(r"arn:[a-z-]+:s3:::[a-z0-9.-]+/(?:[^*?]|\$\{\?\})+(?:(?:\?{4}-(?:\?\?-\?\?)?|\?\?)?\*)?")


class UnexplainedWildcardError(Exception):
    """A statement has a resource with a wildcard, and there is no reason for it."""


def wildcard_reasons(deployment: Deployment, statement: Statement) -> dict[str, str]:
    """Return the reason for each wildcard resource of a statement, by resource.

    Args:
        deployment: The deployment of the resources.
        statement: A role's statement.

    Raises:
        UnexplainedWildcardError: A wildcard has no reason.
    """
    found = {}
    for resource in statement["Resource"]:
        if "*" in resource or "?" in resource:
            found[resource] = _reason(deployment, resource, statement)
    return found


def _reason(deployment: Deployment, resource: str, statement: Statement) -> str:
    if resource == "*":
        return _reason_for_all_resources(statement)
    if statement["Sid"] == READ_SOURCES and _SOURCE.fullmatch(resource):
        return "the key prefix of a model's source, from its declaration"
    if statement["Sid"] == READ_SOURCE_SECRETS and resource.endswith("-??????"):
        return "a source's secret; Secrets Manager appends six random characters"
    for beginning, ending, reason in _patterns(deployment):
        # Beginning and end must not overlap: a whole bucket would pass as a prefix in it.
        apart = len(resource) >= len(beginning) + len(ending)
        if resource == beginning or (apart and resource.startswith(beginning) and resource.endswith(ending)):
            return reason
    raise UnexplainedWildcardError(
        f"Statement {statement['Sid']} has the unexplained wildcard {resource}. Name single resources, or "
        "add a reason for the pattern to infra/permissions/wildcards.py."
    )


def _reason_for_all_resources(statement: Statement) -> str:
    if unknown := sorted(set(statement["Action"]) - set(WITHOUT_RESOURCE)):
        raise UnexplainedWildcardError(
            f"Statement {statement['Sid']} allows {', '.join(unknown)} on everything. Name the resources."
        )
    return "; ".join(WITHOUT_RESOURCE[action] for action in statement["Action"])


def _patterns(deployment: Deployment) -> list[tuple[str, str, str]]:
    """Return the beginning, end and reason of every pattern."""
    place = f"{deployment.region}:{deployment.account_id}"
    aws = f"arn:{deployment.partition}"
    own = f"mlpipe-{deployment.stage}-"
    return [
        (f"{deployment.data_bucket_arn}/", "/*", "the star ends a key prefix of the stage's own bucket"),
        (
            f"{deployment.data_bucket_arn}/models/",
            "/retraining/*",
            "every model's plans and verdicts, but not its archives",
        ),
        (f"{deployment.data_bucket_arn}/", "/delta/part-*", "every model's Delta files, but not their log"),
        (deployment.keys_arn_pattern, "*", "KMS generates a key's id; the condition names the key's alias"),
        (
            f"{aws}:dynamodb:",
            f":{deployment.account_id}:table/{deployment.online_tables_prefix}*",
            "a new model must not change the policy, and each serving region has a replica",
        ),
        (f"{aws}:logs:{place}:log-group:", ":*", "AWS names a group's streams"),
        (
            f"{aws}:secretsmanager:{place}:secret:{own}",
            "-??????",
            "Secrets Manager appends six random characters",
        ),
        (f"{aws}:secretsmanager:{place}:secret:{own}providers/", "*", "one secret for each provider"),
        (
            f"{aws}:sagemaker:{place}:processing-job/pipelines-",
            "*",
            "SageMaker names a pipeline's jobs by execution and step",
        ),
        (
            f"{aws}:sagemaker:{place}:training-job/pipelines-",
            "*",
            "SageMaker names a pipeline's jobs by execution and step",
        ),
        (f"{aws}:sagemaker:{place}:processing-job/", "*", "jobs are named by model, batch and attempt"),
        (
            f"{aws}:sagemaker:{place}:model-package",
            f"/{own}*",
            "one group for each model, with numbered packages",
        ),
        (f"{aws}:sagemaker:{place}:pipeline/{own}", "*", "one pipeline for each model"),
        (f"{aws}:ecs:{place}:task/{deployment.dagster_cluster}/", "*", "ECS generates a task's id"),
        (
            f"{aws}:ecs:{place}:task-definition/{deployment.dagster_run_family}:",
            "*",
            "ECS numbers a family's revisions",
        ),
        (deployment.api_function_arn, ":*", "Lambda numbers a function's versions"),
    ]
