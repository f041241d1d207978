"""The queue of S3's events on done files, which EventBridge delivers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from prediction_contract.limits import MAX_QUEUE_MESSAGES


@dataclass(frozen=True, slots=True)
class DoneFileMessage:
    """One message of the queue.

    Attributes:
        message_id: The message's id.
        receipt: The receipt handle that deletes the message.
        key: The done file's key; None if the message is not about an object of our bucket.
    """

    message_id: str
    receipt: str
    key: str | None


class DoneFileQueue:
    """Receives and deletes messages of the queue of done files.

    The tick that processes a file never deletes its message, because that tick may be lost. The message is
    deleted when it comes again. The queue hides a message for twice a tick's longest duration, and moves one
    that is never deleted to the dead-letter queue.

    Args:
        client: A boto3 SQS client.
        url: The queue's address.
        bucket: The data bucket's name.
    """

    def __init__(self, client: Any, url: str, bucket: str) -> None:
        self._client = client
        self._url = url
        self._bucket = bucket

    def receive(self) -> list[DoneFileMessage]:
        """Return up to ten messages without waiting: the next tick comes soon."""
        answer = self._client.receive_message(
            QueueUrl=self._url, MaxNumberOfMessages=MAX_QUEUE_MESSAGES, WaitTimeSeconds=0
        )
        return [
            DoneFileMessage(
                message["MessageId"], message["ReceiptHandle"], done_file_key(message["Body"], self._bucket)
            )
            for message in answer.get("Messages", ())
        ]

    def delete(self, messages: Sequence[DoneFileMessage]) -> None:
        """Delete messages. A message that is not deleted comes again, and is deleted then."""
        for start in range(0, len(messages), MAX_QUEUE_MESSAGES):
            entries = [
                {"Id": str(number), "ReceiptHandle": message.receipt}
                for number, message in enumerate(messages[start : start + MAX_QUEUE_MESSAGES])
            ]
            self._client.delete_message_batch(QueueUrl=self._url, Entries=entries)


def done_file_key(body: str, bucket: str) -> str | None:
    """Return the key in an EventBridge event of S3; None if the event is not about a done file of ours."""
    try:
        event = json.loads(body)
        detail = event["detail"]
        key = detail["object"]["key"]
        is_ours = event["source"] == "aws.s3" and detail["bucket"]["name"] == bucket
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return key if is_ours and isinstance(key, str) and key.startswith("done/") else None
