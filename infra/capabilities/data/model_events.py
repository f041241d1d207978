"""Events of model packages and retrainings: a rule that sends them to a queue."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infra.capabilities.data.queues import add_feeding_rule, add_queue
from infra.definitions.resource_definitions import (
    model_events_pattern,
    model_events_policy_statement,
    model_events_queue,
)

if TYPE_CHECKING:
    import aws_cdk as cdk
    from aws_cdk import aws_sqs as sqs

    from prediction_contract.naming.resource_names import Deployment


def add_model_events(stack: cdk.Stack, deployment: Deployment, dead: sqs.CfnQueue) -> None:
    """Add the queue and the rule."""
    queue = add_queue(
        stack,
        "ModelEvents",
        model_events_queue(deployment),
        model_events_policy_statement(deployment),
        arn=deployment.model_events_queue_arn,
        dead=dead,
    )
    add_feeding_rule(
        stack,
        "ModelEventsRule",
        name=deployment.model_events_rule,
        description="Sends events of model packages and retrainings to Dagster's sensor",
        pattern=model_events_pattern(deployment),
        target_id="model-events-queue",
        queue=queue,
        dead=dead,
    )
