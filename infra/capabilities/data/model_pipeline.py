"""A SageMaker pipeline that scores or retrains a model, and the schedule that starts it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import aws_sagemaker as sagemaker
from aws_cdk import aws_scheduler as scheduler

from prediction_contract.naming.resource_names import model_name_stem

if TYPE_CHECKING:
    import aws_cdk as cdk

    from infra.definitions.pipeline_definitions import PipelineDefinition, ScheduleDefinition


def add_pipeline(stack: cdk.Stack, definition: PipelineDefinition) -> sagemaker.CfnPipeline:
    """Add the pipeline and its schedule, if it has one, and return the pipeline.

    Args:
        stack: The stack to add to.
        definition: The definition of the pipeline and its schedule.
    """
    stem = model_name_stem(definition.model)
    pipeline = sagemaker.CfnPipeline(
        stack,
        f"{definition.purpose}-{stem}",
        pipeline_name=definition.name,
        pipeline_description=definition.description,
        pipeline_definition={"PipelineDefinitionBody": definition.body},
        role_arn=definition.role_arn,
    )
    if definition.schedule is not None:
        _add_schedule(pipeline, f"{definition.purpose}Schedule-{stem}", definition.schedule)
    return pipeline


def _add_schedule(pipeline: sagemaker.CfnPipeline, construct_id: str, definition: ScheduleDefinition) -> None:
    schedule = scheduler.CfnSchedule
    added = schedule(
        pipeline.stack,
        construct_id,
        name=pipeline.pipeline_name,
        description=definition.description,
        schedule_expression=definition.expression,
        schedule_expression_timezone="UTC",
        flexible_time_window=schedule.FlexibleTimeWindowProperty(mode="OFF"),
        state=definition.state,
        target=schedule.TargetProperty(
            arn=definition.target_arn,
            role_arn=definition.role_arn,
            input=definition.input,
            retry_policy=schedule.RetryPolicyProperty(
                maximum_event_age_in_seconds=definition.max_event_age_seconds,
                maximum_retry_attempts=definition.max_retries,
            ),
            dead_letter_config=schedule.DeadLetterConfigProperty(arn=definition.dead_letter_arn),
        ),
    )
    added.add_resource_dependency(pipeline)
