"""Events for Dagster's sensors: rules that send them to queues, and the dead-letter queue."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infra.capabilities.data.queues import add_feeding_rule, add_queue
from infra.definitions.resource_definitions import (
    dead_letter_queue,
    done_file_pattern,
    done_file_queue,
    model_events_pattern,
    model_events_policy_statement,
    model_events_queue,
    queue_policy_statement,
)

if TYPE_CHECKING:
    import aws_cdk as cdk
    from aws_cdk import aws_sqs as sqs

    from prediction_contract.naming.resource_names import Deployment


def add_dead_letters(stack: cdk.Stack, deployment: Deployment) -> sqs.CfnQueue:
    """Add the queue of messages that no sensor could handle or no rule could deliver."""
    # SQS itself moves messages that were received too often. Rules need these statements to send.
    arn = deployment.dead_letter_queue_arn
    senders = [queue_policy_statement(deployment, arn), model_events_policy_statement(deployment, arn)]
    return add_queue(stack, "DeadLetters", dead_letter_queue(deployment), *senders, arn=arn)


def add_done_file_events(stack: cdk.Stack, deployment: Deployment, dead: sqs.CfnQueue) -> None:
    """Add the queue of done-file events and its rule."""
    queue = add_queue(
        stack,
        "DoneFiles",
        done_file_queue(deployment),
        queue_policy_statement(deployment),
        arn=deployment.done_file_queue_arn,
        dead=dead,
    )
    add_feeding_rule(
        stack,
        "DoneFileRule",
        name=deployment.done_file_rule,
        description="Sends events of done files to Dagster's sensor",
        pattern=done_file_pattern(deployment),
        target_id="done-file-queue",
        queue=queue,
        dead=dead,
    )


def add_model_events(stack: cdk.Stack, deployment: Deployment, dead: sqs.CfnQueue) -> None:
    """Add the queue of events of model packages and retrainings, and its rule."""
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
