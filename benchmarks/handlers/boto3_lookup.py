"""The common part of both comparison handlers: PyJWT for tokens, boto3 for pointer and item."""

from __future__ import annotations

import os
import time
from decimal import Decimal
from typing import Any

import boto3
import jwt
from boto3.dynamodb.types import TypeDeserializer

_ISSUER = os.environ["MLPIPE_TOKEN_ISSUER"]
_CLIENTS = os.environ["MLPIPE_TOKEN_CLIENT_IDS"].split(",")
_SCOPE = os.environ["MLPIPE_TOKEN_SCOPE"]
_REGISTRY, _PREDICTIONS = os.environ["BENCHMARK_REGISTRY"], os.environ["BENCHMARK_PREDICTIONS"]
_POINTER_SECONDS = 5

_keys = jwt.PyJWKClient(os.environ["MLPIPE_JWKS_URL"])
_dynamodb = boto3.client("dynamodb")
_deserialize = TypeDeserializer().deserialize
_pointers: dict[str, tuple[float, str]] = {}


class RefusedError(Exception):
    """The token does not grant access."""


def require_reader(authorization: str) -> None:
    """Raise unless the token grants read access."""
    token = authorization.removeprefix("Bearer ")
    key = _keys.get_signing_key_from_jwt(token)
    claims = jwt.decode(
        token, key.key, algorithms=["RS256"], issuer=_ISSUER, options={"require": ["exp", "iss"]}
    )
    if claims.get("client_id") not in _CLIENTS or _SCOPE not in claims.get("scope", "").split(" "):
        raise RefusedError


def prediction(model: str, entity_id: str) -> dict[str, Any] | None:
    """Return an entity's live prediction."""
    key = {"entity_id": {"S": entity_id}, "batch_id": {"S": _live(model)}}
    item = _dynamodb.get_item(TableName=_PREDICTIONS, Key=key).get("Item")
    return _plain(item) if item else None


def predictions(model: str, entity_ids: list[str]) -> list[dict[str, Any]]:
    """Return the live predictions of up to 100 entities."""
    batch_id = _live(model)
    keys = [{"entity_id": {"S": each}, "batch_id": {"S": batch_id}} for each in entity_ids]
    answer = _dynamodb.batch_get_item(RequestItems={_PREDICTIONS: {"Keys": keys}})
    return [_plain(item) for item in answer["Responses"][_PREDICTIONS]]


def _live(model: str) -> str:
    known = _pointers.get(model)
    if known and time.monotonic() - known[0] < _POINTER_SECONDS:
        return known[1]
    key = {"model": {"S": model}, "record": {"S": f"live#{os.environ['AWS_REGION']}"}}
    pointer = _dynamodb.get_item(TableName=_REGISTRY, Key=key, ConsistentRead=True)["Item"]
    _pointers[model] = time.monotonic(), pointer["batch_id"]["S"]
    return pointer["batch_id"]["S"]


def _plain(item: dict[str, Any]) -> dict[str, Any]:
    values = {name: _deserialize(value) for name, value in item.items()}
    # Decimals lose digits here, as in most handlers of this kind.
    return {name: float(value) if isinstance(value, Decimal) else value for name, value in values.items()}
