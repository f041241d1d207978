"""Tests of pipeline requests: refusals, repeated requests, versions and lists."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from tests.infra.job_executor.job_stack import BUCKET, Aws, Executor
from tests.infra.job_executor.pipeline_stack import Pipelines, definition, fail_step, processing_step

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.stack

BODY = json.dumps(definition([fail_step("first")]))
OTHER = json.dumps(definition([fail_step("second")]))
SPEED = {"Name": "Speed", "Type": "Integer"}


def code(refused: pytest.ExceptionInfo[ClientError]) -> str:
    """Return the error's code."""
    return refused.value.response["Error"]["Code"]


@pytest.fixture
def token() -> str:
    """Return a unique client request token."""
    return uuid.uuid4().hex


@pytest.fixture
def create(pipelines: Pipelines, aws: Aws, name: str) -> Callable[..., str]:
    """Return a function that creates the test's pipeline and returns its ARN."""

    def created(**request: Any) -> str:
        whole = {"PipelineName": name, "RoleArn": aws.sagemaker_role, "PipelineDefinition": BODY} | request
        whole = {member: value for member, value in whole.items() if value is not None}
        return pipelines.client.create_pipeline(**whole)["PipelineArn"]

    return created


def test_pipeline_is_described_as_created(
    pipelines: Pipelines, create: Callable[..., str], aws: Aws, name: str
) -> None:
    """A pipeline can be described by its name and by its ARN."""
    arn = create(PipelineDescription="a test", PipelineDisplayName="shown")
    assert arn == f"arn:aws:sagemaker:us-east-1:000000000000:pipeline/{name}"
    for named in (name, arn):
        found = pipelines.client.describe_pipeline(PipelineName=named)
        assert (found["PipelineArn"], found["PipelineName"]) == (arn, name)
        assert (found["PipelineDefinition"], found["RoleArn"]) == (BODY, aws.sagemaker_role)
        assert (found["PipelineStatus"], found["PipelineDescription"]) == ("Active", "a test")
        assert "LastRunTime" not in found


def test_repeated_creation_makes_one_pipeline(create: Callable[..., str], token: str) -> None:
    """The same token returns the same pipeline; other content or a taken name is refused."""
    arn = create(ClientRequestToken=token)
    assert create(ClientRequestToken=token) == arn
    with pytest.raises(ClientError, match="used before with other content") as refused:
        create(ClientRequestToken=token, PipelineDefinition=OTHER)
    assert code(refused) == "ConflictException"
    with pytest.raises(ClientError, match="must be unique within an AWS account and region") as refused:
        create()
    assert code(refused) == "ValidationException"


@pytest.mark.parametrize(
    ("request_members", "words"),
    [
        ({"PipelineDefinition": None}, "Specify either PipelineDefinition or"),
        ({"PipelineDefinition": '{"Version": "2020-12-01"}'}, "Unable to parse pipeline definition"),
        ({"RoleArn": "arn:aws:iam::000000000000:role/nobody"}, "Could not assume role"),
        ({"PipelineVersionAliases": ["live"]}, "PipelineVersionAliases is not supported"),
        ({"ClientRequestToken": "short"}, "greater than or equal to 32|valid min length: 32"),
    ],
)
def test_invalid_pipeline_is_refused(
    pipelines: Pipelines, create: Callable[..., str], name: str, request_members: dict[str, Any], words: str
) -> None:
    """An invalid request for a pipeline is refused and creates nothing."""
    with pytest.raises(Exception, match=words):
        create(**request_members)
    with pytest.raises(pipelines.client.exceptions.ResourceNotFound):
        pipelines.client.describe_pipeline(PipelineName=name)


def test_definition_can_be_read_from_s3(
    pipelines: Pipelines, create: Callable[..., str], aws: Aws, name: str
) -> None:
    """A definition on S3 is read when the pipeline is created, and a missing one is refused."""
    where = {"Bucket": BUCKET, "ObjectKey": f"{name}/definition.json"}
    with pytest.raises(ClientError, match="cannot be read"):
        create(PipelineDefinition=None, PipelineDefinitionS3Location=where)
    aws.client("s3").put_object(Bucket=BUCKET, Key=where["ObjectKey"], Body=BODY.encode())
    create(PipelineDefinition=None, PipelineDefinitionS3Location=where)
    assert pipelines.client.describe_pipeline(PipelineName=name)["PipelineDefinition"] == BODY


def test_execution_keeps_its_definition(pipelines: Pipelines, create: Callable[..., str], name: str) -> None:
    """An update makes a new version; older executions keep theirs, and older versions can be started."""
    create()
    before = pipelines.start(name)
    updated = pipelines.client.update_pipeline(PipelineName=name, PipelineDefinition=OTHER)
    assert updated["PipelineVersionId"] == 2
    after = pipelines.start(name)
    again = pipelines.start(name, PipelineVersionId=1)
    for arn, body, message in ((before, BODY, "first"), (after, OTHER, "second"), (again, BODY, "first")):
        assert pipelines.end(arn)["PipelineExecutionStatus"] == "Failed"
        assert pipelines.steps(arn)["NeedsPerson"]["FailureReason"] == message
        shown = pipelines.client.describe_pipeline_definition_for_execution(PipelineExecutionArn=arn)
        assert shown["PipelineDefinition"] == body
    assert (
        pipelines.client.describe_pipeline(PipelineName=name, PipelineVersionId=1)["PipelineDefinition"]
        == BODY
    )
    described = pipelines.client.describe_pipeline(PipelineName=name)
    assert described["PipelineDefinition"] == OTHER
    assert described["LastRunTime"] > described["CreationTime"]
    with pytest.raises(pipelines.client.exceptions.ResourceNotFound):
        pipelines.start(name, PipelineVersionId=3)


def test_refused_update_changes_nothing(pipelines: Pipelines, create: Callable[..., str], name: str) -> None:
    """An update with an invalid definition leaves the previous one in place."""
    create()
    with pytest.raises(ClientError, match="Unable to parse pipeline definition"):
        pipelines.client.update_pipeline(PipelineName=name, PipelineDefinition="{}")
    assert pipelines.client.describe_pipeline(PipelineName=name)["PipelineDefinition"] == BODY


def test_repeated_start_makes_one_execution(
    pipelines: Pipelines, create: Callable[..., str], name: str, token: str
) -> None:
    """The same token returns the same execution, and is refused with other content."""
    create(PipelineDefinition=json.dumps(definition([fail_step("x")], [SPEED])))
    arn = pipelines.start(name, {"Speed": "1"}, ClientRequestToken=token)
    assert pipelines.start(name, {"Speed": "1"}, ClientRequestToken=token) == arn
    pipelines.end(arn)
    assert pipelines.start(name, {"Speed": "1"}, ClientRequestToken=token) == arn
    with pytest.raises(pipelines.client.exceptions.ConflictException, match="other content"):
        pipelines.start(name, {"Speed": "2"}, ClientRequestToken=token)
    listed = pipelines.client.list_pipeline_executions(PipelineName=name)["PipelineExecutionSummaries"]
    assert [each["PipelineExecutionArn"] for each in listed] == [arn]


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({}, "must be given: \\['Speed'\\]"),
        ({"Speed": "fast"}, "Speed must be of type Integer"),
        ({"Speed": "1", "Color": "red"}, "Unknown parameters: \\['Color'\\]"),
    ],
)
def test_start_with_invalid_parameters_is_refused(
    pipelines: Pipelines, create: Callable[..., str], name: str, parameters: dict[str, str], words: str
) -> None:
    """A start with missing, unknown or wrongly typed parameters is refused and makes no execution."""
    create(PipelineDefinition=json.dumps(definition([fail_step("x")], [SPEED])))
    with pytest.raises(ClientError, match=words) as refused:
        pipelines.start(name, parameters)
    assert code(refused) == "ValidationException"
    assert pipelines.client.list_pipeline_executions(PipelineName=name)["PipelineExecutionSummaries"] == []


def test_selected_steps_are_refused(pipelines: Pipelines, create: Callable[..., str], name: str) -> None:
    """Running selected steps is refused, because it would bypass the steps that judge."""
    create()
    selected = {"SelectedSteps": [{"StepName": "NeedsPerson"}]}
    with pytest.raises(ClientError, match="SelectiveExecutionConfig is not supported"):
        pipelines.start(name, SelectiveExecutionConfig=selected)


def test_executions_and_steps_are_listed_newest_first(
    pipelines: Pipelines, create: Callable[..., str], aws: Aws, name: str
) -> None:
    """Executions are listed in pages with failure reasons, and they and their steps newest first."""
    steps = [processing_step(aws, "First", ""), fail_step("no") | {"DependsOn": ["First"]}]
    create(PipelineDefinition=json.dumps(definition(steps)))
    arns = [pipelines.start(name, PipelineExecutionDescription=f"number {number}") for number in range(3)]
    for arn in arns:
        pipelines.end(arn)
    pages = pipelines.client.get_paginator("list_pipeline_executions").paginate(
        PipelineName=name, PaginationConfig={"PageSize": 2}
    )
    found = [each for page in pages for each in page["PipelineExecutionSummaries"]]
    assert [each["PipelineExecutionArn"] for each in found] == arns[::-1]
    assert found[0]["PipelineExecutionDescription"] == "number 2"
    assert {each["PipelineExecutionFailureReason"] for each in found} == {
        "Step failure: One or multiple steps failed."
    }
    listed = pipelines.client.list_pipeline_execution_steps(PipelineExecutionArn=arns[0])
    assert [each["StepName"] for each in listed["PipelineExecutionSteps"]] == ["NeedsPerson", "First"]


def test_pipelines_are_listed_by_prefix(pipelines: Pipelines, create: Callable[..., str], name: str) -> None:
    """Pipelines are listed by the prefix of their names, with their role."""
    arn = create()
    (found,) = pipelines.client.list_pipelines(PipelineNamePrefix=name)["PipelineSummaries"]
    assert (found["PipelineArn"], found["RoleArn"]) == (arn, pipelines.aws.sagemaker_role)
    assert pipelines.client.list_pipelines(PipelineNamePrefix=f"{name}x")["PipelineSummaries"] == []


def test_pipeline_is_deleted_with_its_ended_executions(
    pipelines: Pipelines, create: Callable[..., str], aws: Aws, name: str
) -> None:
    """A pipeline can be deleted once its executions have ended, and its name can then be reused."""
    sleeper = processing_step(aws, "Sleeper", "import time; time.sleep(300)")
    create(PipelineDefinition=json.dumps(definition([sleeper])))
    arn = pipelines.start(name)
    with pytest.raises(pipelines.client.exceptions.ConflictException, match="running executions"):
        pipelines.client.delete_pipeline(PipelineName=name)
    pipelines.client.stop_pipeline_execution(PipelineExecutionArn=arn)
    pipelines.end(arn)
    pipelines.client.delete_pipeline(PipelineName=name)
    for call, request in (
        (pipelines.client.describe_pipeline, {"PipelineName": name}),
        (pipelines.client.delete_pipeline, {"PipelineName": name}),
        (pipelines.client.update_pipeline, {"PipelineName": name}),
        (pipelines.client.start_pipeline_execution, {"PipelineName": name}),
        (pipelines.client.list_pipeline_executions, {"PipelineName": name}),
        (pipelines.client.describe_pipeline_execution, {"PipelineExecutionArn": arn}),
        (pipelines.client.stop_pipeline_execution, {"PipelineExecutionArn": arn}),
        (pipelines.client.list_pipeline_execution_steps, {"PipelineExecutionArn": arn}),
    ):
        with pytest.raises(pipelines.client.exceptions.ResourceNotFound, match="does not exist"):
            call(**request)
    create(PipelineDefinition=OTHER)
    assert pipelines.client.list_pipeline_executions(PipelineName=name)["PipelineExecutionSummaries"] == []
    assert pipelines.client.describe_pipeline(PipelineName=name)["PipelineDefinition"] == OTHER


def test_malformed_arn_is_refused(executor: Executor) -> None:
    """The executor checks the service model's patterns for a client that validates nothing."""
    client = executor.client("sagemaker", parameter_validation=False)
    with pytest.raises(ClientError, match="regular expression") as refused:
        client.describe_pipeline_execution(PipelineExecutionArn="abc")
    assert code(refused) == "ValidationException"
