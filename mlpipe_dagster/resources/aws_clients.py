"""Creates boto3 clients with a time limit and a number of attempts for each call."""

from __future__ import annotations

from typing import Any

READ_SECONDS = 60
TRIES = 6
# A sensor's tick has 60 seconds in total, so one hanging service must not use up the time.
TICK_READ_SECONDS = 5
TICK_TRIES = 2
_CONNECT_SECONDS = 5


def new_client(service: str, region: str, *, tries: int = TRIES, read_seconds: int = READ_SECONDS) -> Any:
    """Return a boto3 client.

    Args:
        service: The service's name in boto3, for example `dynamodb`.
        region: The region.
        tries: The most attempts per request; 1 if a repeated request after a lost answer would do harm.
        read_seconds: The time limit of one attempt.
    """
    # Imported here: boto3 and botocore take longer to import than all definitions together.
    import boto3  # noqa: PLC0415
    from botocore.config import Config  # noqa: PLC0415

    retries: Any = {"mode": "standard", "total_max_attempts": tries}
    return boto3.client(
        service,
        region_name=region,
        config=Config(connect_timeout=_CONNECT_SECONDS, read_timeout=read_seconds, retries=retries),
    )


def delta_storage_options(s3: Any) -> dict[str, str]:
    """Return deltalake's storage options: an S3 client's address and region, this process's credentials.

    Args:
        s3: A boto3 S3 client, whose address and region are used.
    """
    import boto3  # noqa: PLC0415

    # Commits are conditional puts.
    options = {"conditional_put": "etag", "timeout": "60s", "connect_timeout": "5s"}
    options["AWS_REGION"] = s3.meta.region_name
    endpoint: str = s3.meta.endpoint_url
    if not endpoint.endswith((".amazonaws.com", ".amazonaws.com.cn")):
        options["AWS_ENDPOINT_URL"] = endpoint
    if endpoint.startswith("http://"):
        # deltalake refuses addresses without TLS by default.
        options["AWS_ALLOW_HTTP"] = "true"
    credentials = boto3.Session().get_credentials()
    if credentials is not None:
        frozen = credentials.get_frozen_credentials()
        options |= {"AWS_ACCESS_KEY_ID": frozen.access_key, "AWS_SECRET_ACCESS_KEY": frozen.secret_key}
        options |= {"AWS_SESSION_TOKEN": frozen.token} if frozen.token else {}
    return options
