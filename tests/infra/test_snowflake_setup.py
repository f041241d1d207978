"""The SQL that sets Snowflake up names what the programs use, and can be run again."""

from __future__ import annotations

import re

import pytest

from infra.settings import STAGES
from infra.snowflake_setup import main, setup_sql
from prediction_contract.resource_names import Deployment
from prediction_contract.schema import Column, ColumnType, PredictionSchema
from prediction_contract.warehouse_table import WarehouseTable

DEPLOYMENT = Deployment("prod", "123456789012", "eu-west-1")
MODELS = ("airport_congestion", "flight_delay")
SQL = setup_sql(DEPLOYMENT, MODELS)
STATEMENTS = [
    " ".join(line for line in each.splitlines() if not line.startswith("--")).strip()
    for each in re.sub("^--.*$", "", SQL, flags=re.MULTILINE).split(";")
]


def test_every_statement_is_safe_to_run_again() -> None:
    """It creates what is missing, replaces a view with its grants, grants, or only looks."""
    made = r"CREATE \w+( \w+)? IF NOT EXISTS |CREATE OR REPLACE SECURE VIEW \S+ COPY GRANTS "
    safe = rf"USE ROLE |GRANT |DESC |{made}"
    statements = [each for each in STATEMENTS if each]
    assert len(statements) > 20
    assert [each for each in statements if not re.match(safe, each)] == []


def test_the_names_are_those_of_the_deployment() -> None:
    """Database, warehouse, role, integration, bucket and Snowflake's own IAM role."""
    for name in (
        f"CREATE DATABASE IF NOT EXISTS {DEPLOYMENT.snowflake_database} ",
        f"CREATE WAREHOUSE IF NOT EXISTS {DEPLOYMENT.snowflake_warehouse}\n",
        f"CREATE ROLE IF NOT EXISTS {DEPLOYMENT.snowflake_role} ",
        f"CREATE STORAGE INTEGRATION IF NOT EXISTS {DEPLOYMENT.snowflake_integration}\n",
        f"STORAGE_AWS_ROLE_ARN = '{DEPLOYMENT.snowflake_access_role_arn}'",
        f"STORAGE_ALLOWED_LOCATIONS = ('s3://{DEPLOYMENT.data_bucket}/predictions/')",
    ):
        assert name in SQL
    assert "<%" not in SQL


def test_every_model_s_live_view_is_shared() -> None:
    """By the name that the contract gives the view, behind a secure view of the same name."""
    schema = PredictionSchema((Column("entity_id", ColumnType.parse("string"), nullable=False),), "entity_id")
    for model in MODELS:
        view = WarehouseTable(model, schema).view.strip('"')
        assert f"SECURE VIEW {DEPLOYMENT.snowflake_database}.SHARED.{view} " in SQL
        assert f"FROM {DEPLOYMENT.snowflake_database}.{DEPLOYMENT.snowflake_schema}.{view};" in SQL
    shared = re.findall(r"ON VIEW (\S+) TO SHARE", SQL)
    assert len(shared) == len(MODELS)


def test_the_loader_s_rights_do_not_reach_beyond_its_schema() -> None:
    """It owns nothing of the account: neither roles nor integrations, and readers see views only."""
    granted = [each for each in STATEMENTS if each.startswith("GRANT ")]
    loader = [each for each in granted if each.endswith(f"TO ROLE {DEPLOYMENT.snowflake_role}")]
    assert len(loader) == 4
    assert [each for each in granted if "ALL PRIVILEGES" in each or "OWNERSHIP" in each] == []
    readers = [each for each in granted if each.endswith("_READER") and "SELECT" in each]
    assert readers
    assert all("VIEWS IN SCHEMA" in each for each in readers)


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_it_is_printed_for_each_stage(stage: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With the stage's own names."""
    assert main([stage]) == 0
    assert STAGES[stage].deployment().snowflake_database in capsys.readouterr().out
