"""Queues with their policies, and the rules that send to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aws_cdk as cdk
from aws_cdk import aws_events as events
from aws_cdk import aws_sqs as sqs

from infra.definitions.resource_definitions import tls_only_statement
from infra.permissions.policy_statements import POLICY_VERSION, Statement

if TYPE_CHECKING:
    from infra.definitions.resource_definitions import QueueDefinition


def add_queue(
    stack: cdk.Stack,
    construct_id: str,
    queue: QueueDefinition,
    *senders: Statement,
    arn: str,
    dead: sqs.CfnQueue | None = None,
) -> sqs.CfnQueue:
    """Add a queue with its policy, and return it.

    Args:
        stack: The stack to add to.
        construct_id: The construct's id in the stack.
        queue: The queue's definition.
        senders: Policy statements that let rules send to it.
        arn: The queue's ARN.
        dead: Its dead-letter queue.
    """
    redrive: dict[str, Any] | None = None
    if dead is not None:
        redrive = {"deadLetterTargetArn": dead.attr_arn, "maxReceiveCount": queue.max_receives}
    added = sqs.CfnQueue(
        stack,
        construct_id,
        queue_name=queue.name,
        visibility_timeout=queue.visibility_timeout_seconds,
        message_retention_period=queue.retention_seconds,
        sqs_managed_sse_enabled=queue.sse_managed,
        redrive_policy=redrive,
    )
    added.apply_removal_policy(cdk.RemovalPolicy.RETAIN)
    document = {"Version": POLICY_VERSION, "Statement": [*senders, tls_only_statement("sqs", arn)]}
    sqs.CfnQueuePolicy(stack, f"{construct_id}Policy", queues=[added.ref], policy_document=document)
    return added


def add_feeding_rule(
    stack: cdk.Stack,
    construct_id: str,
    *,
    name: str,
    description: str,
    pattern: dict[str, Any],
    target_id: str,
    queue: sqs.CfnQueue,
    dead: sqs.CfnQueue,
) -> None:
    """Add a rule on the default bus that sends the events of a pattern to a queue.

    Args:
        stack: The stack to add to.
        construct_id: The construct's id in the stack.
        name: The rule's name.
        description: The rule's description, for people.
        pattern: The EventBridge pattern of the events.
        target_id: The id of the queue among the rule's targets.
        queue: The queue.
        dead: The dead-letter queue for events that the rule cannot deliver.
    """
    events.CfnRule(
        stack,
        construct_id,
        name=name,
        description=description,
        event_pattern=pattern,
        targets=[
            events.CfnRule.TargetProperty(
                id=target_id,
                arn=queue.attr_arn,
                dead_letter_config=events.CfnRule.DeadLetterConfigProperty(arn=dead.attr_arn),
            )
        ],
    )
