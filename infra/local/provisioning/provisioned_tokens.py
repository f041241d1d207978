"""The Cognito pool, its resource server and client, and the secrets."""

from __future__ import annotations

import dataclasses
import json
import logging
from typing import TYPE_CHECKING, Any

from infra.local.provisioning.clients import ProvisioningError, none_on_error

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infra.definitions.resource_definitions import TokenIssuerDefinition

_LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class TokenClient:
    """The pool's id, and the client's id and secret."""

    pool_id: str
    client_id: str
    client_secret: str = dataclasses.field(repr=False)


def ensure_token_issuer(cognito: Any, issuer: TokenIssuerDefinition) -> TokenClient:
    """Create or repair the pool, its domain, the resource server and the client.

    Raises:
        ProvisioningError: Two pools or two clients have the name, so none can be chosen.
    """
    pool_id = _ensure_pool(cognito, issuer)
    _ensure_domain(cognito, issuer, pool_id)
    _ensure_resource_server(cognito, issuer, pool_id)
    return _ensure_client(cognito, issuer, pool_id)


def _only(found: list[dict[str, Any]], key: str, what: str) -> str | None:
    if len(found) > 1:
        ids = ", ".join(entry[key] for entry in found)
        raise ProvisioningError(
            f"{len(found)} resources have the name of the {what}: {ids}",
            remedy="Delete the unused ones and run `mlpipe up` again",
        )
    return found[0][key] if found else None


def _all(cognito: Any, operation: str, key: str, **arguments: Any) -> list[dict[str, Any]]:
    pages = cognito.get_paginator(operation).paginate(**arguments, PaginationConfig={"PageSize": 60})
    return [entry for page in pages for entry in page[key]]


def _ensure_pool(cognito: Any, issuer: TokenIssuerDefinition) -> str:
    pools = _all(cognito, "list_user_pools", "UserPools")
    pool_id = _only(
        [pool for pool in pools if pool["Name"] == issuer.pool], "Id", f"Cognito pool {issuer.pool}"
    )
    settings = issuer.pool_settings()
    if pool_id is None:
        pool_id = cognito.create_user_pool(PoolName=issuer.pool, **settings)["UserPool"]["Id"]
        _LOG.info("created Cognito pool %s (%s)", issuer.pool, pool_id)
        return str(pool_id)
    current = cognito.describe_user_pool(UserPoolId=pool_id)["UserPool"]
    if not _covers(current, settings):
        cognito.update_user_pool(UserPoolId=pool_id, **settings)
        _LOG.info("restored the settings of Cognito pool %s", issuer.pool)
    return pool_id


def _covers(current: Any, wanted: Any) -> bool:
    """Return whether `current` has every wanted setting; it may have more."""
    if isinstance(wanted, dict):
        return isinstance(current, dict) and all(_covers(current.get(k), v) for k, v in wanted.items())
    return bool(current == wanted)


def _ensure_domain(cognito: Any, issuer: TokenIssuerDefinition, pool_id: str) -> None:
    found = cognito.describe_user_pool_domain(Domain=issuer.domain).get("DomainDescription") or {}
    owner = found.get("UserPoolId")
    if owner == pool_id:
        return
    if owner:
        raise ProvisioningError(
            f"The token domain {issuer.domain} belongs to another Cognito pool, {owner}",
            remedy="Delete that pool's domain and run `mlpipe up` again",
        )
    cognito.create_user_pool_domain(Domain=issuer.domain, UserPoolId=pool_id)
    _LOG.info("created token domain %s", issuer.domain)


def _ensure_resource_server(cognito: Any, issuer: TokenIssuerDefinition, pool_id: str) -> None:
    place = {"UserPoolId": pool_id, "Identifier": issuer.resource_server}
    settings = issuer.resource_server_settings()
    current = none_on_error("ResourceNotFoundException", cognito.describe_resource_server, **place)
    if current is None:
        cognito.create_resource_server(**place, **settings)
        _LOG.info("created resource server %s", issuer.resource_server)
    elif not _covers(current["ResourceServer"], settings):
        cognito.update_resource_server(**place, **settings)
        _LOG.info("restored the scopes of resource server %s", issuer.resource_server)


def _ensure_client(cognito: Any, issuer: TokenIssuerDefinition, pool_id: str) -> TokenClient:
    clients = _all(cognito, "list_user_pool_clients", "UserPoolClients", UserPoolId=pool_id)
    client_id = _only(
        [client for client in clients if client["ClientName"] == issuer.client],
        "ClientId",
        f"Cognito client {issuer.client}",
    )
    settings = issuer.client_settings()
    if client_id is None:
        client = cognito.create_user_pool_client(
            UserPoolId=pool_id, ClientName=issuer.client, GenerateSecret=True, **settings
        )["UserPoolClient"]
        _LOG.info("created Cognito client %s", issuer.client)
    else:
        place = {"UserPoolId": pool_id, "ClientId": client_id}
        client = cognito.describe_user_pool_client(**place)["UserPoolClient"]
        if not _covers(client, settings):
            # The update replaces all settings, so send the name as well.
            cognito.update_user_pool_client(**place, ClientName=issuer.client, **settings)
            _LOG.info("restored the settings of Cognito client %s", issuer.client)
    return TokenClient(pool_id, client["ClientId"], client["ClientSecret"])


def ensure_secret(secrets: Any, name: str, value: Mapping[str, Any]) -> None:
    """Create the secret or write the value as its current version. The value is not logged."""
    document = json.dumps(value, sort_keys=True)
    current = none_on_error("ResourceNotFoundException", secrets.get_secret_value, SecretId=name)
    if current is None:
        secrets.create_secret(Name=name, SecretString=document)
        _LOG.info("created secret %s", name)
    elif current["SecretString"] != document:
        secrets.put_secret_value(SecretId=name, SecretString=document)
        _LOG.info("updated secret %s", name)
