"""The Snowflake emulator refuses statements that Snowflake refuses, by their text and without a server."""

from __future__ import annotations

import pytest
from snowflake.connector.errors import ProgrammingError

from infra.local.emulators.snowflake_account import SnowflakeAccount
from infra.snowflake_setup import setup_sql, statements
from prediction_contract.cleaning.cleaning_rules import NO_CLEANING, Cleaning
from prediction_contract.cleaning.column_cleaning import ColumnCleaning
from prediction_contract.jobs.job_arguments import LONGEST_ARGUMENT
from prediction_contract.limits import (
    FORBIDDEN_COLUMNS,
    MAX_COPY_FILES,
    MAX_IDENTIFIER_CHARACTERS,
    MAX_LIST_VALUES,
    MAX_QUERY_TAG_CHARACTERS,
    MAX_STATEMENT_BYTES,
)
from prediction_contract.naming.resource_names import Deployment
from prediction_contract.rows.schema import MAX_COLUMNS, Column, ColumnType, PredictionSchema
from prediction_contract.stores.warehouse_columns import ColumnDifference
from prediction_contract.stores.warehouse_load import WarehouseLoad
from prediction_contract.stores.warehouse_stage import create_stage
from prediction_contract.stores.warehouse_table import WarehouseTable, create_publications

DEPLOYMENT = Deployment("prod", "123456789012", "eu-west-1")
BUCKET, INTEGRATION = DEPLOYMENT.data_bucket, DEPLOYMENT.snowflake_integration
STAGE = create_stage(DEPLOYMENT.snowflake_stage, BUCKET, INTEGRATION)
WIDEST = PredictionSchema(
    (
        Column("id", ColumnType.parse("string"), nullable=False),
        *(
            Column(f"{'c' * 59}{number:04}", ColumnType.parse("decimal(38,10)"))
            for number in range(MAX_COLUMNS - 1)
        ),
    ),
    "id",
)


def _listed(number: int) -> str:
    return ", ".join(["'a, b'"] * number)


@pytest.fixture
def account() -> SnowflakeAccount:
    """An account that ran the setup statements which a person runs on Snowflake."""
    made = SnowflakeAccount()
    for statement in statements(setup_sql(DEPLOYMENT, [], retention_days=1)):
        made.translate(statement)
    return made


def test_setup_allows_the_loads_stage(account: SnowflakeAccount) -> None:
    """The setup's integration allows the location of the stage that a load creates."""
    assert account.translate(STAGE) == STAGE
    assert f"s3://{BUCKET}/predictions/" in account.translate(f"DESC INTEGRATION {INTEGRATION}")


@pytest.mark.parametrize(
    ("location", "integration"),
    [
        (f"s3://{BUCKET}/", f"STORAGE_INTEGRATION = {INTEGRATION}"),
        (f"s3://{BUCKET}/predictions", f"STORAGE_INTEGRATION = {INTEGRATION}"),
        (f"s3://{BUCKET}/models/", f"STORAGE_INTEGRATION = {INTEGRATION}"),
        (f"s3://other-{BUCKET}/predictions/", f"storage_integration={INTEGRATION.lower()}"),
    ],
)
def test_stage_outside_allowed_locations_is_refused(
    account: SnowflakeAccount, location: str, integration: str
) -> None:
    """A stage's URL must begin with an allowed location, both when it is created and when it is altered."""
    for verb in ("CREATE STAGE", "CREATE OR REPLACE TEMPORARY STAGE", "ALTER STAGE"):
        with pytest.raises(ProgrammingError, match="not allowed by integration"):
            account.translate(f"{verb} S URL = '{location}' {integration}")


def test_stage_needs_a_known_integration_or_credentials(account: SnowflakeAccount) -> None:
    """An S3 stage without either cannot read the bucket; an unknown integration is an error."""
    with pytest.raises(ProgrammingError, match="neither STORAGE_INTEGRATION nor CREDENTIALS"):
        account.translate(f"CREATE STAGE S URL = 's3://{BUCKET}/predictions/'")
    with pytest.raises(ProgrammingError, match="Integration 'OTHER' does not exist"):
        account.translate(f"CREATE STAGE S URL = 's3://{BUCKET}/predictions/' STORAGE_INTEGRATION = OTHER")
    for statement in ("DESC INTEGRATION OTHER", "GRANT USAGE ON INTEGRATION OTHER TO ROLE R"):
        with pytest.raises(ProgrammingError, match="Integration 'OTHER' does not exist"):
            account.translate(statement)
    for statement in (
        f"CREATE STAGE S URL = 's3://{BUCKET}/' CREDENTIALS = (AWS_KEY_ID = 'a' AWS_SECRET_KEY = 'b')",
        "CREATE STAGE INTERNAL",
    ):
        assert account.translate(statement) == statement


def test_existing_integration_keeps_its_locations(account: SnowflakeAccount) -> None:
    """`IF NOT EXISTS` leaves an existing integration unchanged; `OR REPLACE` replaces its locations."""
    other = "STORAGE_ALLOWED_LOCATIONS = ('s3://a/', 's3://b/c/')"
    account.translate(f"CREATE STORAGE INTEGRATION IF NOT EXISTS {INTEGRATION} {other}")
    account.translate(STAGE)
    account.translate(f"CREATE OR REPLACE STORAGE INTEGRATION {INTEGRATION} {other}")
    with pytest.raises(ProgrammingError, match="not allowed by integration"):
        account.translate(STAGE)
    account.translate(f"CREATE STAGE S URL = 's3://b/c/d/' STORAGE_INTEGRATION = {INTEGRATION}")


def test_time_travel_beyond_standard_edition_is_refused(account: SnowflakeAccount) -> None:
    """A setup with more than one day of Time Travel fails, as on an account of that edition."""
    translated = [account.translate(each) for each in statements(setup_sql(DEPLOYMENT, [], retention_days=0))]
    assert translated
    beyond = statements(setup_sql(DEPLOYMENT, [], retention_days=2))
    with pytest.raises(ProgrammingError, match=r"invalid value \[2\] for .*RETENTION"):
        list(map(account.translate, beyond))


@pytest.mark.parametrize("name", sorted(FORBIDDEN_COLUMNS))
def test_ansi_reserved_columns_are_refused(account: SnowflakeAccount, name: str) -> None:
    """Reserved names are refused as columns, quoted or not, and allowed as functions and texts."""
    for statement in (
        f'CREATE TABLE IF NOT EXISTS "T" ("A" VARCHAR NOT NULL, "{name.upper()}" NUMBER(19,0))',
        f"CREATE OR REPLACE TRANSIENT TABLE D.S.T ({name} DATE)",
        f'ALTER TABLE "T" ADD COLUMN IF NOT EXISTS "{name.upper()}" DATE',
    ):
        with pytest.raises(ProgrammingError, match=f"'{name.upper()}' .ANSI reserved"):
            account.translate(statement)
    for statement in (
        f'CREATE TABLE "T" ("{name.upper()}_" DATE)',
        f"CREATE TABLE T AS SELECT 1 AS A, {name} AS B",
        f"SELECT '({name} DATE)'",
    ):
        assert account.translate(statement) == statement


def test_each_limit_is_exact(account: SnowflakeAccount) -> None:
    """A statement at the limit is accepted, and one just beyond it is refused."""
    for most, statement in (
        (MAX_STATEMENT_BYTES - len("SELECT ''"), lambda n: f"SELECT '{'x' * n}'"),
        (MAX_IDENTIFIER_CHARACTERS, lambda n: f'CREATE VIEW "{"V" * n}" AS SELECT 1'),
        (MAX_LIST_VALUES, lambda n: f"SELECT 1 WHERE K IN ({_listed(n)})"),
        (MAX_COPY_FILES, lambda n: f"COPY INTO T FROM @S FILES = ({_listed(n)})"),
        (MAX_QUERY_TAG_CHARACTERS, lambda n: f"ALTER SESSION SET QUERY_TAG = '{'x' * n}'"),
    ):
        assert account.translate(statement(most)) == statement(most)
        with pytest.raises(ProgrammingError):
            account.translate(statement(most + 1))


def test_invalid_copy_options_are_refused(account: SnowflakeAccount) -> None:
    """The vectorized scanner allows only two kinds of error handling; unknown options are errors."""
    copy = "COPY INTO T FROM @S FILES = ('a') FILE_FORMAT = (TYPE = PARQUET {}) ON_ERROR = {}"
    for on_error in ("ABORT_STATEMENT", "SKIP_FILE", "'skip_file'"):
        account.translate(copy.format("USE_VECTORIZED_SCANNER = TRUE NULL_IF = ('a', 'b')", on_error))
    account.translate(copy.format("USE_VECTORIZED_SCANNER = FALSE", "CONTINUE"))
    for on_error in ("CONTINUE", "SKIP_FILE_10", "'SKIP_FILE_10%'"):
        with pytest.raises(ProgrammingError, match="USE_VECTORIZED_SCANNER does not go with"):
            account.translate(copy.format("USE_VECTORIZED_SCANNER = TRUE", on_error))
    with pytest.raises(ProgrammingError, match="invalid parameter 'USE_VECTORISED_SCANNER'"):
        account.translate(copy.format("USE_VECTORISED_SCANNER = TRUE", "ABORT_STATEMENT"))


def test_statements_of_the_widest_model_are_accepted(account: SnowflakeAccount) -> None:
    """A load of a thousand columns with the longest names stays within Snowflake's limits."""
    table = WarehouseTable("m" * 41, WIDEST)
    load = WarehouseLoad(table, "20130201T060000Z-0123abcd", "jr_1", cleaning=NO_CLEANING)
    for statement in (
        table.create(),
        *ColumnDifference.between(table, ()).additions,
        table.create_view(),
        create_publications(),
        *load.prepare(),
        *load.copy("S", ["x" * 1024] * MAX_COPY_FILES),
        load.staged_totals(),
        load.refuse(),
        *load.move(),
        *load.clean_up(),
        table.read_back("20130201T060000Z-0123abcd", MAX_LIST_VALUES),
    ):
        assert account.translate(statement) == statement


def test_load_with_the_most_cleaning_is_accepted(account: SnowflakeAccount) -> None:
    """Cleaning rules for as many columns as fit into a job argument give statements within the limits."""
    names = [f"c{number:03}" for number in range(MAX_COLUMNS - 1)]
    text = ColumnType.parse("string")
    schema = PredictionSchema(
        (Column("id", text, nullable=False), *(Column(name, text) for name in names)), "id"
    )
    every = {"trim": True, "cast": "decimal(38,6)", "default": "0", "minimum": "-1", "maximum": "1"}
    cleaning = Cleaning(tuple(ColumnCleaning(column=name, **every) for name in names))
    assert 0.9 * LONGEST_ARGUMENT < len(cleaning.to_argument() or "") <= LONGEST_ARGUMENT
    table = WarehouseTable("m" * 41, cleaning.stored_schema(schema))
    load = WarehouseLoad(table, "20130201T060000Z-0123abcd", "jr_1", delivered=schema, cleaning=cleaning)
    for statement in load.move():
        assert account.translate(statement) == statement
