"""Log groups with an end: a service that has to make its own keeps every line for ever."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aws_cdk as cdk
from aws_cdk import aws_logs as logs

if TYPE_CHECKING:
    from constructs import Construct


def add_log_group(
    scope: Construct,
    construct_id: str,
    name: str,
    retention: logs.RetentionDays = logs.RetentionDays.THREE_MONTHS,
) -> logs.LogGroup:
    """Add a log group that outlives its stack, and return it for what must not be made before it.

    Args:
        scope: Whose.
        construct_id: Its id in the stack.
        name: As the service that writes to it expects.
        retention: How long a line is kept.
    """
    return logs.LogGroup(
        scope,
        construct_id,
        log_group_name=name,
        retention=retention,
        removal_policy=cdk.RemovalPolicy.RETAIN,
    )
