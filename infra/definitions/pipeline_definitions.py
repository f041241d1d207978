"""SageMaker pipelines, their schedules, and the package groups of models."""

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

# A tick that SageMaker did not accept within an hour goes to the dead letters: the next tick may be due.
_MAX_EVENT_AGE_SECONDS = 3_600
_MAX_RETRIES = 30


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PackageGroupDefinition:
    """The package group of a model's versions; it outlives its model.

    Args:
        name: The group's name.
        description: A description for people.
        policy: Its resource policy.
    """

    name: str
    description: str
    policy: dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleDefinition:
    """A schedule that starts a pipeline with the tick's time as a parameter.

    Args:
        description: A description for people.
        expression: The schedule in UTC, in EventBridge Scheduler's syntax.
        running: Whether the schedule is enabled.
        role_arn: The role with which it calls SageMaker.
        target_arn: The ARN of the called operation.
        request: The operation's request.
        dead_letter_arn: The queue for ticks that SageMaker did not accept.
    """

    description: str
    expression: str
    running: bool
    role_arn: str
    target_arn: str
    request: dict[str, Any]
    dead_letter_arn: str
    max_event_age_seconds: int = _MAX_EVENT_AGE_SECONDS
    max_retries: int = _MAX_RETRIES

    @property
    def state(self) -> str:
        """The schedule's state as EventBridge Scheduler names it."""
        return "ENABLED" if self.running else "DISABLED"

    @property
    def input(self) -> str:
        """The request as JSON text."""
        return json.dumps(self.request)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PipelineDefinition:
    """A SageMaker pipeline.

    Args:
        model: The name of the model.
        purpose: The pipeline's purpose; its CDK construct ids begin with it.
        name: The name of the pipeline and of its schedule.
        description: A description for people.
        role_arn: The role with which the pipeline starts its jobs.
        document: The parameters and steps.
        schedule: The schedule that starts it, if there is one; people and Dagster can start it as well.
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
        """The document as JSON text."""
        return json.dumps(self.document)


def package_group(deployment: Deployment, model: str) -> PackageGroupDefinition:
    """Return the package group of a model's versions."""
    return PackageGroupDefinition(
        name=deployment.model_package_group(model),
        description=f"Trained models of {model}",
        policy=package_group_policy(deployment, model),
    )


def scoring(deployment: Deployment, model: ModelDeclaration, *, code_digest: str) -> PipelineDefinition:
    """Return the pipeline of a model that SageMaker itself scores.

    Args:
        deployment: The names and ARNs of the stage in its region.
        model: A model that SageMaker scores.
        code_digest: SHA-256 of the code that jobs run.
    """
    name = deployment.scoring_pipeline(model.name)
    return PipelineDefinition(
        model=model.name,
        purpose="Scoring",
        name=name,
        description=f"Scores the partition of {model.name} that the schedule requests",
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
    """Return the pipeline that retrains a model, with a schedule if one is declared.

    Args:
        deployment: The names and ARNs of the stage in its region.
        model: A model whose declaration has `training`.
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
        description=f"Trains {model.name}, compares it with the champion and registers it",
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
        # Shared with messages that the sensor could not handle, so that one alarm covers both.
        dead_letter_arn=deployment.dead_letter_queue_arn,
    )
