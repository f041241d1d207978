"""The AWS clients of the load, made at its edge and once per process."""

from __future__ import annotations

from functools import cache
from typing import Any

import boto3
from botocore.config import Config

from glue_scripts.dynamodb.dynamodb_endpoint import DynamoDbEndpoint

# Fewer than the DynamoDB writer has threads would make them wait for one another.
POOL_CONNECTIONS = 32
_TIMEOUTS = {"connect_timeout": 10, "read_timeout": 60}


class _Chosen:
    """The region of this process's clients; None for the one that boto3 finds."""

    region: str | None = None


def use_region(region: str | None) -> None:
    """Let this process make its clients for a region from now on.

    Args:
        region: As the job run was told; an executor's own environment may lack it.
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
        max_pool_connections=POOL_CONNECTIONS,
        tcp_keepalive=True,
        # Every item is one that the contract made; looking at each again costs more than making it.
        parameter_validation=False,
        **_TIMEOUTS,
    )
    return boto3.client("dynamodb", region_name=_Chosen.region, config=config)


@cache
def dynamodb_endpoint() -> DynamoDbEndpoint:
    """Return where items are written to, with the credentials, region and address that boto3 finds."""
    session = boto3.Session()
    found = client("dynamodb").meta
    bundle = session._session.get_config_variable("ca_bundle")  # noqa: SLF001  # boto3 has no other way to it
    return DynamoDbEndpoint(
        found.endpoint_url, found.region_name, session.get_credentials(), ca_bundle=bundle
    )


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
        # deltalake refuses addresses without TLS unless it is told otherwise.
        options["AWS_ALLOW_HTTP"] = "true"
    return options
