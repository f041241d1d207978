"""The last lines of a job's own log, for the Dagster run that has to explain its failure."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

TAIL_LINES = 40


def log_tail(client: Any, group: str, stream_prefix: str, lines: int = TAIL_LINES) -> str:
    """Return the last lines of the newest log stream of a prefix; a word on why not if there are none.

    Args:
        client: A boto3 CloudWatch Logs client.
        group: The log group.
        stream_prefix: What the stream's name begins with: `<job name>/` or a job run's id.
        lines: How many.
    """
    try:
        streams = client.describe_log_streams(logGroupName=group, logStreamNamePrefix=stream_prefix, limit=10)
        names = [stream["logStreamName"] for stream in streams["logStreams"]]
        events = [
            event["message"].rstrip("\n")
            for name in names
            for event in client.get_log_events(
                logGroupName=group, logStreamName=name, limit=lines, startFromHead=False
            )["events"]
        ]
    except (ClientError, BotoCoreError) as error:
        # A failing job's own error is what counts: that its log cannot be had must not hide it.
        return f"(The log {group} {stream_prefix} cannot be read: {error})"
    return "\n".join(events[-lines:]) or f"(The log {group} {stream_prefix} is empty.)"
