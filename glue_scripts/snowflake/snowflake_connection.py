"""A Snowflake connection from the secret that holds it, by key pair or password, whichever it has."""

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

# What of the connector's arguments a secret may set; where the batch goes is the job's argument.
_TEXTS = ("account", "user", "role", "host", "protocol")
_NUMBERS = ("port", "network_timeout")
_LOGIN_SECONDS = 60
# Of one request with its repetitions; by default the connector repeats without end.
_NETWORK_SECONDS = 300
# What an account may have set otherwise, and casts of a model's cleaning rely on.
_FORMATS = {
    "DATE_INPUT_FORMAT": "AUTO",
    "DATE_OUTPUT_FORMAT": "YYYY-MM-DD",
    "TIMESTAMP_INPUT_FORMAT": "AUTO",
}


def connection_arguments(secret: str, arguments: LoadArguments, query_tag: str) -> dict[str, Any]:
    """Return the connector's arguments for a secret's JSON document.

    The document has `account`, `user`, and either `private_key` (PEM, with `private_key_passphrase` if it has
    one) or `password`; `role`, `host`, `port`, `protocol` and `network_timeout` are optional, others ignored.

    Raises:
        LoadFailedError: The document has another form; the message never quotes its values.
    """
    try:
        document = json.loads(secret)
    except ValueError:
        # Not chained: the cause holds the document.
        document = None
    if not isinstance(document, dict):
        _refuse(arguments, "is no JSON object")
    login: dict[str, Any] = {}
    for name, kind in [*((name, str) for name in _TEXTS), *((name, int) for name in _NUMBERS)]:
        value = document.get(name)
        if value is None:
            continue
        if type(value) is not kind:
            _refuse(arguments, f"has a {name} that is no {kind.__name__}")
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
    """Hold a connection in UTC whose statements carry the tag; it is closed in the end.

    Args:
        secret: The secret's JSON document.
        arguments: The load's.
        query_tag: What Snowflake's history shows of every statement.

    Raises:
        LoadFailedError: As `connection_arguments`.
        snowflake.connector.errors.Error: Snowflake lets nobody in.
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
        _refuse(arguments, "has a private_key that is no PEM key for its passphrase")
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
