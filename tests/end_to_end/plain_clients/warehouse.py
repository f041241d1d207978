"""The Snowflake connector and deltalake with only the environment: create, copy from S3, read back."""

from __future__ import annotations

import os
import uuid
from contextlib import closing
from decimal import Decimal

import snowflake.connector
from arro3.core import Array, DataType, Table
from deltalake import DeltaTable, write_deltalake

PREFIX = "SNOWFLAKE_"


def write_parquet(uri: str) -> str:
    """Write a Delta table with two rows, and return the name of its only Parquet file."""
    rows = Table.from_arrays(
        [
            Array(["AA-1141-JFK", "Žluťoučký"], type=DataType.string()),
            Array([2**63 - 1, -(2**63)], type=DataType.int64()),
            Array(["1.50", None], type=DataType.string()).cast(DataType.decimal128(10, 2)),
        ],
        names=["entity_id", "checksum", "price"],
    )
    write_deltalake(uri, rows)
    (file,) = DeltaTable(uri).file_uris()
    return file.removeprefix(f"{uri}/")


def main() -> None:
    """Copy the file into a table through a stage, and compare every value."""
    name = f"PLAIN_{uuid.uuid4().hex.upper()}"
    uri = f"s3://{os.environ['MLPIPE_DATA_BUCKET']}/scratch/{name}"
    file = write_parquet(uri)
    # The names of the variables are the connector's own, in capitals.
    login = {
        variable.removeprefix(PREFIX).lower(): value
        for variable, value in os.environ.items()
        if variable.startswith(PREFIX)
    }
    connection = snowflake.connector.connect(
        **{**login, "port": int(login["port"]), "network_timeout": int(login["network_timeout"])}
    )
    with closing(connection), closing(connection.cursor()) as cursor:
        cursor.execute(f"CREATE TABLE {name} (ENTITY_ID TEXT, CHECKSUM NUMBER(38, 0), PRICE NUMBER(10, 2))")
        cursor.execute(
            f"CREATE STAGE IF NOT EXISTS {name}_STAGE URL = '{uri}/' CREDENTIALS = ("
            f"AWS_KEY_ID = '{os.environ['AWS_ACCESS_KEY_ID']}' "
            f"AWS_SECRET_KEY = '{os.environ['AWS_SECRET_ACCESS_KEY']}')"
        )
        cursor.execute(
            f"COPY INTO {name} FROM @{name}_STAGE FILES = ('{file}') FILE_FORMAT = (TYPE = PARQUET) "
            "MATCH_BY_COLUMN_NAME = CASE_INSENSITIVE ON_ERROR = ABORT_STATEMENT FORCE = TRUE"
        )
        cursor.execute(f"SELECT ENTITY_ID, CHECKSUM, PRICE FROM {name} ORDER BY ENTITY_ID")
        rows = cursor.fetchall()
        cursor.execute(f"DROP TABLE {name}")
    expected = [("AA-1141-JFK", 2**63 - 1, Decimal("1.50")), ("Žluťoučký", -(2**63), None)]
    assert rows == expected, rows


if __name__ == "__main__":
    main()
