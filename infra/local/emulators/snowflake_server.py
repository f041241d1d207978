"""Serve Snowflake's protocol from DuckDB files, reading stages from the local S3.

Runs in the environment `stack`, the only one that has its packages.
"""

# pyright: reportMissingImports=false

from __future__ import annotations

import argparse
import logging
import math
import time
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import duckdb
import fakesnow.server
import pyarrow as pa
import pyarrow.compute as pc
import s3fs
import uvicorn
from fakesnow import arrow, transforms
from fakesnow.copy_into import ReadParquet
from fakesnow.cursor import FakeSnowflakeCursor
from fakesnow.instance import FakeSnow
from fakesnow.variables import Variables
from snowflake.connector.errors import ProgrammingError
from sqlglot import exp

from infra.local.emulators.snowflake_account import TEXT_LITERAL, SnowflakeAccount

# Snowflake waits five minutes before it aborts an idle transaction that blocks others.
IDLE_TRANSACTION_SECONDS = 30.0


class _PlainParquet(ReadParquet):
    """Reads only the columns inside a Parquet file, like Snowflake."""

    def read_expression(self, url: str) -> exp.Expression:
        """Return DuckDB's call without the columns that it would derive from `name=value` in a path."""
        return exp.func("read_parquet", self.file_literal(url), self.make_eq("hive_partitioning", False))


_stock_integer_precision = transforms.integer_precision


def _all_digits(expression: exp.Expression) -> exp.Expression:
    """Keep the 38 digits of NUMBER and NUMBER(38,0), which fakesnow itself stores in 64 bits."""
    is_number = isinstance(expression, exp.DataType) and expression.this == exp.DataType.Type.DECIMAL
    if is_number and [str(parameter) for parameter in expression.expressions] in ([], ["38", "0"]):
        return exp.DataType.build("DECIMAL(38, 0)")
    return _stock_integer_precision(expression)


_stock_timestamp_struct = arrow.timestamp_to_sf_struct


def _timestamps_or_null(moments: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Return timestamps in the connector's form; fakesnow itself turns NULL into 1970."""
    if isinstance(moments, pa.ChunkedArray):
        moments = moments.combine_chunks()
    structs = _stock_timestamp_struct(moments)
    parts = [pc.fill_null(part, 0) for part in structs.flatten()]
    return pa.StructArray.from_arrays(parts, fields=list(structs.type), mask=moments.is_null())


_stock_inline_variables = Variables.inline_variables


def _variables_outside_texts(variables: Variables, sql: str) -> str:
    """Replace session variables outside text literals; fakesnow itself also replaces them inside."""
    pieces = TEXT_LITERAL.split(sql)
    pieces[::2] = [_stock_inline_variables(variables, piece) for piece in pieces[::2]]
    return "".join(pieces)


_stock_execute = FakeSnowflakeCursor.execute
_account = SnowflakeAccount()
# For each connection with an open transaction, since when it is idle; infinite while a statement runs.
_idle_since: WeakKeyDictionary[Any, float] = WeakKeyDictionary()


def _execute(cursor: FakeSnowflakeCursor, command: str, *arguments: Any, **options: Any) -> Any:
    """Execute a statement; if another transaction blocks it, end idle transactions.

    Snowflake waits for the other transaction, and aborts an idle one. DuckDB refuses at once, so here the
    client must retry.
    """
    command = _account.translate(command)
    connection = cursor._conn  # noqa: SLF001  # fakesnow has no public access to it
    word = command.split(maxsplit=1)[0].upper()
    if word == "BEGIN" or connection in _idle_since:
        _idle_since[connection] = math.inf
    try:
        return _stock_execute(cursor, command, *arguments, **options)
    except duckdb.TransactionException as error:
        _end_idle_transactions()
        raise ProgrammingError(msg=f"Another transaction holds a lock: {error}", errno=625) from error
    finally:
        if word in {"COMMIT", "ROLLBACK"}:
            _idle_since.pop(connection, None)
        elif connection in _idle_since:
            _idle_since[connection] = time.monotonic()


def _end_idle_transactions() -> None:
    """End the sessions of transactions that are idle for too long, because dead clients never roll back."""
    latest = time.monotonic() - IDLE_TRANSACTION_SECONDS
    for token, connection in list(fakesnow.server.sessions.items()):
        if _idle_since.get(connection, math.inf) < latest:
            del fakesnow.server.sessions[token]
            connection.close()


def open_warehouse(database_directory: Path, s3_endpoint_url: str) -> FakeSnow:
    """Open every database in the directory with one shared engine that reads the local S3.

    Args:
        database_directory: The folder with one DuckDB file `<DATABASE>.db` per database; must exist.
        s3_endpoint_url: The S3 endpoint for stages with `s3://` addresses.

    Raises:
        SystemExit: A database file cannot be opened. The message names it, and it is not changed.
    """
    # Shared, because a DuckDB file can be attached only once. With a path, because the default is in memory.
    warehouse = FakeSnow(db_path=database_directory)
    # Used because DuckDB would download its own S3 reader at run time. A cached listing would hide new files.
    filesystem = s3fs.S3FileSystem(
        key="test",
        secret="test",  # noqa: S106 -- the emulator's fixed credential
        endpoint_url=s3_endpoint_url,
        use_listings_cache=False,
        skip_instance_cache=True,
    )
    warehouse.duck_conn.register_filesystem(filesystem)
    for file in sorted(database_directory.glob("*.db")):
        try:
            warehouse.connect(file.stem).close()
            warehouse.duck_conn.execute(
                "SELECT count(*) FROM duckdb_tables() WHERE upper(database_name) = upper(?)", [file.stem]
            )
        except (duckdb.Error, OSError) as error:
            message = (
                f"The database file {file} does not open: {error}\n"
                "It was left untouched. Restore it from a copy, or move it and the .wal file beside it "
                "away to start without that database, then run `mlpipe up`."
            )
            raise SystemExit(message) from error
    return warehouse


def main() -> None:
    """Serve until a termination signal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--database-directory", type=Path, required=True)
    parser.add_argument("--s3-endpoint-url", required=True)
    arguments = parser.parse_args()
    ReadParquet.read_expression = _PlainParquet.read_expression
    FakeSnowflakeCursor.execute = _execute
    transforms.integer_precision = _all_digits
    arrow.timestamp_to_sf_struct = _timestamps_or_null
    Variables.inline_variables = _variables_outside_texts
    warehouse = open_warehouse(arguments.database_directory, arguments.s3_endpoint_url)
    fakesnow.server.shared_fs = warehouse
    logging.getLogger("fakesnow.server").propagate = True
    try:
        uvicorn.run(
            fakesnow.server.app,
            host="127.0.0.1",
            port=arguments.port,
            access_log=False,
            timeout_graceful_shutdown=5,
        )
    finally:
        # Merges the write-ahead logs into the files. After a kill DuckDB replays the logs instead.
        warehouse.duck_conn.close()


if __name__ == "__main__":
    main()
