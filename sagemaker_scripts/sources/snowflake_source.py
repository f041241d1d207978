"""A Snowflake query as a source: binds its parameters and converts its result to the declared types."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.csv

from sagemaker_scripts.sources.source_columns import SourceColumns
from sagemaker_scripts.sources.source_objects import SourceError, SourceRead

# The connector's arguments that a secret may set.
_SETTINGS = frozenset(
    {
        "account",
        "user",
        "password",
        "role",
        "host",
        "port",
        "protocol",
        "warehouse",
        "database",
        "schema",
        "network_timeout",
    }
)
_LOGIN_SECONDS = 60
_NETWORK_SECONDS = 300
_QUERY_SECONDS = 3600


def connection_arguments(name: str, secret: str) -> dict[str, Any]:
    """Return the connector's arguments for a secret's JSON document.

    The document has `account`, `user`, and either `private_key` (PEM, with `private_key_passphrase` if
    encrypted) or `password`. Optional are `role`, `warehouse`, `database`, `schema`, `host`, `port`,
    `protocol` and `network_timeout`; others are ignored.

    Raises:
        SourceError: The document is malformed; the message never quotes it.
    """
    try:
        document = json.loads(secret)
    except (ValueError, RecursionError):
        # The error is not chained, because the cause contains the document.
        document = None
    if not isinstance(document, dict) or not all(document.get(each) for each in ("account", "user")):
        raise _secret_error(name, "is not a JSON object with account and user")
    arguments = {
        "network_timeout": _NETWORK_SECONDS,
        **{key: value for key, value in document.items() if key in _SETTINGS and value is not None},
        "login_timeout": _LOGIN_SECONDS,
        "application": "mlpipe",
        "session_parameters": {"TIMEZONE": "UTC", "STATEMENT_TIMEOUT_IN_SECONDS": _QUERY_SECONDS},
    }
    if document.get("private_key") is not None:
        arguments.pop("password", None)
        arguments["private_key"] = _private_key(name, document)
    elif not isinstance(arguments.get("password"), str):
        raise _secret_error(name, "has neither private_key nor password")
    return arguments


def _private_key(name: str, document: Mapping[str, Any]) -> bytes:
    # This package comes with the connector, and only models with such a source need them.
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415

    phrase = document.get("private_key_passphrase")
    try:
        key = serialization.load_pem_private_key(
            document["private_key"].encode(), None if phrase is None else phrase.encode()
        )
    except (ValueError, TypeError, AttributeError):
        key = None
    if key is None:
        raise _secret_error(name, "has a private_key that is not a PEM key, or does not match its passphrase")
    return key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _secret_error(name: str, what: str) -> SourceError:
    return SourceError(f"The secret {name} {what}", remedy="Correct the secret, then start the job again")


@contextmanager
def connected(name: str, secret: str) -> Iterator[Any]:
    """Open a connection in UTC, and close it at the end of the context.

    Raises:
        SourceError: The secret's document is malformed, or Snowflake refuses the connection.
    """
    # This import takes a second, and only models with such a source need it.
    import snowflake.connector  # noqa: PLC0415

    try:
        connection = snowflake.connector.connect(**connection_arguments(name, secret))
    except snowflake.connector.errors.Error as error:
        raise SourceError(
            f"Snowflake refused the connection with the secret {name}: error {error.errno}",
            remedy="Correct the secret, or the network policy of its user",
        ) from error
    try:
        yield connection
    finally:
        connection.close()


def query_batches(
    connection: Any,
    query: str,
    parameters: Mapping[str, str],
    columns: SourceColumns,
    reads: list[SourceRead],
) -> Iterator[pa.Table]:
    """Yield the rows of a query in the declared types; the first batch has the columns and no rows.

    Args:
        connection: The connection to Snowflake.
        query: The query, with `%(name)s` for each parameter.
        parameters: The values of the parameters, which the connector binds.
        columns: The name and type of each column; names are compared without regard to case.
        reads: Receives the query's id and the digest of the rows, after all rows.

    Raises:
        SourceError: Snowflake refuses the query, a column is missing, or a value does not fit.
    """
    import snowflake.connector  # noqa: PLC0415

    digest, count = RowsDigest(columns.schema), 0
    try:
        with connection.cursor() as cursor:
            cursor.execute(query, dict(parameters) or None, timeout=_QUERY_SECONDS)
            query_id = str(cursor.sfqid)
            where = f"The answer of query {query_id}"
            names = _as_declared((each.name for each in cursor.description), columns.declared)
            columns.wanted(names, where)
            yield columns.schema.empty_table()
            for batch in _batches(cursor):
                rows = columns.converted(batch.rename_columns(names), where, first_row=count)
                digest.add(rows)
                count += rows.num_rows
                yield rows
    except snowflake.connector.errors.Error as error:
        raise SourceError(
            f"Snowflake refused the query of source {columns.source}: {_words(error)}",
            remedy="Correct the query or its parameters in defs.yaml, or the rights of the secret's role",
        ) from error
    reads.append(SourceRead(columns.source, query_id=query_id, rows=count, sha256=digest.hexdigest()))


def _batches(cursor: Any) -> Iterable[pa.Table]:
    # Nanoseconds could not represent all times.
    return cursor.fetch_arrow_batches(force_microsecond_precision=True)


def _as_declared(names: Iterable[str], declared: Iterable[str]) -> list[str]:
    """Return the names in their declared spelling, because Snowflake returns unquoted names in capitals."""
    known = {name.upper(): name for name in declared}
    return [known.get(name.upper(), name) for name in names]


def _words(error: Any) -> str:
    return " ".join(str(error.msg or error).split())[:300]


class RowsDigest:
    """Computes a SHA-256 of rows in their order, which does not depend on the division into batches.

    Args:
        schema: The schema of the rows.
    """

    def __init__(self, schema: pa.Schema) -> None:
        self._digest = hashlib.sha256(str(schema).encode())
        # Write rows as text, because Arrow's bytes for a missing value may differ.
        self._writer = pyarrow.csv.CSVWriter(
            pa.PythonFile(_DigestFile(self._digest), mode="w"),
            schema,
            write_options=pyarrow.csv.WriteOptions(quoting_style="all_valid"),
        )

    def add(self, rows: pa.Table) -> None:
        """Add rows."""
        self._writer.write_table(rows)

    def hexdigest(self) -> str:
        """Return the digest of all rows; no rows may be added afterwards."""
        self._writer.close()
        return self._digest.hexdigest()


class _DigestFile(io.RawIOBase):
    """A file that only updates a digest with the written bytes."""

    def __init__(self, digest: Any) -> None:
        super().__init__()
        self._digest = digest

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        self._digest.update(content)
        return len(content)
