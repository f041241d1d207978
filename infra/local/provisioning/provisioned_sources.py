"""Buckets and secrets of the models' sources, other than the data bucket."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from infra.local.provisioning.clients import none_on_error
from infra.local.provisioning.provisioned_tokens import ensure_secret
from infra.source_access import named_buckets, named_secrets

if TYPE_CHECKING:
    from collections.abc import Sequence

    from infra.local.provisioning.clients import Clients
    from infra.local.provisioning.provisioned_warehouse import WarehouseConnection
    from infra.provisioned_models import ProvisionedModel

_LOG = logging.getLogger(__name__)


def ensure_sources(
    clients: Clients, models: Sequence[ProvisionedModel], connection: WarehouseConnection
) -> None:
    """Create missing buckets, empty, and write the connection of Snowflake's stand-in into each secret.

    Args:
        clients: The clients of the local stack.
        models: The models with the sources.
        connection: The connection of the stand-in.
    """
    s3, secrets = clients.client("s3"), clients.client("secretsmanager")
    for bucket in named_buckets(models):
        if none_on_error("404", s3.head_bucket, Bucket=bucket) is None:
            s3.create_bucket(Bucket=bucket)
            _LOG.info("created bucket %s for a source", bucket)
    for secret in named_secrets(models):
        ensure_secret(secrets, secret, connection.secret())
