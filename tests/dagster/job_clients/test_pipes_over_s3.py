"""Pipes over S3 survives S3 errors that are not the job's fault."""

from __future__ import annotations

import io
import json
import threading
from typing import Any

from botocore.exceptions import ClientError

from mlpipe_dagster.job_clients.pipes_over_s3 import TidyContextInjector, TidyMessageReader


def s3_error(code: str) -> ClientError:
    """Return an S3 error."""
    return ClientError({"Error": {"Code": code}}, "GetObject")


class FailingS3:
    """Hold one chunk of messages, fail at the first request for it, and refuse deletions."""

    class exceptions:  # noqa: N801  # as boto3 calls it
        """The client's errors."""

        NoSuchKey = KeyError

    def __init__(self) -> None:
        self.was_troubled = threading.Event()
        self.refused: list[str] = []

    def get_object(self, *, Key: str, **_: Any) -> dict[str, Any]:  # noqa: N803  # as boto3 calls it
        """Return the first chunk from the second request on."""
        if not self.was_troubled.is_set():
            self.was_troubled.set()
            raise s3_error("SlowDown")
        if not Key.endswith("/1.json"):
            raise KeyError(Key)
        message = {"__dagster_pipes_version": "0.1", "method": "log", "params": {}}
        return {"Body": io.BytesIO(json.dumps(message).encode())}

    def put_object(self, **_: Any) -> None:
        """Accept any object."""

    def delete_object(self, *, Key: str, **_: Any) -> None:  # noqa: N803  # as boto3 calls it
        """Refuse the deletion."""
        self.refused.append(Key)
        raise s3_error("AccessDenied")

    def get_paginator(self, _operation: str) -> Any:
        """Return a listing of one object."""
        return type("Pages", (), {"paginate": lambda _self, **_: [{"Contents": [{"Key": "a"}]}]})()


class Handler:
    """Keep the messages."""

    def __init__(self) -> None:
        self.messages: list[Any] = []

    def handle_message(self, message: Any) -> None:
        """Keep a message."""
        self.messages.append(message)


def test_messages_arrive_despite_s3_errors() -> None:
    """A failed read is repeated, and objects that cannot be deleted do not fail a finished job."""
    handler = Handler()
    s3 = FailingS3()
    with TidyMessageReader(bucket="b", client=s3, interval=0.01).read_messages(handler):
        assert s3.was_troubled.wait(10)
    assert [message["method"] for message in handler.messages] == ["log"]


def test_undeletable_context_does_not_fail_the_step() -> None:
    """S3 refuses the deletion, and the session still ends without an error."""
    s3 = FailingS3()
    with TidyContextInjector(bucket="b", client=s3).inject_context({}) as params:
        assert s3.refused == []
    assert s3.refused == [params["key"]]
