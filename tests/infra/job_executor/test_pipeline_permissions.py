"""Tests of the permissions that a pipeline's role needs if the executor enforces IAM."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from infra.local.job_executor.aws_access import AwsAccess
from infra.local.job_executor.executor_settings import ExecutorSettings
from tests.infra.job_executor.job_stack import BUCKET, Executor
from tests.infra.job_executor.pipeline_stack import Pipelines, fail_step, processing_step

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.infra.job_executor.job_stack import Aws

pytestmark = pytest.mark.stack

JOBS = "arn:aws:sagemaker:us-east-1:000000000000:processing-job/pipelines-*"
TAGS = [{"Key": "model", "Value": "flight_delay"}]


def allowed(actions: list[str], resource: str, **condition: Any) -> dict[str, Any]:
    """Return a statement that allows actions on a resource."""
    return {"Effect": "Allow", "Action": actions, "Resource": [resource]} | condition


def pass_role(aws: Aws, service: str = "sagemaker.amazonaws.com") -> dict[str, Any]:
    """Return a statement that allows passing the SageMaker role to a service."""
    condition = {"StringEquals": {"iam:PassedToService": service}}
    return allowed(["iam:PassRole"], aws.sagemaker_role, Condition=condition)


@pytest.fixture
def role(aws: Aws, name: str) -> Callable[..., str]:
    """Return a function that creates a role for pipelines with statements, and returns its ARN."""

    def made(*statements: dict[str, Any]) -> str:
        iam = aws.client("iam")
        trusts = {"Service": "sagemaker.amazonaws.com"}
        trust = {"Statement": [{"Effect": "Allow", "Principal": trusts, "Action": "sts:AssumeRole"}]}
        arn = iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust))["Role"]["Arn"]
        policy = {"Version": "2012-10-17", "Statement": list(statements)}
        iam.put_role_policy(RoleName=name, PolicyName="permissions", PolicyDocument=json.dumps(policy))
        return arn

    return made


def test_permissions_depend_on_resource_and_service(
    aws: Aws, tmp_path: Path, role: Callable[..., str]
) -> None:
    """A role may act only on the resources, and pass roles only to the service, that its policy names."""
    arn = role(allowed(["sagemaker:CreateProcessingJob"], JOBS), pass_role(aws))
    settings = ExecutorSettings(
        port=0, state_dir=tmp_path, aws_endpoint_url=aws.url, access_key_id="test", secret_access_key="test"
    )
    access = AwsAccess(settings)

    def may(action: str, resource: str, service: str = "sagemaker.amazonaws.com") -> bool:
        return access.allows(arn, action, resource, service=service)

    job = JOBS.replace("*", "abc")
    assert may("sagemaker:CreateProcessingJob", job)
    assert not may("sagemaker:CreateProcessingJob", job.replace("pipelines-", "other-"))
    assert not may("sagemaker:DescribeProcessingJob", job)
    assert may("iam:PassRole", aws.sagemaker_role)
    assert not may("iam:PassRole", aws.sagemaker_role, "glue.amazonaws.com")
    assert not may("iam:PassRole", aws.glue_role)


@pytest.fixture(scope="module")
def enforced(aws: Aws, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Give pipelines on an executor that enforces IAM."""
    running = Executor(aws.url, tmp_path_factory.mktemp("enforced"), ("--enforce-iam",)).start()
    yield Pipelines(running, aws)
    assert running.stop() == 0


@pytest.mark.parametrize(
    ("actions", "passed_to", "missing"),
    [
        (["Describe"], "sagemaker", "sagemaker:CreateProcessingJob"),
        (["Create", "Describe"], "sagemaker", "sagemaker:AddTags"),
        (["Create", "Describe", "AddTags"], "glue", "iam:PassRole"),
        (["Create", "AddTags"], "sagemaker", "sagemaker:DescribeProcessingJob"),
        (["Create", "Describe", "AddTags"], "sagemaker", None),
    ],
)
def test_step_without_permission_fails(
    enforced: Pipelines, role: Callable[..., str], actions: list[str], passed_to: str, missing: str | None
) -> None:
    """A step whose role lacks a permission fails, and the reason names role and action, as on AWS."""
    aws = enforced.aws
    named = [
        f"sagemaker:{verb}" if verb == "AddTags" else f"sagemaker:{verb}ProcessingJob" for verb in actions
    ]
    arn = role(allowed(named, JOBS), pass_role(aws, f"{passed_to}.amazonaws.com"))
    step = processing_step(aws, "First", "", request={"Tags": TAGS})
    execution = enforced.start(enforced.create([step], RoleArn=arn))
    ended = enforced.end(execution)
    found = enforced.steps(execution)["First"]
    if missing is None:
        assert ended["PipelineExecutionStatus"] == "Succeeded", found
    else:
        assert found["StepStatus"] == "Failed"
        assert f"is not authorized to perform: {missing} on resource: " in found["FailureReason"]
        assert arn.rsplit("/", 1)[-1] in found["FailureReason"]


@pytest.mark.parametrize("reads", [False, True], ids=["starts a job", "reads a file"])
def test_deleted_role_fails_the_step(
    pipelines: Pipelines, aws: Aws, role: Callable[..., str], reads: bool
) -> None:
    """A step fails if its role was deleted, even where IAM is not enforced."""
    arn = role(pass_role(aws))
    file = {"Std:JsonGet": {"S3Uri": f"s3://{BUCKET}/verdict.json", "Path": "reason"}}
    step = fail_step(file, "First") if reads else processing_step(aws, "First", "")
    name = pipelines.create([step], RoleArn=arn)
    iam, named = aws.client("iam"), arn.rsplit("/", 1)[-1]
    iam.delete_role_policy(RoleName=named, PolicyName="permissions")
    iam.delete_role(RoleName=named)
    execution = pipelines.start(name)
    assert pipelines.end(execution)["PipelineExecutionStatus"] == "Failed"
    assert f"Could not assume role {arn}" in pipelines.steps(execution)["First"]["FailureReason"]
