"""Tests of executor restarts: executions survive a kill, and can be retried after a shutdown."""

from __future__ import annotations

import json
import random
import time
from typing import TYPE_CHECKING

import pytest

from tests.infra.job_executor.job_stack import eventually
from tests.infra.job_executor.pipeline_stack import (
    GOOD,
    VERDICT_PARAMETER,
    Pipelines,
    processing_step,
    retraining,
)

if TYPE_CHECKING:
    from tests.infra.job_executor.job_stack import Aws, Executor

pytestmark = pytest.mark.stack

_STEPS = ["TrainModel", "JudgeModels", "IsJudged", "IsBetter", "RegisterModel"]


@pytest.fixture
def own(own_executor: Executor, aws: Aws) -> Pipelines:
    """Give pipelines on an executor that the test may kill, with their model package group created."""
    found = Pipelines(own_executor, aws)
    found.create_group()
    return found


def assert_succeeded_once(own: Pipelines, arn: str) -> None:
    """Assert that an execution succeeded, with one job for each step and one package."""
    assert own.end(arn)["PipelineExecutionStatus"] == "Succeeded", own.steps(arn)
    steps = own.steps(arn)
    assert list(steps) == _STEPS
    assert {step["StepStatus"] for step in steps.values()} == {"Succeeded"}
    assert len(own.packages(arn)) == 1
    assert own.jobs(arn, "JudgeModels") == [own.job(arn, "JudgeModels")]
    trained = own.client.list_training_jobs(NameContains=f"pipelines-{arn.rsplit('/', 1)[-1]}")
    assert [job["TrainingJobName"] for job in trained["TrainingJobSummaries"]] == [own.job(arn, "TrainModel")]


@pytest.mark.parametrize("moment", ["at once", "TrainModel", "JudgeModels"])
def test_executions_survive_a_killed_executor(own: Pipelines, aws: Aws, moment: str) -> None:
    """An execution whose executor was killed runs each job once and registers one package."""
    name = own.create(retraining(aws, "killed"), [VERDICT_PARAMETER])
    arn = own.start(name, {"Verdict": json.dumps(GOOD)})
    if moment != "at once":
        own.await_step(arn, moment)
    own.executor.kill()
    own.executor.start()
    assert_succeeded_once(own, arn)


@pytest.mark.drill
@pytest.mark.timeout(1800)
def test_executions_survive_repeated_kills(own: Pipelines, aws: Aws) -> None:
    """Twenty executions succeed, although each is hit by up to three kills at random moments."""
    moments = random.Random(20)
    name = own.create(retraining(aws, "drill"), [VERDICT_PARAMETER])
    for _ in range(20):
        arn = own.start(name, {"Verdict": json.dumps(GOOD)})
        for _ in range(moments.randint(1, 3)):
            begun = moments.choice(_STEPS)
            eventually(lambda arn=arn, begun=begun: begun in own.steps(arn), what=f"{begun} of {arn} begins")
            time.sleep(moments.uniform(0, 1.5))
            own.executor.kill()
            own.executor.start()
        assert_succeeded_once(own, arn)


def test_shutdown_fails_executions_that_can_be_retried(own: Pipelines, aws: Aws) -> None:
    """A shutdown fails the running step with that reason, and a retry resumes at that step."""
    first = processing_step(aws, "First", "")
    # Long enough to be interrupted, and short enough to run a second time.
    second = processing_step(aws, "Second", "import time; time.sleep(8)", DependsOn=["First"])
    arn = own.start(own.create([first, second]))
    own.await_step(arn, "Second")
    assert own.executor.stop() == 0
    own.executor.start()
    ended = own.end(arn)
    assert ended["PipelineExecutionStatus"] == "Failed"
    steps = own.steps(arn)
    assert (steps["First"]["StepStatus"], steps["Second"]["StepStatus"]) == ("Succeeded", "Failed")
    assert "executor was shut down" in steps["Second"]["FailureReason"]
    own.client.retry_pipeline_execution(PipelineExecutionArn=arn)
    assert own.end(arn)["PipelineExecutionStatus"] == "Succeeded", own.steps(arn)
    assert len(own.jobs(arn, "First")) == 1
