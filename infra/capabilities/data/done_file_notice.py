"""The notice of done files: a rule that feeds a queue, whose dead letters are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aws_cdk as cdk
from aws_cdk import aws_events as events
from aws_cdk import aws_sqs as sqs

from infra.definitions.resource_definitions import (
    QueueDefinition,
    dead_letter_queue,
    done_file_pattern,
    done_file_queue,
    queue_policy_statement,
    tls_only_statement,
)
from infra.permissions.policy_statements import POLICY_VERSION, Statement

if TYPE_CHECKING:
    from prediction_contract.naming.resource_names import Deployment


def add_done_file_notice(stack: cdk.Stack, deployment: Deployment) -> None:
    """Add both queues and the rule."""
    dead = _queue(stack, "DeadLetters", dead_letter_queue(deployment))
    _policy(
        stack,
        "DeadLettersPolicy",
        dead,
        # SQS moves what was received too often by itself; the rule asks for leave, and is not heard without.
        queue_policy_statement(deployment, deployment.dead_letter_queue_arn),
        tls_only_statement("sqs", deployment.dead_letter_queue_arn),
    )
    queue = _queue(stack, "DoneFiles", done_file_queue(deployment), dead)
    _policy(
        stack,
        "DoneFilesPolicy",
        queue,
        queue_policy_statement(deployment),
        tls_only_statement("sqs", deployment.done_file_queue_arn),
    )
    events.CfnRule(
        stack,
        "DoneFileRule",
        name=deployment.done_file_rule,
        description="Tells the sensor of done files",
        event_pattern=done_file_pattern(deployment),
        targets=[
            events.CfnRule.TargetProperty(
                id="done-file-queue",
                arn=queue.attr_arn,
                # What the rule cannot deliver lands beside what the sensor could not handle.
                dead_letter_config=events.CfnRule.DeadLetterConfigProperty(arn=dead.attr_arn),
            )
        ],
    )


def _queue(
    stack: cdk.Stack, construct_id: str, queue: QueueDefinition, dead: sqs.CfnQueue | None = None
) -> sqs.CfnQueue:
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
    return added


def _policy(stack: cdk.Stack, construct_id: str, queue: sqs.CfnQueue, *statements: Statement) -> None:
    document = {"Version": POLICY_VERSION, "Statement": list(statements)}
    sqs.CfnQueuePolicy(stack, construct_id, queues=[queue.ref], policy_document=document)
