"""The AWS clients of the load, made at its edge and once per process, and what S3 means by a refusal."""

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


class _Chosen:
    """The region of this process's clients; None for the one that boto3 finds."""

    region: str | None = None


def use_region(region: str | None) -> None:
    """Let this process make its clients for a region from now on.

    Args:
        region: The job run's; an executor's own environment may lack it.
    """
    _Chosen.region = region


def used_region() -> str | None:
    """Return the region of this process's clients, for a process that works on its behalf."""
    return _Chosen.region


@cache
def client(service: str) -> Any:
    """Return a client that retries passing errors by itself; for everything but items in bulk."""
    retries: Any = {"mode": "standard", "total_max_attempts": 6}
    return boto3.client(service, region_name=_Chosen.region, config=Config(retries=retries, **_TIMEOUTS))


@cache
def bulk_dynamodb() -> Any:
    """Return a DynamoDB client that sends each request once: who writes and reads items retries by itself."""
    retries: Any = {"mode": "standard", "total_max_attempts": 1}
    config = Config(
        retries=retries,
        tcp_keepalive=True,
        # Every item is one that the contract made; looking at each again costs more than making it.
        parameter_validation=False,
        **_TIMEOUTS,
    )
    return boto3.client("dynamodb", region_name=_Chosen.region, config=config)


def delta_storage_options() -> dict[str, str]:
    """Return what deltalake needs to read the bucket with the job's own credentials and endpoint."""
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
        # deltalake refuses addresses without TLS by default.
        options["AWS_ALLOW_HTTP"] = "true"
    return options


def is_missing(s3: Any, bucket: str, key: str, error: ClientError) -> bool:
    """Return whether a request for an object failed because there is no such object.

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
    # Where the role may list certain prefixes only, S3 answers so for missing objects too.
    listed = s3.list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1).get("Contents", [])
    return all(entry["Key"] != key for entry in listed)
