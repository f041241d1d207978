"""The setup SQL for Snowflake uses the platform's names and can be run again."""

from __future__ import annotations

import re

import pytest
from pydantic import ValidationError

from infra.permissions.platform_roles import snowflake_statements
from infra.snowflake_setup import main, setup_sql, statements
from prediction_contract.naming.resource_names import Deployment
from prediction_contract.rows.schema import Column, ColumnType, PredictionSchema
from prediction_contract.stores.warehouse_stage import allowed_location
from prediction_contract.stores.warehouse_table import WarehouseTable
from tests.infra.example_stages import STAGES, changed_stage

DEPLOYMENT = Deployment("prod", "123456789012", "eu-west-1")
MODELS = ("airport_congestion", "flight_delay")
SQL = setup_sql(DEPLOYMENT, MODELS, retention_days=1)
STATEMENTS = statements(SQL)


def test_every_setup_statement_is_repeatable() -> None:
    """Statements create what is missing, replace a view with its grants, grant or describe."""
    made = r"CREATE \w+( \w+)? IF NOT EXISTS |CREATE OR REPLACE SECURE VIEW \S+ COPY GRANTS "
    safe = rf"USE ROLE |GRANT |DESC |ALTER DATABASE \S+ SET |{made}"
    assert len(STATEMENTS) > 20
    assert [each for each in STATEMENTS if not re.match(safe, each)] == []


def test_setup_uses_the_deployment_names() -> None:
    """Database, warehouse, role, integration, bucket and IAM role have the deployment's names."""
    for name in (
        f"CREATE DATABASE IF NOT EXISTS {DEPLOYMENT.snowflake_database};",
        f"CREATE WAREHOUSE IF NOT EXISTS {DEPLOYMENT.snowflake_warehouse}\n",
        f"CREATE ROLE IF NOT EXISTS {DEPLOYMENT.snowflake_role} ",
        f"CREATE STORAGE INTEGRATION IF NOT EXISTS {DEPLOYMENT.snowflake_integration}\n",
        f"STORAGE_AWS_ROLE_ARN = '{DEPLOYMENT.snowflake_access_role_arn}'",
        f"STORAGE_ALLOWED_LOCATIONS = ('{allowed_location(DEPLOYMENT.data_bucket)}')",
    ):
        assert name in SQL
    assert "<%" not in SQL


def test_live_view_of_every_model_is_shared() -> None:
    """A secure view with the live view's name is shared for each model."""
    schema = PredictionSchema((Column("entity_id", ColumnType.parse("string"), nullable=False),), "entity_id")
    for model in MODELS:
        view = WarehouseTable(model, schema).view.strip('"')
        assert f"SECURE VIEW {DEPLOYMENT.snowflake_database}.SHARED.{view} " in SQL
        assert f"FROM {DEPLOYMENT.snowflake_database}.{DEPLOYMENT.snowflake_schema}.{view};" in SQL
    shared = re.findall(r"ON VIEW (\S+) TO SHARE", SQL)
    assert len(shared) == len(MODELS)


def test_loader_rights_are_limited_to_its_schema() -> None:
    """No role gets all privileges or ownership, and readers see views only."""
    granted = [each for each in STATEMENTS if each.startswith("GRANT ")]
    loader = [each for each in granted if each.endswith(f"TO ROLE {DEPLOYMENT.snowflake_role}")]
    assert len(loader) == 4
    assert [each for each in granted if "ALL PRIVILEGES" in each or "OWNERSHIP" in each] == []
    readers = [each for each in granted if each.endswith("_READER") and "SELECT" in each]
    assert readers
    assert all("VIEWS IN SCHEMA" in each for each in readers)


def test_loader_may_create_its_stage() -> None:
    """It may use the stage's integration and create stages in its schema."""
    role = DEPLOYMENT.snowflake_role
    assert f"GRANT USAGE ON INTEGRATION {DEPLOYMENT.snowflake_integration} TO ROLE {role}" in STATEMENTS
    schema = f"{DEPLOYMENT.snowflake_database}.{DEPLOYMENT.snowflake_schema}"
    assert any(
        re.match(rf"GRANT .*\bCREATE STAGE\b.* ON SCHEMA {schema} TO ROLE {role}$", each)
        for each in STATEMENTS
    )


def test_snowflake_role_reads_the_allowed_location() -> None:
    """Snowflake's IAM role may read exactly the location that the integration allows."""
    (read,) = [each for each in snowflake_statements(DEPLOYMENT) if "s3:GetObject" in each["Action"]]
    location = allowed_location(DEPLOYMENT.data_bucket).removeprefix("s3://")
    assert read["Resource"] == [f"arn:aws:s3:::{location}*"]


@pytest.mark.parametrize(("days", "is_taken"), [(-1, False), (0, True), (1, True), (90, True), (91, False)])
def test_stage_sets_time_travel_days(days: int, *, is_taken: bool) -> None:
    """The default of one day works in every edition; a value beyond 0 to 90 days is refused."""
    assert STAGES["prod"].snowflake_retention_days == 1
    if is_taken:
        settings = changed_stage(snowflake_retention_days=days)
        sql = setup_sql(DEPLOYMENT, MODELS, retention_days=settings.snowflake_retention_days)
        assert f"SET DATA_RETENTION_TIME_IN_DAYS = {days};" in sql
    else:
        with pytest.raises(ValidationError, match="snowflake_retention_days"):
            changed_stage(snowflake_retention_days=days)


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_setup_is_printed_for_each_stage(stage: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The SQL has the stage's database name and days of Time Travel."""
    assert main([stage]) == 0
    printed = capsys.readouterr().out
    settings = STAGES[stage]
    assert settings.deployment().snowflake_database in printed
    assert f"DATA_RETENTION_TIME_IN_DAYS = {settings.snowflake_retention_days};" in printed
