"""Connects to Snowflake with the key pair or password from a secret."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

import snowflake.connector
from cryptography.hazmat.primitives import serialization

from glue_scripts.errors import LoadFailedError
from prediction_contract.stores.warehouse_table import SESSION_PARAMETERS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prediction_contract.jobs.job_arguments import LoadArguments

# The connector arguments that a secret may set; database and schema are job arguments.
_TEXTS = ("account", "user", "role", "host", "protocol")
_NUMBERS = ("port", "network_timeout")
_LOGIN_SECONDS = 60
# For one request with its retries; by default the connector retries without end.
_NETWORK_SECONDS = 300
# The casts of cleaning rules rely on these, and an account may set them otherwise.
_FORMATS = {
    "DATE_INPUT_FORMAT": "AUTO",
    "DATE_OUTPUT_FORMAT": "YYYY-MM-DD",
    "TIMESTAMP_INPUT_FORMAT": "AUTO",
}


def connection_arguments(secret: str, arguments: LoadArguments, query_tag: str) -> dict[str, Any]:
    """Return the connector's arguments for a secret's JSON document.

    The document has `account`, `user`, and either `private_key` (PEM, with `private_key_passphrase` if it has
    one) or `password`; `role`, `host`, `port`, `protocol` and `network_timeout` are optional. Other
    members are ignored.

    Raises:
        LoadFailedError: The document is malformed; the message never quotes its values.
    """
    try:
        document = json.loads(secret)
    except ValueError:
        # Not chained, because the error's text quotes the document.
        document = None
    if not isinstance(document, dict):
        _refuse(arguments, "is not a JSON object")
    login: dict[str, Any] = {}
    for name, kind in [*((name, str) for name in _TEXTS), *((name, int) for name in _NUMBERS)]:
        value = document.get(name)
        if value is None:
            continue
        if type(value) is not kind:
            _refuse(arguments, f"has a {name} that is not of type {kind.__name__}")
        login[name] = value
    for name in ("account", "user"):
        if name not in login:
            _refuse(arguments, f"lacks {name}")
    return {
        "network_timeout": _NETWORK_SECONDS,
        **login,
        **_credential(document, arguments),
        "database": arguments.snowflake_database,
        "schema": arguments.snowflake_schema,
        "warehouse": arguments.snowflake_warehouse,
        "session_parameters": {**SESSION_PARAMETERS, **_FORMATS, "QUERY_TAG": query_tag},
        "login_timeout": _LOGIN_SECONDS,
        "autocommit": True,
        "application": "mlpipe",
    }


@contextmanager
def connected(secret: str, arguments: LoadArguments, query_tag: str) -> Iterator[Any]:
    """Open a connection in UTC whose statements carry the tag, and close it afterwards.

    Args:
        secret: The secret's JSON document.
        arguments: The load's arguments.
        query_tag: The tag that Snowflake's query history shows for every statement.

    Raises:
        LoadFailedError: As `connection_arguments`.
        snowflake.connector.errors.Error: The connection or the login failed.
    """
    connection = snowflake.connector.connect(**connection_arguments(secret, arguments, query_tag))
    try:
        yield connection
    finally:
        connection.close()


def _credential(document: dict[str, Any], arguments: LoadArguments) -> dict[str, Any]:
    private_key = document.get("private_key")
    if private_key is None:
        password = document.get("password")
        if not isinstance(password, str) or not password:
            _refuse(arguments, "has neither private_key nor password")
        return {"password": password}
    passphrase = document.get("private_key_passphrase")
    try:
        key = serialization.load_pem_private_key(
            private_key.encode(), None if passphrase is None else passphrase.encode()
        )
    except (ValueError, TypeError, AttributeError):
        key = None
    if key is None:
        _refuse(arguments, "has a private_key that is not a PEM key, or does not match its passphrase")
    der = key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return {"private_key": der}


def _refuse(arguments: LoadArguments, what: str) -> NoReturn:
    raise LoadFailedError(
        f"The secret {arguments.snowflake_secret} {what}",
        remedy="Correct the secret, then load the batch again",
        model=arguments.model,
        batch_id=arguments.batch_id,
    )
