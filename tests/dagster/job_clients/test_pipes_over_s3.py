"""Pipes over S3 survives trouble that is not the job's."""

from __future__ import annotations

import io
import json
import threading
from typing import Any

from botocore.exceptions import ClientError

from mlpipe_dagster.job_clients.pipes_over_s3 import TidyContextInjector, TidyMessageReader


def trouble(code: str) -> ClientError:
    """Return an error of S3."""
    return ClientError({"Error": {"Code": code}}, "GetObject")


class TroubledS3:
    """Holds one chunk of messages, fails when it is first asked for it, and deletes nothing."""

    class exceptions:  # noqa: N801  # as boto3 calls it
        """The client's errors."""

        NoSuchKey = KeyError

    def __init__(self) -> None:
        self.was_troubled = threading.Event()

    def get_object(self, *, Key: str, **_: Any) -> dict[str, Any]:  # noqa: N803  # as boto3 calls it
        """Return the first chunk, at the second try."""
        if not self.was_troubled.is_set():
            self.was_troubled.set()
            raise trouble("SlowDown")
        if not Key.endswith("/1.json"):
            raise KeyError(Key)
        message = {"__dagster_pipes_version": "0.1", "method": "log", "params": {}}
        return {"Body": io.BytesIO(json.dumps(message).encode())}

    def put_object(self, **_: Any) -> None:
        """Take anything."""

    def delete_object(self, **_: Any) -> None:
        """Refuse."""
        raise trouble("AccessDenied")

    def get_paginator(self, _operation: str) -> Any:
        """Return a listing of one object."""
        return type("Pages", (), {"paginate": lambda _self, **_: [{"Contents": [{"Key": "a"}]}]})()


class Handler:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.messages: list[Any] = []

    def handle_message(self, message: Any) -> None:
        """Keep it."""
        self.messages.append(message)


def test_messages_arrive_though_s3_was_slow_and_lets_nothing_be_deleted() -> None:
    """Reading goes on after a failed look, and leftovers do not fail a job that is done."""
    handler = Handler()
    s3 = TroubledS3()
    with TidyMessageReader(bucket="b", client=s3, interval=0.01).read_messages(handler):
        assert s3.was_troubled.wait(10)
    assert [message["method"] for message in handler.messages] == ["log"]


def test_a_context_that_cannot_be_deleted_fails_nothing() -> None:
    """It is small, and the step's own result is what counts."""
    with TidyContextInjector(bucket="b", client=TroubledS3()).inject_context({}) as params:
        assert params["key"].endswith("context.json")
