"""The queue of EventBridge's events on model packages and retraining executions."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from prediction_contract.limits import MAX_QUEUE_MESSAGES

_PACKAGE_EVENT = "SageMaker Model Package State Change"
_EXECUTION_EVENT = "SageMaker Model Building Pipeline Execution Status Change"
_MAX_VERSION = 999_999
_PIPELINE = re.compile("arn:[^:]+:sagemaker:[^:]*:[^:]*:pipeline/([^/]+)")


@dataclass(frozen=True, slots=True)
class ModelEvent:
    """One message of the queue. It is only a hint: it may be out of date.

    Attributes:
        message_id: The message's id.
        receipt: The receipt handle that deletes the message.
        resource: The name of the model package group or pipeline; None if the message names neither.
        version: The package's number, if it is about one.
    """

    message_id: str
    receipt: str
    resource: str | None
    version: int | None = None


class ModelEventsQueue:
    """Receives and deletes the queue's messages.

    Args:
        client: A boto3 SQS client.
        url: The queue's address.
    """

    def __init__(self, client: Any, url: str) -> None:
        self._client = client
        self._url = url

    def receive(self) -> list[ModelEvent]:
        """Return up to ten messages without waiting: the next tick comes soon."""
        answer = self._client.receive_message(
            QueueUrl=self._url, MaxNumberOfMessages=MAX_QUEUE_MESSAGES, WaitTimeSeconds=0
        )
        return [
            ModelEvent(message["MessageId"], message["ReceiptHandle"], *event_target(message["Body"]))
            for message in answer.get("Messages", ())
        ]

    def delete(self, events: Sequence[ModelEvent]) -> None:
        """Delete messages. A message that is not deleted comes again, which does no harm."""
        for start in range(0, len(events), MAX_QUEUE_MESSAGES):
            entries = [
                {"Id": str(number), "ReceiptHandle": event.receipt}
                for number, event in enumerate(events[start : start + MAX_QUEUE_MESSAGES])
            ]
            self._client.delete_message_batch(QueueUrl=self._url, Entries=entries)


def event_target(body: str) -> tuple[str | None, int | None]:
    """Return the package group and version, or the pipeline, that an event of SageMaker is about."""
    try:
        event = json.loads(body)
        kind, detail = event["detail-type"], event["detail"]
        if event["source"] != "aws.sagemaker":
            return None, None
        if kind == _PACKAGE_EVENT:
            group, version = detail["ModelPackageGroupName"], detail["ModelPackageVersion"]
            is_version = isinstance(version, int) and 1 <= version <= _MAX_VERSION
            return (group, version) if isinstance(group, str) and is_version else (None, None)
        if kind == _EXECUTION_EVENT and (found := _PIPELINE.fullmatch(detail["pipelineArn"])):
            return found[1], None
    except (ValueError, TypeError, KeyError, RecursionError):
        pass
    return None, None
