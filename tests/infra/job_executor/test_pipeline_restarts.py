"""Restarts amid executions: a kill goes unnoticed, a graceful end is reported and can be retried."""

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
    """Give pipelines on an executor that the test may kill, and a group to register in."""
    found = Pipelines(own_executor, aws)
    found.create_group()
    return found


def check(own: Pipelines, arn: str) -> None:
    """Make sure that an execution went its way once."""
    assert own.end(arn)["PipelineExecutionStatus"] == "Succeeded", own.steps(arn)
    steps = own.steps(arn)
    assert list(steps) == _STEPS
    assert {step["StepStatus"] for step in steps.values()} == {"Succeeded"}
    assert len(own.packages(arn)) == 1
    assert own.jobs(arn, "JudgeModels") == [own.job(arn, "JudgeModels")]
    trained = own.client.list_training_jobs(NameContains=f"pipelines-{arn.rsplit('/', 1)[-1]}")
    assert [job["TrainingJobName"] for job in trained["TrainingJobSummaries"]] == [own.job(arn, "TrainModel")]


@pytest.mark.parametrize("moment", ["at once", "TrainModel", "JudgeModels"])
def test_a_killed_executor_goes_on_with_its_executions(own: Pipelines, aws: Aws, moment: str) -> None:
    """Right after the start, and while a job runs: each job ran once, one package is there."""
    name = own.create(retraining(aws, "killed"), [VERDICT_PARAMETER])
    arn = own.start(name, {"Verdict": json.dumps(GOOD)})
    if moment != "at once":
        own.await_step(arn, moment)
    own.executor.kill()
    own.executor.start()
    check(own, arn)


@pytest.mark.drill
@pytest.mark.timeout(1800)
def test_kills_at_any_moment_go_unnoticed(own: Pipelines, aws: Aws) -> None:
    """Twenty executions, each hit by up to three kills at random moments of random steps."""
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
        check(own, arn)


def test_a_graceful_end_fails_executions_which_a_retry_takes_up(own: Pipelines, aws: Aws) -> None:
    """The jobs end with the executor; the execution says why, and goes on at the step that was cut off."""
    first = processing_step(aws, "First", "")
    # Long enough to be cut off, and short enough for a second time.
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
