"""A pipeline of SageMaker's own for a model that it scores, and the schedule that starts it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from aws_cdk import aws_sagemaker as sagemaker
from aws_cdk import aws_scheduler as scheduler

from infra.definitions.scoring_pipeline import pipeline_definition, start_request
from model_declaration.cron import scheduler_cron
from prediction_contract.naming.resource_names import model_name_stem

if TYPE_CHECKING:
    import aws_cdk as cdk

    from model_declaration.declaration import ModelDeclaration
    from prediction_contract.naming.resource_names import Deployment

# A tick that SageMaker did not take within an hour is kept for people: the next hour's may be due.
_PATIENCE_SECONDS = 3_600
_MAX_RETRIES = 30


def add_scoring_schedule(
    stack: cdk.Stack,
    deployment: Deployment,
    model: ModelDeclaration,
    *,
    code_digest: str,
) -> sagemaker.CfnPipeline:
    """Add both, and return the pipeline.

    Args:
        stack: Whose.
        deployment: Where.
        model: One that SageMaker scores.
        code_digest: SHA-256 of the code that jobs run.
    """
    name = deployment.scoring_pipeline(model.name)
    definition = pipeline_definition(deployment, model, code_digest=code_digest)
    pipeline = sagemaker.CfnPipeline(
        stack,
        f"Scoring-{model_name_stem(model.name)}",
        pipeline_name=name,
        pipeline_description=f"Scores the partition of {model.name} that is due",
        pipeline_definition={"PipelineDefinitionBody": json.dumps(definition)},
        role_arn=deployment.role_arn(deployment.scoring_pipeline_role),
    )
    schedule = scheduler.CfnSchedule
    added = schedule(
        stack,
        f"ScoringSchedule-{model_name_stem(model.name)}",
        name=name,
        description=f"Starts the scoring of {model.name}",
        schedule_expression=scheduler_cron(model.schedule.cron_of(model.partitions)),
        schedule_expression_timezone="UTC",
        flexible_time_window=schedule.FlexibleTimeWindowProperty(mode="OFF"),
        state="ENABLED" if model.schedule.running else "DISABLED",
        target=schedule.TargetProperty(
            arn=f"arn:{deployment.partition}:scheduler:::aws-sdk:sagemaker:startPipelineExecution",
            role_arn=deployment.role_arn(deployment.scoring_schedule_role),
            input=json.dumps(start_request(name)),
            retry_policy=schedule.RetryPolicyProperty(
                maximum_event_age_in_seconds=_PATIENCE_SECONDS, maximum_retry_attempts=_MAX_RETRIES
            ),
            # Beside what the sensor could not handle: one alarm tells of both.
            dead_letter_config=schedule.DeadLetterConfigProperty(arn=deployment.dead_letter_queue_arn),
        ),
    )
    added.add_resource_dependency(pipeline)
    return pipeline
