"""Package groups, retraining pipelines and schedules of the local stack are created and repaired."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from typing import TYPE_CHECKING, Any

import pytest

from infra.definitions import pipeline_definitions
from infra.local.job_executor.aws_access import AwsAccess
from infra.local.job_executor.executor_settings import ExecutorSettings
from infra.local.job_executor.sagemaker.schedules import ScheduleClock
from infra.local.provisioning.provisioned_registry import ensure_package_group, ensure_pipelines
from infra.provisioned_models import provisioned_models
from model_declaration.declared_models import deployable_names
from tests.infra.local_servers import DEPLOYMENT
from tests.infra.sagemaker_models import HOURLY, LEAST, write_models
from tests.projects import EXAMPLE
from tests.stack_runs import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from infra.definitions.pipeline_definitions import PipelineDefinition
    from infra.local.provisioning.clients import Clients

pytestmark = [pytest.mark.stack, pytest.mark.usefixtures("variables")]

DIGEST = "ab" * 32
STOP_SECONDS = 60
SCHEDULED, UNSCHEDULED = (DEPLOYMENT.retraining_pipeline(model) for model in (HOURLY, LEAST))


@pytest.fixture
def provisioned(clients: Clients, tmp_path: Path) -> Iterator[Provisioned]:
    """Give an empty provisioner for two models, one with a schedule, and clean up afterwards."""
    found = Provisioned(clients, tmp_path)
    yield found
    found.remove()


class Provisioned:
    """Provisions pipelines of a test's own project on the session's servers.

    Args:
        clients: Clients of the servers.
        folder: The folder for the project.
    """

    def __init__(self, clients: Clients, folder: Path) -> None:
        self.sagemaker, self.scheduler = clients.client("sagemaker"), clients.client("scheduler")
        models = provisioned_models(write_models(folder / "project"))
        self._retrained = {each.name: each.retrained for each in models if each.retrained is not None}

    def ensure(self, *models: str, digest: str = DIGEST, **changes: Any) -> list[PipelineDefinition]:
        """Provision the pipelines of models and return their definitions."""
        declared = [self._retrained[model] for model in models]
        found = [
            dataclasses.replace(
                pipeline_definitions.retraining(DEPLOYMENT, each, code_digest=digest), **changes
            )
            for each in declared
        ]
        prefix = DEPLOYMENT.retraining_pipelines_prefix
        ensure_pipelines(self.sagemaker, self.scheduler, found, prefix=prefix)
        return found

    def state(self) -> dict[str, Any]:
        """Return the test's pipelines and schedules as provisioned, without the session's own pipelines."""
        # SageMaker refuses a prefix that ends in a hyphen.
        prefix = DEPLOYMENT.retraining_pipelines_prefix.removesuffix("-")
        listed = self.sagemaker.list_pipelines(PipelineNamePrefix=prefix)
        return {
            "pipelines": [
                _without_answer(self.sagemaker.describe_pipeline(PipelineName=each["PipelineName"]))
                for each in listed["PipelineSummaries"]
                if each["PipelineName"] in {SCHEDULED, UNSCHEDULED}
            ],
            "schedules": [
                _without_answer(self.scheduler.get_schedule(Name=name)) for name in self.schedules()
            ],
        }

    def schedules(self) -> list[str]:
        """Return the names of the retraining schedules."""
        found = self.scheduler.list_schedules(NamePrefix=DEPLOYMENT.retraining_pipelines_prefix)
        return [each["Name"] for each in found["Schedules"]]

    def definition(self, pipeline: str) -> str:
        """Return a pipeline's current definition."""
        return self.sagemaker.describe_pipeline(PipelineName=pipeline)["PipelineDefinition"]

    def stop(self, execution: str) -> None:
        """Stop an execution and wait for its end."""
        self.sagemaker.stop_pipeline_execution(PipelineExecutionArn=execution)
        wait_until(
            lambda: self._status(execution) not in {"Executing", "Stopping"},
            seconds=STOP_SECONDS,
            what=f"{execution} ends",
        )

    def _status(self, execution: str) -> str:
        found = self.sagemaker.describe_pipeline_execution(PipelineExecutionArn=execution)
        return found["PipelineExecutionStatus"]

    def remove(self) -> None:
        """Delete the test's schedules and pipelines."""
        for name in self.schedules():
            self.scheduler.delete_schedule(Name=name)
        for pipeline in self.state()["pipelines"]:
            self.sagemaker.delete_pipeline(PipelineName=pipeline["PipelineName"])


def _without_answer(answer: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in answer.items() if name != "ResponseMetadata"}


def test_provisioning_pipelines_again_changes_nothing(provisioned: Provisioned) -> None:
    """Pipelines have the CDK's definition, and only the scheduled model has a schedule."""
    wanted = provisioned.ensure(HOURLY, LEAST)
    before = provisioned.state()
    provisioned.ensure(HOURLY, LEAST)

    assert provisioned.state() == before
    assert {each.name: each.body for each in wanted} == {
        name: provisioned.definition(name) for name in (SCHEDULED, UNSCHEDULED)
    }
    assert provisioned.schedules() == [SCHEDULED]
    (schedule,) = before["schedules"]
    assert (schedule["State"], schedule["ScheduleExpression"]) == ("ENABLED", "cron(40 5 ? * 2 *)")
    assert schedule["Target"]["RoleArn"] == DEPLOYMENT.role_arn(DEPLOYMENT.retraining_schedule_role)
    assert schedule["Target"]["DeadLetterConfig"]["Arn"] == DEPLOYMENT.dead_letter_queue_arn


def test_new_code_updates_pipeline_definition(provisioned: Provisioned) -> None:
    """Later executions run the code that was uploaded last."""
    provisioned.ensure(HOURLY)
    provisioned.ensure(HOURLY, digest="cd" * 32)
    assert "cd" * 32 in provisioned.definition(SCHEDULED)
    assert DIGEST not in provisioned.definition(SCHEDULED)


def test_manual_changes_are_repaired(provisioned: Provisioned) -> None:
    """A role, a definition and a schedule that were changed by hand are restored."""
    provisioned.ensure(HOURLY)
    (before,) = provisioned.state()["schedules"]
    step = {"Name": "End", "Type": "Fail", "Arguments": {"ErrorMessage": "changed by hand"}}
    other = {"Version": "2020-12-01", "Metadata": {}, "Parameters": [], "Steps": [step]}
    provisioned.sagemaker.update_pipeline(
        PipelineName=SCHEDULED,
        RoleArn=DEPLOYMENT.role_arn(DEPLOYMENT.scoring_pipeline_role),
        PipelineDefinition=json.dumps(other),
    )
    changed = {name: before[name] for name in ("ScheduleExpression", "FlexibleTimeWindow", "Target")}
    provisioned.scheduler.update_schedule(Name=SCHEDULED, State="DISABLED", **changed)

    (wanted,) = provisioned.ensure(HOURLY)

    found = provisioned.sagemaker.describe_pipeline(PipelineName=SCHEDULED)
    assert (found["RoleArn"], found["PipelineDefinition"]) == (wanted.role_arn, wanted.body)
    (schedule,) = provisioned.state()["schedules"]
    assert (schedule["State"], schedule["Description"]) == ("ENABLED", before["Description"])


def test_undeclared_schedule_is_deleted(provisioned: Provisioned) -> None:
    """The pipeline stays, so that people can still start it."""
    provisioned.ensure(HOURLY)
    provisioned.ensure(HOURLY, schedule=None)
    assert provisioned.schedules() == []
    assert provisioned.definition(SCHEDULED)


def test_schedule_starts_pipeline_once_per_tick(
    provisioned: Provisioned, clients: Clients, tmp_path: Path
) -> None:
    """The request carries the tick's time, and repeating it returns the same execution."""
    provisioned.ensure(HOURLY)
    started: list[dict[str, Any]] = []
    settings = ExecutorSettings(
        port=0,
        state_dir=tmp_path,
        aws_endpoint_url=clients.aws,
        access_key_id="test",
        secret_access_key="test",
        enforce_iam=True,
    )
    clock = ScheduleClock(
        settings,
        AwsAccess(settings),
        lambda body: started.append(json.loads(body)) or b"{}",
        since=dt.datetime(2013, 2, 4, 5, 39, tzinfo=dt.UTC),
    )
    clock.look(dt.datetime(2013, 2, 4, 5, 40, 2, tzinfo=dt.UTC))

    (request,) = started
    assert request["PipelineName"] == SCHEDULED
    assert {"Name": "ScheduledAt", "Value": "2013-02-04T05:40:00Z"} in request["PipelineParameters"]
    execution = provisioned.sagemaker.start_pipeline_execution(**request)["PipelineExecutionArn"]
    again = provisioned.sagemaker.start_pipeline_execution(**request)["PipelineExecutionArn"]
    provisioned.stop(execution)
    assert again == execution


def test_every_model_has_pipeline_and_package_group(clients: Clients) -> None:
    """A package group's policy is restored after it was deleted."""
    sagemaker = clients.client("sagemaker")
    models = deployable_names(EXAMPLE.defs)
    for model in models:
        sagemaker.describe_model_package_group(ModelPackageGroupName=DEPLOYMENT.model_package_group(model))
        sagemaker.describe_pipeline(PipelineName=DEPLOYMENT.retraining_pipeline(model))
    group = pipeline_definitions.package_group(DEPLOYMENT, models[0])
    sagemaker.delete_model_package_group_policy(ModelPackageGroupName=group.name)

    ensure_package_group(sagemaker, group)

    policy = sagemaker.get_model_package_group_policy(ModelPackageGroupName=group.name)["ResourcePolicy"]
    assert json.loads(policy) == group.policy
