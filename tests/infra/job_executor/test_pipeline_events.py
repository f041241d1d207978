"""Tests of the EventBridge events of executions and their steps."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.infra.job_executor.job_stack import eventually
from tests.infra.job_executor.pipeline_stack import (
    Pipelines,
    compare,
    condition_step,
    fail_step,
    processing_step,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.infra.job_executor.job_stack import Aws

pytestmark = pytest.mark.stack

EXECUTION = "SageMaker Model Building Pipeline Execution Status Change"
STEP = "SageMaker Model Building Pipeline Execution Step Status Change"


@pytest.fixture
def events_of(aws: Aws, name: str) -> Iterator[Callable[[str, int], list[dict[str, Any]]]]:
    """Return a function that waits for a number of events of a pipeline, in order of arrival."""
    sqs, events = aws.client("sqs"), aws.client("events")
    url = sqs.create_queue(QueueName=name)["QueueUrl"]
    pattern = {"source": ["aws.sagemaker"], "detail-type": [EXECUTION, STEP]}
    events.put_rule(Name=name, EventPattern=json.dumps(pattern))
    arn = f"arn:aws:sqs:us-east-1:000000000000:{name}"
    events.put_targets(Rule=name, Targets=[{"Id": "queue", "Arn": arn}])
    found: list[dict[str, Any]] = []

    def wait(pipeline: str, count: int) -> list[dict[str, Any]]:
        def look() -> list[dict[str, Any]]:
            answer = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=1)
            found.extend(json.loads(message["Body"]) for message in answer.get("Messages", []))
            mine = [event for event in found if event["detail"]["pipelineArn"].endswith(f"/{pipeline}")]
            return mine if len(mine) >= count else []

        return eventually(look, what=f"{count} events of {pipeline}", seconds=30)

    yield wait
    events.remove_targets(Rule=name, Ids=["queue"])
    events.delete_rule(Name=name)


def test_each_status_change_sends_an_event(
    pipelines: Pipelines, aws: Aws, events_of: Callable[[str, int], list[dict[str, Any]]]
) -> None:
    """Every status change of an execution and its steps sends an event with both statuses and details."""
    steps = [
        processing_step(aws, "First", ""),
        condition_step("IsFine", [compare("Equals", 1, 2)], [], [fail_step("not fine")]),
    ]
    steps[1]["DependsOn"] = ["First"]
    name = pipelines.create(steps)
    arn = pipelines.start(name, PipelineExecutionDescription="a test")
    pipelines.end(arn)
    events = events_of(name, 9)
    pipeline_arn = arn.partition("/execution/")[0]
    assert {event["source"] for event in events} == {"aws.sagemaker"}
    assert all(event["resources"] == [pipeline_arn, arn] for event in events)
    changes = [event["detail"] for event in events if event["detail-type"] == EXECUTION]
    assert [
        (each.get("previousPipelineExecutionStatus"), each["currentPipelineExecutionStatus"])
        for each in changes
    ] == [(None, "Executing"), ("Executing", "Failed")]
    assert {each["pipelineExecutionDescription"] for each in changes} == {"a test"}
    assert ["executionEndTime" in each for each in changes] == [False, True]
    taken = [event["detail"] for event in events if event["detail-type"] == STEP]
    assert [
        (each["stepName"], each.get("previousStepStatus"), each["currentStepStatus"]) for each in taken
    ] == [
        ("First", None, "Starting"),
        ("First", "Starting", "Executing"),
        ("First", "Executing", "Succeeded"),
        ("IsFine", None, "Starting"),
        ("IsFine", "Starting", "Succeeded"),
        ("NeedsPerson", None, "Starting"),
        ("NeedsPerson", "Starting", "Failed"),
    ]
    job = pipelines.steps(arn)["First"]["Metadata"]["ProcessingJob"]["Arn"]
    assert taken[2]["metadata"] == {"processingJob": {"arn": job}}
    assert (taken[2]["stepType"], taken[4]["metadata"]) == ("Processing", {"condition": {"outcome": "False"}})
    assert taken[6]["failureReason"] == "not fine"
    assert taken[6]["pipelineExecutionArn"] == arn
