"""SageMaker's pipelines, the schedules that start them, and the groups of the models that they register."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any, Literal

from infra.definitions import retraining_definition, scoring_pipeline
from infra.definitions.resource_definitions import package_group_policy
from model_declaration.cron import scheduler_cron

if TYPE_CHECKING:
    from model_declaration.declaration import ModelDeclaration
    from prediction_contract.naming.resource_names import Deployment

# A tick that SageMaker did not take within an hour is kept for people: the next hour's may be due.
_PATIENCE_SECONDS = 3_600
_MAX_RETRIES = 30


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PackageGroupDefinition:
    """The group that a model's versions are registered in; it outlives its model.

    Args:
        name: The group's name.
        description: For people.
        policy: Its resource policy.
    """

    name: str
    description: str
    policy: dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleDefinition:
    """What starts a pipeline, and tells it the moment of its tick.

    Args:
        description: For people.
        expression: When, in UTC, as EventBridge Scheduler takes it.
        running: Whether it starts anything.
        role_arn: By which role.
        target_arn: The operation that it calls.
        request: What it calls it with.
        dead_letter_arn: Where a tick goes that SageMaker did not take.
    """

    description: str
    expression: str
    running: bool
    role_arn: str
    target_arn: str
    request: dict[str, Any]
    dead_letter_arn: str
    patience_seconds: int = _PATIENCE_SECONDS
    max_retries: int = _MAX_RETRIES

    @property
    def state(self) -> str:
        """Its state as EventBridge Scheduler names it."""
        return "ENABLED" if self.running else "DISABLED"

    @property
    def input(self) -> str:
        """The request as text."""
        return json.dumps(self.request)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PipelineDefinition:
    """A pipeline of SageMaker.

    Args:
        model: Whose.
        purpose: What it does, which its ids in a stack begin with.
        name: The pipeline's name, and its schedule's.
        description: For people.
        role_arn: The role by which it starts its jobs.
        document: Its parameters and steps.
        schedule: What starts it beside people and Dagster, if anything.
    """

    model: str
    purpose: Literal["Scoring", "Retraining"]
    name: str
    description: str
    role_arn: str
    document: dict[str, Any]
    schedule: ScheduleDefinition | None = None

    @property
    def body(self) -> str:
        """The document as text."""
        return json.dumps(self.document)


def package_group(deployment: Deployment, model: str) -> PackageGroupDefinition:
    """Return the group of a model's versions."""
    return PackageGroupDefinition(
        name=deployment.model_package_group(model),
        description=f"Trained models of {model}",
        policy=package_group_policy(deployment, model),
    )


def scoring(deployment: Deployment, model: ModelDeclaration, *, code_digest: str) -> PipelineDefinition:
    """Return the pipeline of a model that SageMaker itself scores.

    Args:
        deployment: Where.
        model: One that SageMaker scores.
        code_digest: SHA-256 of the code that jobs run.
    """
    name = deployment.scoring_pipeline(model.name)
    return PipelineDefinition(
        model=model.name,
        purpose="Scoring",
        name=name,
        description=f"Scores the partition of {model.name} that is due",
        role_arn=deployment.role_arn(deployment.scoring_pipeline_role),
        document=scoring_pipeline.pipeline_definition(deployment, model, code_digest=code_digest),
        schedule=_schedule(
            deployment,
            description=f"Starts the scoring of {model.name}",
            cron=model.schedule.cron_of(model.partitions),
            running=model.schedule.running,
            role=deployment.scoring_schedule_role,
            request=scoring_pipeline.start_request(name),
        ),
    )


def retraining(deployment: Deployment, model: ModelDeclaration, *, code_digest: str) -> PipelineDefinition:
    """Return the pipeline that retrains a model, with a schedule where one is declared.

    Args:
        deployment: Where.
        model: One that declares what it learns from.
        code_digest: SHA-256 of the code that jobs run.
    """
    name = deployment.retraining_pipeline(model.name)
    cron = None if model.retraining is None else model.retraining.schedule
    schedule = cron and _schedule(
        deployment,
        description=f"Starts the retraining of {model.name}",
        cron=cron,
        running=True,
        role=deployment.retraining_schedule_role,
        request=retraining_definition.start_request(name),
    )
    return PipelineDefinition(
        model=model.name,
        purpose="Retraining",
        name=name,
        description=f"Trains {model.name}, judges it beside its champion and registers it",
        role_arn=deployment.role_arn(deployment.retraining_pipeline_role),
        document=retraining_definition.pipeline_definition(deployment, model, code_digest=code_digest),
        schedule=schedule or None,
    )


def _schedule(
    deployment: Deployment, *, description: str, cron: str, running: bool, role: str, request: dict[str, Any]
) -> ScheduleDefinition:
    return ScheduleDefinition(
        description=description,
        expression=scheduler_cron(cron),
        running=running,
        role_arn=deployment.role_arn(role),
        target_arn=f"arn:{deployment.partition}:scheduler:::aws-sdk:sagemaker:startPipelineExecution",
        request=request,
        # Beside what the sensor could not handle: one alarm tells of both.
        dead_letter_arn=deployment.dead_letter_queue_arn,
    )
