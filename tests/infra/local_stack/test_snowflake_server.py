"""Through the real connector, the Snowflake emulator loads Parquet from the local S3 as Snowflake would."""

from __future__ import annotations

import os
import signal
from contextlib import closing
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from arro3.core import Array, DataType, Table
from dagster_snowflake import SnowflakeResource
from deltalake import DeltaTable, write_deltalake
from snowflake.connector.errors import ProgrammingError

from tests.stack_runs import StackRun

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.stack

BUCKET = "warehouse-lake"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackRun]:
    """A stack of AWS and Snowflake emulators with a bucket and a database."""
    stack = StackRun(tmp_path_factory.mktemp("warehouse") / "state", ("aws", "snowflake"))
    try:
        stack.up()
        stack.aws("s3").create_bucket(Bucket=BUCKET)
        statements(stack, "CREATE DATABASE LAKE", "CREATE SCHEMA LAKE.PUBLIC_DATA")
        yield stack
    finally:
        stack.down()


def storage_options(run: StackRun) -> dict[str, str]:
    """Return delta-rs's options for the local S3."""
    return {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{run.components()['aws']['port']}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_ALLOW_HTTP": "true",
        "conditional_put": "etag",
    }


def statements(run: StackRun, *texts: str, **arguments: Any) -> list[tuple[Any, ...]]:
    """Execute the statements in one session and return the last one's rows."""
    rows: list[Any] = []
    with closing(run.snowflake(**arguments)) as connection:
        for text in texts:
            rows = connection.cursor().execute(text).fetchall()
    return rows


def write_delta(run: StackRun, name: str, table: Table, **options: Any) -> str:
    """Write a Delta table to the bucket and return its only file's key, relative to the table."""
    uri = f"s3://{BUCKET}/{name}"
    write_deltalake(uri, table, storage_options=storage_options(run), **options)
    (file,) = DeltaTable(uri, storage_options=storage_options(run)).file_uris()
    return file.removeprefix(f"{uri}/")


def copy(run: StackRun, name: str, file: str, columns: str) -> None:
    """Create a table and copy one file of the Delta table of this name into it, as the loader does."""
    statements(
        run,
        f"CREATE OR REPLACE TABLE {name} ({columns})",
        f"CREATE STAGE IF NOT EXISTS {name}_STAGE URL = 's3://{BUCKET}/{name.lower()}/' "
        "CREDENTIALS = (AWS_KEY_ID = 'test' AWS_SECRET_KEY = 'test')",
        f"COPY INTO {name} FROM @{name}_STAGE FILES = ('{file}') FILE_FORMAT = (TYPE = PARQUET) "
        "MATCH_BY_COLUMN_NAME = CASE_INSENSITIVE ON_ERROR = ABORT_STATEMENT FORCE = TRUE",
        database="LAKE",
        schema="PUBLIC_DATA",
    )


def test_connector_copies_parquet_of_a_delta_table(run: StackRun) -> None:
    """Text, 64-bit integers and decimals can be read back unchanged."""
    table = Table.from_arrays(
        [
            Array(["AA-1141-JFK", "Žluťoučký"], type=DataType.string()),
            Array([2**63 - 1, -(2**63)], type=DataType.int64()),
            Array(["1.50", None], type=DataType.string()).cast(DataType.decimal128(10, 2)),
        ],
        names=["entity_id", "checksum", "price"],
    )
    file = write_delta(run, "prices", table)
    copy(run, "PRICES", file, "ENTITY_ID TEXT, CHECKSUM NUMBER(38, 0), PRICE NUMBER(10, 2)")
    rows = statements(run, "SELECT * FROM LAKE.PUBLIC_DATA.PRICES ORDER BY ENTITY_ID")
    assert rows == [("AA-1141-JFK", 2**63 - 1, Decimal("1.50")), ("Žluťoučký", -(2**63), None)]


def test_partition_in_path_is_loaded_as_null(run: StackRun) -> None:
    """A Delta partition column is not stored in the files, so it is NULL, as on Snowflake."""
    table = Table.from_arrays(
        [Array([7], type=DataType.int64()), Array(["NL"], type=DataType.string())],
        names=["amount", "country"],
    )
    file = write_delta(run, "sales", table, partition_by=["country"])
    assert file.startswith("country=NL/")
    copy(run, "SALES", file, "AMOUNT NUMBER(38, 0), COUNTRY TEXT")
    assert statements(run, "SELECT AMOUNT, COUNTRY FROM LAKE.PUBLIC_DATA.SALES") == [(7, None)]


def test_dagster_snowflake_resource_connects(run: StackRun) -> None:
    """The resource that product code uses needs only connection arguments to reach the emulator."""
    resource = SnowflakeResource(
        account="local",
        user="test",
        password="test",
        database="LAKE",
        schema="PUBLIC_DATA",
        additional_snowflake_connection_args={
            "host": "127.0.0.1",
            "port": run.components()["snowflake"]["port"],
            "protocol": "http",
            "session_parameters": {"QUERY_TAG": "a-test"},
            "network_timeout": 20,
        },
    )
    with resource.get_connection() as connection:
        cursor = connection.cursor()
        cursor.execute("CREATE OR REPLACE TABLE BY_DAGSTER (N NUMBER(38, 0))")
        cursor.execute("INSERT INTO BY_DAGSTER SELECT 1 UNION ALL SELECT 2")
        cursor.execute("SELECT SUM(N) FROM BY_DAGSTER")
        assert cursor.fetchall() == [(3,)]


def test_sessions_share_committed_rows(run: StackRun) -> None:
    """A row is visible in another session after its commit and not before."""
    table = "LAKE.PUBLIC_DATA.SHARED"
    statements(run, f"CREATE OR REPLACE TABLE {table} (N INT)")
    with closing(run.snowflake()) as writer:
        writer.cursor().execute("BEGIN")
        writer.cursor().execute(f"INSERT INTO {table} VALUES (1)")
        assert statements(run, f"SELECT COUNT(*) FROM {table}") == [(0,)]
        writer.cursor().execute("COMMIT")
        assert statements(run, f"SELECT COUNT(*) FROM {table}") == [(1,)]


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_committed_rows_survive_stop_and_kill(run: StackRun, how: str) -> None:
    """After a restart a recently created database has its committed rows and no others."""
    database = f"MADE_BEFORE_{how.upper()}"
    table = f"{database}.S.T"
    statements(
        run, f"CREATE DATABASE {database}", f"CREATE SCHEMA {database}.S", f"CREATE TABLE {table} (N INT)"
    )
    statements(run, f"INSERT INTO {table} VALUES (1), (2)")
    with closing(run.snowflake()) as open_session:
        open_session.cursor().execute("BEGIN")
        open_session.cursor().execute(f"INSERT INTO {table} VALUES (3)")
        if how == "kill":
            os.kill(run.components()["snowflake"]["pid"], signal.SIGKILL)
        else:
            run.down()
        run.up()
    assert statements(run, f"SELECT N FROM {table} ORDER BY N") == [(1,), (2,)]
    statements(
        run,
        f"INSERT INTO {table} VALUES (4)",
        f"CREATE OR REPLACE VIEW {database}.S.V AS SELECT N FROM {table}",
    )
    assert statements(run, f"SELECT COUNT(*) FROM {database}.S.V") == [(3,)]


def test_dollar_in_text_is_not_a_variable(run: StackRun) -> None:
    """Session variables are replaced outside texts only, as on Snowflake."""
    found = statements(run, "SET price = 7", "SELECT $price, '$price', 'it''s $\\\\ $Á'")
    assert found == [(7, "$price", "it's $\\ $Á")]


def test_connector_gets_snowflakes_error(run: StackRun) -> None:
    """Clients get Snowflake's messages for refused stages and columns, for stages with its error codes."""
    inside = {"database": "LAKE", "schema": "PUBLIC_DATA"}
    statements(run, f"CREATE STORAGE INTEGRATION ONE STORAGE_ALLOWED_LOCATIONS = ('s3://{BUCKET}/a/')")
    (row,) = statements(run, "DESC INTEGRATION ONE")
    assert row == ("STORAGE_ALLOWED_LOCATIONS", "List", f"s3://{BUCKET}/a/")
    stage = f"CREATE STAGE ONE URL = 's3://{BUCKET}/{{}}/' STORAGE_INTEGRATION = ONE"
    statements(run, stage.format("a/b"), **inside)
    with pytest.raises(ProgrammingError, match="is not allowed by integration ONE") as refused:
        statements(run, stage.format("b"), **inside)
    assert (refused.value.errno, refused.value.sqlstate) == (3127, "42601")
    with pytest.raises(ProgrammingError, match=r"'LOCALTIME' \(ANSI reserved"):
        statements(run, 'CREATE TABLE T ("LOCALTIME" VARCHAR)', **inside)
