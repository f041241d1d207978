"""The last lines of a job's own log, for the Dagster run that has to explain its failure."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from prediction_contract.printable_text import escape_unprintable

TAIL_LINES = 40
_MAX_STREAMS = 10


def log_tail(client: Any, stream_prefix: str, *groups: str, lines: int = TAIL_LINES) -> str:
    """Return a job's last lines of each log group; a word on why not of one that has none.

    Args:
        client: A boto3 CloudWatch Logs client.
        stream_prefix: What the names of its streams begin with: `<job name>/` or a job run's id.
        groups: The log groups, that of errors last: what is read first stands at the end.
        lines: How many, of each.
    """
    tails = []
    for group in groups:
        try:
            found = _newest_lines(client, group, stream_prefix, lines)
        except (ClientError, BotoCoreError) as error:
            # A failing job's own error is what counts: that its log cannot be had must not hide it.
            tails.append(f"(The log {group} {stream_prefix} cannot be read: {error})")
            continue
        tails += found or [f"(The log {group} {stream_prefix} is empty.)"]
    return "\n".join(tails)


def _newest_lines(client: Any, group: str, stream_prefix: str, lines: int) -> list[str]:
    streams = client.describe_log_streams(
        logGroupName=group, logStreamNamePrefix=stream_prefix, limit=_MAX_STREAMS
    )
    events = [
        event
        for stream in streams["logStreams"]
        for event in client.get_log_events(
            logGroupName=group, logStreamName=stream["logStreamName"], limit=lines, startFromHead=False
        )["events"]
    ]
    # Hosts and executors each have a stream; the last word of all of them is wanted.
    events.sort(key=lambda event: event["timestamp"])
    return [
        escape_unprintable(line)
        for event in events[-lines:]
        for line in event["message"].rstrip("\n").split("\n")
    ]
