"""boto3 clients as this package uses them: every call has a time limit and a number of tries."""

from __future__ import annotations

from typing import Any

READ_SECONDS = 60
TRIES = 6
_CONNECT_SECONDS = 5


def new_client(service: str, region: str, *, tries: int = TRIES, read_seconds: int = READ_SECONDS) -> Any:
    """Return a boto3 client.

    Args:
        service: Its name in boto3, say `dynamodb`.
        region: Where.
        tries: How often a request is sent at most; 1 where a repetition after a lost answer would do harm.
        read_seconds: How long one try may take.
    """
    # Not at import: boto3 and botocore take longer than all definitions together.
    import boto3  # noqa: PLC0415
    from botocore.config import Config  # noqa: PLC0415

    retries: Any = {"mode": "standard", "total_max_attempts": tries}
    return boto3.client(
        service,
        region_name=region,
        config=Config(connect_timeout=_CONNECT_SECONDS, read_timeout=read_seconds, retries=retries),
    )
