"""Shared functions of the two job clients: upload scripts, read logs, wait with a deadline."""

from __future__ import annotations

import os
import textwrap
import time
import uuid
from typing import TYPE_CHECKING, Any, TypeVar

import boto3

if TYPE_CHECKING:
    from collections.abc import Callable

Found = TypeVar("Found")
DEADLINE_SECONDS = 180
SUCCEEDS = "import sys; print('worked with', *sys.argv[1:])"
FAILS = "raise ValueError('bad rows')"
SLEEPS = "import time; print('asleep', flush=True); time.sleep(600)"


def upload(script: str) -> str:
    """Put a script on S3 and return its address."""
    bucket, key = os.environ["MLPIPE_DATA_BUCKET"], f"code/plain/{uuid.uuid4().hex}/script.py"
    boto3.client("s3").put_object(Bucket=bucket, Key=key, Body=textwrap.dedent(script).encode())
    return f"s3://{bucket}/{key}"


def wait_for(look: Callable[[], Found | None], what: str) -> Found:
    """Return the first result that is not None, or fail with a description at the deadline."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while (found := look()) is None:
        assert time.monotonic() < deadline, f"not within {DEADLINE_SECONDS} s: {what}"
        time.sleep(0.5)
    return found


def log_lines(group: str, prefix: str) -> list[str]:
    """Return the lines of a job's only stream, or none while group or stream do not exist."""
    client = boto3.client("logs")
    try:
        streams = client.describe_log_streams(logGroupName=group, logStreamNamePrefix=prefix)["logStreams"]
    except client.exceptions.ResourceNotFoundException:
        return []
    assert len(streams) <= 1, streams
    # Not `filter_log_events`: the emulator ignores its stream prefix.
    return [
        event["message"]
        for stream in streams
        for event in client.get_log_events(
            logGroupName=group, logStreamName=stream["logStreamName"], startFromHead=True
        )["events"]
    ]


def wait_for_line(group: str, prefix: str, line: str) -> None:
    """Wait until a running job has logged a line."""
    wait_for(lambda: True if line in log_lines(group, prefix) else None, f"{line!r} in {group} {prefix}")


def ended(state: str, states: set[str], answer: dict[str, Any]) -> dict[str, Any] | None:
    """Return the answer if it shows one of the final states."""
    return answer if answer[state] in states else None
