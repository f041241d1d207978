"""The load's AWS clients, one per service and process, and the check for missing S3 objects."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

_TIMEOUTS = {"connect_timeout": 10, "read_timeout": 60}
_MISSING = frozenset({"404", "NoSuchKey", "NotFound"})
_DENIED = frozenset({"403", "AccessDenied", "Forbidden"})


class _ClientRegion:
    """The region of this process's clients; None for boto3's default."""

    region: str | None = None


def use_region(region: str | None) -> None:
    """Set the region of the clients that this process makes from now on.

    Args:
        region: The job run's region; a Spark executor's environment may lack it.
    """
    _ClientRegion.region = region


def used_region() -> str | None:
    """Return the region of this process's clients, to pass on to worker processes."""
    return _ClientRegion.region


@cache
def client(service: str) -> Any:
    """Return a client that retries transient errors; use `bulk_dynamodb` for many items."""
    retries: Any = {"mode": "standard", "total_max_attempts": 6}
    return boto3.client(
        service, region_name=_ClientRegion.region, config=Config(retries=retries, **_TIMEOUTS)
    )


@cache
def bulk_dynamodb() -> Any:
    """Return a DynamoDB client that sends each request once; its callers retry themselves."""
    retries: Any = {"mode": "standard", "total_max_attempts": 1}
    config = Config(
        retries=retries,
        tcp_keepalive=True,
        # The contract built every item; validating it again costs more than building it.
        parameter_validation=False,
        **_TIMEOUTS,
    )
    return boto3.client("dynamodb", region_name=_ClientRegion.region, config=config)


def delta_storage_options() -> dict[str, str]:
    """Return deltalake's storage options: the job's credentials, region and endpoint."""
    session = boto3.Session()
    credentials = session.get_credentials()
    options = {"AWS_REGION": client("s3").meta.region_name}
    if credentials is not None:
        frozen = credentials.get_frozen_credentials()
        options["AWS_ACCESS_KEY_ID"] = frozen.access_key
        options["AWS_SECRET_ACCESS_KEY"] = frozen.secret_key
        if frozen.token:
            options["AWS_SESSION_TOKEN"] = frozen.token
    endpoint: str = client("s3").meta.endpoint_url
    if not endpoint.endswith((".amazonaws.com", ".amazonaws.com.cn")):
        options["AWS_ENDPOINT_URL"] = endpoint
    if endpoint.startswith("http://"):
        # deltalake refuses plain HTTP by default.
        options["AWS_ALLOW_HTTP"] = "true"
    return options


def is_missing(s3: Any, bucket: str, key: str, error: ClientError) -> bool:
    """Return whether a request failed because the object does not exist.

    Args:
        s3: A boto3 client.
        bucket: The bucket.
        key: The object's key.
        error: What S3 answered.
    """
    code = error.response["Error"]["Code"]
    if code in _MISSING:
        return True
    if code not in _DENIED:
        return False
    # S3 also denies access to a missing object if the role may list certain prefixes only.
    listed = s3.list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1).get("Contents", [])
    return all(entry["Key"] != key for entry in listed)
