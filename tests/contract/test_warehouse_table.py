"""Tests of the text of the Snowflake statements; other tests execute them on the local stack."""

from __future__ import annotations

import re
from datetime import datetime
from decimal import Decimal

import pytest

from prediction_contract.errors import InvalidNameError
from prediction_contract.limits import (
    MAX_COPY_FILES,
    MAX_IDENTIFIER_CHARACTERS,
    MAX_LIST_VALUES,
    MAX_STATEMENT_BYTES,
)
from prediction_contract.naming.s3_layout import delta_table_prefix
from prediction_contract.rows.row_contract import row_contract
from prediction_contract.stores.warehouse_load import WarehouseLoad
from prediction_contract.stores.warehouse_stage import allowed_location, create_stage
from prediction_contract.stores.warehouse_table import (
    ProjectedPublication,
    WarehouseTable,
    create_publications,
    insert_publication,
    projected_gaps,
    publication_parameters,
)
from tests.contract.prediction_rows import FULL_SCHEMA

BATCH = "20130201T060000Z-0123abcd"
TABLE = WarehouseTable("flight_delay", FULL_SCHEMA)
LOAD = WarehouseLoad(TABLE, BATCH, "jr_1")


def test_table_has_schema_columns_and_two_more() -> None:
    """Columns are quoted, upper-case and in schema order; only the key and the added two are required."""
    ddl = TABLE.create()
    assert ddl.startswith(
        'CREATE TABLE IF NOT EXISTS "FLIGHT_DELAY_PREDICTIONS" ("FLIGHT" VARCHAR NOT NULL, '
    )
    assert ddl.endswith('"BATCH_ID" VARCHAR NOT NULL, "ROW_CHECKSUM" NUMBER(19,0) NOT NULL)')
    assert '"FARE" NUMBER(38,10), "SERIAL" NUMBER(38,0), "PROBABILITY" FLOAT, ' in ddl
    assert ddl.count("NOT NULL") == 3


def test_view_reads_latest_publication_without_a_join() -> None:
    """The live view names its columns, parses JSON, keeps its grants, and cannot multiply a row."""
    view = TABLE.create_view()
    assert view.startswith('CREATE OR REPLACE VIEW "FLIGHT_DELAY_LIVE" COPY GRANTS AS SELECT "FLIGHT", ')
    assert 'PARSE_JSON("REASONS") AS "REASONS"' in view
    assert (
        '= (SELECT MAX_BY("BATCH_ID", "SEQUENCE") FROM "PUBLICATIONS" WHERE "MODEL" = \'flight_delay\')'
        in view
    )
    assert "JOIN" not in view
    assert "*" not in view


def test_models_share_no_warehouse_names() -> None:
    """No two models share a table, view or staging table, and none is named like the publications."""
    names: list[str] = ['"PUBLICATIONS"']
    for model in ("publications", "a", "a_live", "a_predictions", "a_live_live", "a_staging"):
        table = WarehouseTable(model, FULL_SCHEMA)
        load = WarehouseLoad(table, BATCH, "jr_1")
        names += [table.name, table.view, load.staging, load.refused]
    assert len(set(names)) == len(names)


def test_copy_is_split_by_number_of_files() -> None:
    """A COPY names at most 1,000 files, loads them again if necessary, and aborts on an error."""
    files = [f"part-{number}.parquet" for number in range(2 * MAX_COPY_FILES + 1)]
    statements = LOAD.copy("FILES", files)
    assert [statement.count(".parquet") for statement in statements] == [MAX_COPY_FILES, MAX_COPY_FILES, 1]
    for statement in statements:
        assert statement.startswith(f"COPY INTO {LOAD.staging} FROM @FILES/flight_delay/delta/ FILES = ('")
        for option in (
            "FORCE = TRUE",
            "NULL_IF = ()",
            "USE_VECTORIZED_SCANNER = TRUE",
            "ON_ERROR = ABORT_STATEMENT",
            "MATCH_BY_COLUMN_NAME = CASE_INSENSITIVE",
        ):
            assert option in statement
    assert LOAD.copy("FILES", []) == []


def test_copy_is_split_by_statement_length() -> None:
    """A COPY of files with long names is split to stay within Snowflake's statement limit."""
    files = [f"{number:04}{'x' * 1020}" for number in range(MAX_COPY_FILES)]
    statements = LOAD.copy("FILES", files)
    assert max(len(statement.encode()) for statement in statements) <= MAX_STATEMENT_BYTES
    assert len(statements) == 3
    assert re.findall("'([0-9]{4}x{1020})'", " ".join(statements)) == files


def test_stage_is_within_the_allowed_location() -> None:
    """The stage's URL and a model's files on it are within the location that the integration allows."""
    allowed = allowed_location("lake")
    assert allowed == "s3://lake/predictions/"
    assert (
        create_stage("FILES", "lake", "S3_X")
        == f"CREATE STAGE IF NOT EXISTS FILES URL = '{allowed}' STORAGE_INTEGRATION = S3_X"
    )
    (copy,) = LOAD.copy("FILES", ["a.parquet"])
    path = copy.split("@FILES/")[1].split(" ")[0]
    assert f"{allowed}{path}" == f"s3://lake/{delta_table_prefix('flight_delay')}"


def test_sql_injection_is_refused() -> None:
    """Names that could end a literal or a statement are refused."""
    for stage, files in (
        ("FILES; DROP TABLE X", ["a"]),
        ("FILES", ["../a"]),
        ("FILES", ["a;\n"]),
        ("FILES", ["a\\'"]),
        ("FILES", ["it's.parquet"]),
    ):
        with pytest.raises(InvalidNameError):
            LOAD.copy(stage, files)
    for stage, bucket, integration in (
        ("A URL", "lake", "S3_X"),
        ("FILES", "lake'", "S3_X"),
        ("FILES", "lake", "S3_X; DROP"),
    ):
        with pytest.raises(InvalidNameError):
            create_stage(stage, bucket, integration)
    for model, batch_id in (('x"', BATCH), ("flight_delay", "x' OR '1'='1")):
        with pytest.raises(InvalidNameError):
            WarehouseTable(model, FULL_SCHEMA).delete_batch(batch_id)
    with pytest.raises(InvalidNameError):
        WarehouseLoad(TABLE, BATCH, "")


def test_loads_of_two_job_runs_share_no_table() -> None:
    """Two job runs never share a staging table, and all names stay within 255 characters."""
    longest = WarehouseTable("m" * 41, FULL_SCHEMA)
    loads = [WarehouseLoad(longest, BATCH, run) for run in ("jr_1", "jr_2")]
    names = {name for load in loads for name in (load.staging, load.refused)}
    assert len(names) == 4
    assert max(len(name.strip('"')) for name in names) <= MAX_IDENTIFIER_CHARACTERS


def test_move_replaces_the_batch_without_ddl() -> None:
    """A move deletes the batch and inserts its accepted rows without DDL, which would commit."""
    delete, insert = LOAD.move()
    assert delete == f'DELETE FROM "FLIGHT_DELAY_PREDICTIONS" WHERE "BATCH_ID" = \'{BATCH}\''
    assert insert.startswith('INSERT INTO "FLIGHT_DELAY_PREDICTIONS" ("FLIGHT", "CARRIER", ')
    refused = f'SELECT 1 FROM {LOAD.refused} R WHERE R."ROW_CHECKSUM" = S."ROW_CHECKSUM"'
    assert f"NOT EXISTS ({refused})" in insert
    _, whole = LOAD.move(are_all_accepted=True)
    assert whole == insert.replace(f" AND NOT EXISTS ({refused})", "")
    assert 'S."FLIGHT" IS NOT NULL' in insert
    for statement in (delete, insert):
        assert not any(word in statement for word in ("CREATE", "DROP", "ALTER"))
    assert all(statement.startswith("CREATE OR REPLACE TRANSIENT TABLE") for statement in LOAD.prepare())
    assert all(statement.startswith("DROP TABLE IF EXISTS") for statement in LOAD.clean_up())


def test_totals_sum_checksums_as_integers() -> None:
    """Totals count rows and keys and sum checksums as integers; staging also counts foreign rows."""
    aggregates = 'COUNT(*), COUNT(DISTINCT "FLIGHT"), COALESCE(SUM("ROW_CHECKSUM"::NUMBER(38,0)), 0)'
    assert TABLE.batch_totals(BATCH).startswith(f"SELECT {aggregates} FROM")
    assert LOAD.staged_totals().startswith(f"SELECT {aggregates}, COUNT(*) - COUNT(CASE WHEN")
    assert TABLE.read_back(BATCH, 3).endswith('"FLIGHT" IN (%s, %s, %s)')
    for keys in (0, MAX_LIST_VALUES + 1):
        with pytest.raises(ValueError, match="read back at once"):
            TABLE.read_back(BATCH, keys)


def test_stored_values_are_in_column_order() -> None:
    """A row is read back with JSON as canonical text, times naive in UTC and absent values as None."""
    row = row_contract(FULL_SCHEMA).accept(
        b'{"flight":"A","fare":1.50,"departs":"2013-02-01T00:00:00-05:00","reasons":{"b":1.0,"a":null}}'
    )
    assert TABLE.stored_values(row, BATCH) == (
        "A", None, None, Decimal("1.5"), None, None, None, None,
        datetime.fromisoformat("2013-02-01T05:00:00"),
        '{"a":null,"b":1}', BATCH, row.checksum,
    )  # fmt: skip
    assert len(TABLE.stored_values(row, BATCH)) == len(TABLE.columns)


def test_publication_parameters_fill_the_statement() -> None:
    """The values of a publication match the placeholders; an absent batch is written as empty text."""
    publication = ProjectedPublication(
        "flight_delay", 7, BATCH, "2013-02-01", "publish", "run-1", "2013-02-01T06:00:00Z"
    )
    values = publication_parameters(publication)
    assert insert_publication().count("%s") == len(values)
    assert values == (
        "flight_delay", 7, BATCH, "2013-02-01", "publish", "run-1", "2013-02-01T06:00:00", "flight_delay", 7,
    )  # fmt: skip
    nothing = publication_parameters(publication._replace(batch_id=None, partition=None))
    assert nothing[2:4] == ("", "")
    assert create_publications().count("NOT NULL") == 7
    assert projected_gaps().count("%s") == 1
    with pytest.raises(InvalidNameError):
        publication_parameters(publication._replace(batch_id="x"))
