"""The schedule that starts a pipeline of SageMaker, and tells it the moment of its tick."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from aws_cdk import aws_scheduler as scheduler

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aws_cdk import aws_sagemaker as sagemaker

    from prediction_contract.naming.resource_names import Deployment

# A tick that SageMaker did not take within an hour is kept for people: the next hour's may be due.
_PATIENCE_SECONDS = 3_600
_MAX_RETRIES = 30


def add_pipeline_schedule(
    pipeline: sagemaker.CfnPipeline,
    construct_id: str,
    deployment: Deployment,
    *,
    description: str,
    expression: str,
    role: str,
    request: Mapping[str, Any],
    runs: bool = True,
) -> None:
    """Add the schedule to the pipeline's stack, under the pipeline's name.

    Args:
        pipeline: What it starts.
        construct_id: Its id in the stack.
        deployment: Where.
        description: For people.
        expression: When, in UTC.
        role: By which role it starts it.
        request: What it sends to SageMaker.
        runs: Whether it runs from the start.
    """
    schedule = scheduler.CfnSchedule
    added = schedule(
        pipeline.stack,
        construct_id,
        name=pipeline.pipeline_name,
        description=description,
        schedule_expression=expression,
        schedule_expression_timezone="UTC",
        flexible_time_window=schedule.FlexibleTimeWindowProperty(mode="OFF"),
        state="ENABLED" if runs else "DISABLED",
        target=schedule.TargetProperty(
            arn=f"arn:{deployment.partition}:scheduler:::aws-sdk:sagemaker:startPipelineExecution",
            role_arn=deployment.role_arn(role),
            input=json.dumps(request),
            retry_policy=schedule.RetryPolicyProperty(
                maximum_event_age_in_seconds=_PATIENCE_SECONDS, maximum_retry_attempts=_MAX_RETRIES
            ),
            # Beside what the sensor could not handle: one alarm tells of both.
            dead_letter_config=schedule.DeadLetterConfigProperty(arn=deployment.dead_letter_queue_arn),
        ),
    )
    added.add_resource_dependency(pipeline)
