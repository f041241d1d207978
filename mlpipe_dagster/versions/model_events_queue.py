"""The queue of model events: what EventBridge passes on of model packages and retraining executions."""

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
    """One message of the queue. It is a hint only: what it says may be old.

    Attributes:
        message_id: The message's id.
        receipt: By which it is deleted.
        resource: The model package group or the pipeline that it is about; None if it tells of neither.
        version: The package's number, if it is about one.
    """

    message_id: str
    receipt: str
    resource: str | None
    version: int | None = None


class ModelEventsQueue:
    """The queue, read and emptied.

    Args:
        client: A boto3 SQS client.
        url: The queue's address.
    """

    def __init__(self, client: Any, url: str) -> None:
        self._client = client
        self._url = url

    def receive(self) -> list[ModelEvent]:
        """Return up to ten messages, without waiting for any: the next tick is near."""
        answer = self._client.receive_message(
            QueueUrl=self._url, MaxNumberOfMessages=MAX_QUEUE_MESSAGES, WaitTimeSeconds=0
        )
        return [
            ModelEvent(message["MessageId"], message["ReceiptHandle"], *event_target(message["Body"]))
            for message in answer.get("Messages", ())
        ]

    def delete(self, events: Sequence[ModelEvent]) -> None:
        """Delete messages; one that the queue does not let go comes again, and changes nothing then."""
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
