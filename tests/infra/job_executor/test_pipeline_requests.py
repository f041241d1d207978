"""Requests about pipelines and executions: what is refused, what a repeated request does, what is listed."""

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
    """Give a token of a request."""
    return uuid.uuid4().hex


@pytest.fixture
def create(pipelines: Pipelines, aws: Aws, name: str) -> Callable[..., str]:
    """Return a function that creates a pipeline of one name and returns its ARN."""

    def created(**request: Any) -> str:
        whole = {"PipelineName": name, "RoleArn": aws.sagemaker_role, "PipelineDefinition": BODY} | request
        whole = {member: value for member, value in whole.items() if value is not None}
        return pipelines.client.create_pipeline(**whole)["PipelineArn"]

    return created


def test_a_pipeline_is_described_as_it_was_created(
    pipelines: Pipelines, create: Callable[..., str], aws: Aws, name: str
) -> None:
    """By its name and by its ARN."""
    arn = create(PipelineDescription="a test", PipelineDisplayName="shown")
    assert arn == f"arn:aws:sagemaker:us-east-1:000000000000:pipeline/{name}"
    for named in (name, arn):
        found = pipelines.client.describe_pipeline(PipelineName=named)
        assert (found["PipelineArn"], found["PipelineName"]) == (arn, name)
        assert (found["PipelineDefinition"], found["RoleArn"]) == (BODY, aws.sagemaker_role)
        assert (found["PipelineStatus"], found["PipelineDescription"]) == ("Active", "a test")
        assert "LastRunTime" not in found


def test_a_creation_that_is_repeated_creates_nothing_again(create: Callable[..., str], token: str) -> None:
    """The same token answers the same; other content, or another token, is refused."""
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
def test_a_pipeline_that_cannot_run_is_refused(
    pipelines: Pipelines, create: Callable[..., str], name: str, request_members: dict[str, Any], words: str
) -> None:
    """Nothing is left of it."""
    with pytest.raises(Exception, match=words):
        create(**request_members)
    with pytest.raises(pipelines.client.exceptions.ResourceNotFound):
        pipelines.client.describe_pipeline(PipelineName=name)


def test_a_definition_may_lie_on_s3(
    pipelines: Pipelines, create: Callable[..., str], aws: Aws, name: str
) -> None:
    """It is read when the pipeline is created; a missing one is refused."""
    where = {"Bucket": BUCKET, "ObjectKey": f"{name}/definition.json"}
    with pytest.raises(ClientError, match="cannot be read"):
        create(PipelineDefinition=None, PipelineDefinitionS3Location=where)
    aws.client("s3").put_object(Bucket=BUCKET, Key=where["ObjectKey"], Body=BODY.encode())
    create(PipelineDefinition=None, PipelineDefinitionS3Location=where)
    assert pipelines.client.describe_pipeline(PipelineName=name)["PipelineDefinition"] == BODY


def test_an_execution_keeps_the_definition_that_it_began_with(
    pipelines: Pipelines, create: Callable[..., str], name: str
) -> None:
    """An update makes a version; older ones can still be shown and started."""
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


def test_a_refused_update_changes_nothing(
    pipelines: Pipelines, create: Callable[..., str], name: str
) -> None:
    """A definition that no execution could follow leaves the one before."""
    create()
    with pytest.raises(ClientError, match="Unable to parse pipeline definition"):
        pipelines.client.update_pipeline(PipelineName=name, PipelineDefinition="{}")
    assert pipelines.client.describe_pipeline(PipelineName=name)["PipelineDefinition"] == BODY


def test_a_start_that_is_repeated_starts_nothing_again(
    pipelines: Pipelines, create: Callable[..., str], name: str, token: str
) -> None:
    """The same token answers the same execution; with other content it is refused."""
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
def test_an_execution_without_proper_parameters_is_refused(
    pipelines: Pipelines, create: Callable[..., str], name: str, parameters: dict[str, str], words: str
) -> None:
    """Nothing starts, and nothing is listed."""
    create(PipelineDefinition=json.dumps(definition([fail_step("x")], [SPEED])))
    with pytest.raises(ClientError, match=words) as refused:
        pipelines.start(name, parameters)
    assert code(refused) == "ValidationException"
    assert pipelines.client.list_pipeline_executions(PipelineName=name)["PipelineExecutionSummaries"] == []


def test_a_selection_of_steps_is_refused(pipelines: Pipelines, create: Callable[..., str], name: str) -> None:
    """It would lead around the steps that judge."""
    create()
    selected = {"SelectedSteps": [{"StepName": "NeedsPerson"}]}
    with pytest.raises(ClientError, match="SelectiveExecutionConfig is not supported"):
        pipelines.start(name, SelectiveExecutionConfig=selected)


def test_executions_and_steps_are_listed_newest_first_page_by_page(
    pipelines: Pipelines, create: Callable[..., str], aws: Aws, name: str
) -> None:
    """Unless asked for otherwise; what failed says why."""
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
    """With the role that they run under."""
    arn = create()
    (found,) = pipelines.client.list_pipelines(PipelineNamePrefix=name)["PipelineSummaries"]
    assert (found["PipelineArn"], found["RoleArn"]) == (arn, pipelines.aws.sagemaker_role)
    assert pipelines.client.list_pipelines(PipelineNamePrefix=f"{name}x")["PipelineSummaries"] == []


def test_a_pipeline_goes_with_its_executions_once_they_have_ended(
    pipelines: Pipelines, create: Callable[..., str], aws: Aws, name: str
) -> None:
    """A running one keeps it; a new pipeline of the name knows nothing of the old one."""
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


def test_what_is_no_arn_is_refused(executor: Executor) -> None:
    """The service model's patterns hold for a client that checks nothing."""
    client = executor.client("sagemaker", parameter_validation=False)
    with pytest.raises(ClientError, match="regular expression") as refused:
        client.describe_pipeline_execution(PipelineExecutionArn="abc")
    assert code(refused) == "ValidationException"
