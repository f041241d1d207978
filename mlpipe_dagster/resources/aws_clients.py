"""boto3 clients as this package uses them: every call has a time limit and a number of tries."""

from __future__ import annotations

from typing import Any

READ_SECONDS = 60
TRIES = 6
# A sensor's tick has 60 seconds for all it asks: a service that hangs must not take what the others need.
TICK_READ_SECONDS = 5
TICK_TRIES = 2
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


def delta_storage_options(s3: Any) -> dict[str, str]:
    """Return what deltalake needs to reach and change the bucket as a client of S3 does.

    Args:
        s3: A boto3 S3 client; its address, region and credentials count.
    """
    import boto3  # noqa: PLC0415

    # Commits are conditional puts.
    options = {"conditional_put": "etag", "timeout": "60s", "connect_timeout": "5s"}
    options["AWS_REGION"] = s3.meta.region_name
    endpoint: str = s3.meta.endpoint_url
    if not endpoint.endswith((".amazonaws.com", ".amazonaws.com.cn")):
        options["AWS_ENDPOINT_URL"] = endpoint
    if endpoint.startswith("http://"):
        # deltalake refuses addresses without TLS unless it is told otherwise.
        options["AWS_ALLOW_HTTP"] = "true"
    credentials = boto3.Session().get_credentials()
    if credentials is not None:
        frozen = credentials.get_frozen_credentials()
        options |= {"AWS_ACCESS_KEY_ID": frozen.access_key, "AWS_SECRET_ACCESS_KEY": frozen.secret_key}
        options |= {"AWS_SESSION_TOKEN": frozen.token} if frozen.token else {}
    return options
