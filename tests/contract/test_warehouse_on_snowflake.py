"""Tests of the Snowflake statements on the local stack: loads of Delta files, totals and the live view."""

from __future__ import annotations

import json
import math
import uuid
from contextlib import closing, suppress
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
import snowflake.connector

from prediction_contract.cleaning.cleaning_rules import Cleaning
from prediction_contract.cleaning.column_cleaning import ColumnCleaning
from prediction_contract.cleaning.row_cleaning import delta_values, row_parser
from prediction_contract.errors import InvalidRowError
from prediction_contract.rows.checksums import batch_checksum
from prediction_contract.rows.schema import PredictionSchema
from prediction_contract.stores.warehouse_columns import ColumnDifference, table_columns
from prediction_contract.stores.warehouse_load import WarehouseLoad
from prediction_contract.stores.warehouse_stage import allowed_location, create_stage
from prediction_contract.stores.warehouse_table import (
    SESSION_PARAMETERS,
    ProjectedPublication,
    ProjectedSequences,
    WarehouseTable,
    create_publications,
    insert_publication,
    projected_gaps,
    publication_parameters,
)
from tests.contract.prediction_rows import FULL_SCHEMA, column
from tests.contract.written_batches import Batch, Lake

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.stack_runs import LocalStack

pytestmark = pytest.mark.stack

BATCH = "20130201T060000Z-0123abcd"
NEXT_BATCH = "20130202T060000Z-0123abcd"
STAGE = "PREDICTION_FILES"

# Valid values that a conversion on the way might change.
ROWS: list[dict[str, Any]] = [
    {"flight": "only-a-key"},
    {"flight": "null", "carrier": "\\N"},
    {
        "flight": "highest",
        "carrier": "",
        "seats": 2**63 - 1,
        "fare": Decimal("9999999999999999999999999999.9999999999"),
        "serial": 10**38 - 1,
        "probability": 9.99e125,
        "late": True,
        "day": date(9999, 12, 31),
        "departs": datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
        "reasons": {"n": Decimal("12345678901234567890.123456789"), "list": [None, True, "é", {}]},
    },
    {
        "flight": "lowest",
        "carrier": "a'b\"c\\d%se\n\t;--\x01\\N",
        "seats": -(2**63),
        "fare": Decimal("-0.0000000001"),
        "serial": -(10**38) + 1,
        "probability": 1e-130,
        "late": False,
        "day": date(1, 1, 1),
        "departs": datetime(1, 1, 1, tzinfo=UTC),
        "reasons": "text \\u0000 \x01",
    },
    {"flight": 'it\'s %s; "quoted" \\ 100%', "probability": 0.1, "fare": Decimal("1.50"), "reasons": 7},
    {"flight": "Zu\u0308rich", "carrier": "decomposed", "departs": datetime(2013, 3, 10, 7, 30, tzinfo=UTC)},
    {"flight": "Zürich", "carrier": "composed\u2028✈️", "seats": 2**53 + 1, "reasons": [False]},
    {"flight": "zürich", "carrier": "lower case", "probability": -0.0, "reasons": {"é": 1, "E": 2}},
]


class Warehouse:
    """A session of the real connector."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def run(self, statement: str, parameters: Sequence[Any] | None = None) -> list[tuple[Any, ...]]:
        """Execute one statement and return its rows."""
        return self._connection.cursor().execute(statement, parameters).fetchall()


@pytest.fixture
def warehouse(local_stack: LocalStack) -> Iterator[Warehouse]:
    """A session with the loader's parameters in an empty schema."""
    environment = local_stack.environment
    schema = f"CONTRACT_{uuid.uuid4().hex[:8].upper()}"
    connection = snowflake.connector.connect(
        account="local",
        user="test",
        password="test",
        protocol="http",
        host=environment["SNOWFLAKE_HOST"],
        port=int(environment["SNOWFLAKE_PORT"]),
        database=environment["SNOWFLAKE_DATABASE"],
        # A copy, because the connector writes the server's answers into it.
        session_parameters=dict(SESSION_PARAMETERS),
        network_timeout=30,
    )
    with closing(connection):
        session = Warehouse(connection)
        session.run(f"CREATE SCHEMA {schema}")
        session.run(f"USE SCHEMA {schema}")
        yield session
        session.run(f"DROP SCHEMA {schema}")


@pytest.fixture
def lake(local_stack: LocalStack, aws_client: Callable[[str], Any], warehouse: Warehouse) -> Lake:
    """A Delta table in a new bucket that Snowflake can read through a stage."""
    environment = local_stack.environment
    suffix = uuid.uuid4().hex[:8]
    bucket, integration = f"lake-{suffix}", f"LAKE_{suffix}"
    aws_client("s3").create_bucket(Bucket=bucket)
    warehouse.run(
        f"CREATE STORAGE INTEGRATION {integration} STORAGE_ALLOWED_LOCATIONS = ('{allowed_location(bucket)}')"
    )
    warehouse.run(create_stage(STAGE, bucket, integration))
    return Lake(
        bucket,
        "flight_delay",
        {
            "AWS_ENDPOINT_URL": environment["AWS_ENDPOINT_URL"],
            "AWS_ACCESS_KEY_ID": environment["AWS_ACCESS_KEY_ID"],
            "AWS_SECRET_ACCESS_KEY": environment["AWS_SECRET_ACCESS_KEY"],
            "AWS_REGION": environment["AWS_REGION"],
            "AWS_ALLOW_HTTP": "true",
            "conditional_put": "etag",
        },
    )


@pytest.fixture
def table(warehouse: Warehouse) -> WarehouseTable:
    """The model's table, view and projection, created like by the first load of a model."""
    made = WarehouseTable("flight_delay", FULL_SCHEMA)
    for statement in (made.create(), create_publications(), made.create_view()):
        warehouse.run(statement)
    return made


def load(
    warehouse: Warehouse, table: WarehouseTable, batch: Batch, job_run: str = "jr_1", **cleaned: Any
) -> None:
    """Load a batch with the loader's statements, and assert its totals before and after the move."""
    staged = WarehouseLoad(table, batch.batch_id, job_run, **cleaned)
    for statement in (*staged.prepare(), *staged.copy(STAGE, batch.files)):
        warehouse.run(statement)
    schema = cleaned.get("delivered", table.schema)
    keys = {
        line.row.key if line.row else delta_values(schema, line.content).get(schema.key)
        for line in batch.lines
    } - {None}
    (found,) = warehouse.run(staged.staged_totals())
    checksum = batch_checksum(line.checksum for line in batch.lines)
    assert totals(found) == (len(batch.lines), len(keys), checksum)
    assert found[3] == 0
    for refused in batch.quarantined:
        warehouse.run(staged.refuse(), (refused,))
    warehouse.run("BEGIN")
    for statement in staged.move():
        warehouse.run(statement)
    (found,) = warehouse.run(table.batch_totals(batch.batch_id))
    accepted = batch.accepted
    checksum = batch_checksum(row.checksum for row in accepted)
    assert totals(found) == (len(accepted), len(accepted), checksum)
    warehouse.run("COMMIT")
    for statement in staged.clean_up():
        warehouse.run(statement)


def totals(found: Sequence[Any]) -> tuple[int, int, str]:
    """Return rows, keys and checksum as a manifest states them."""
    assert all(isinstance(number, int) for number in found)
    return found[0], found[1], batch_checksum([found[2]])


def publish(warehouse: Warehouse, sequence: int, batch_id: str | None) -> None:
    """Project one publication."""
    publication = ProjectedPublication(
        "flight_delay", sequence, batch_id, "2013-02-01", "publish", f"r-{sequence}", "2013-02-01T06:00:00Z"
    )
    warehouse.run(insert_publication(), publication_parameters(publication))


def live_keys(warehouse: Warehouse, table: WarehouseTable) -> list[str]:
    """Return the keys that a reader of the live view sees."""
    return sorted(key for (key,) in warehouse.run(f"SELECT {table.key} FROM {table.view}"))


def test_values_are_read_back_unchanged(warehouse: Warehouse, table: WarehouseTable, lake: Lake) -> None:
    """Values at the limits of every type, nulls and special characters are read back unchanged."""
    batch = lake.write(BATCH, ROWS)
    lake.check()
    load(warehouse, table, batch)
    rows = batch.accepted
    assert len(rows) == len(ROWS)
    found = warehouse.run(table.read_back(BATCH, len(rows)), [row.key for row in rows])
    by_key = {values[0]: values for values in found}
    assert len(found) == len(rows)
    for row in rows:
        wanted = table.stored_values(row, BATCH)
        assert by_key[row.key] == wanted
        for value, stored in zip(by_key[row.key], wanted, strict=True):
            # Equal is not enough: a double equals the integer that it was rounded from.
            assert isinstance(value, float) == isinstance(stored, float)


def test_quarantined_lines_are_left_out(warehouse: Warehouse, table: WarehouseTable, lake: Lake) -> None:
    """Lines that a store cannot hold and rows of duplicate keys are left out; all others are loaded."""
    bad = [
        {"carrier": "no key"},
        {"flight": "refused", "seats": 2**63},
        {"flight": "refused", "probability": math.nan},
        {"flight": "doubled", "seats": 1},
        {"flight": "doubled", "seats": 2},
    ]
    # A row is loaded even if it shares its key with a refused line.
    good = [{"flight": "refused", "seats": 3}, {"flight": "good"}]
    batch = lake.write(BATCH, [*bad, *good])
    assert len(batch.quarantined) == len(bad)
    load(warehouse, table, batch)
    found = warehouse.run(table.read_back(BATCH, 3), ["refused", "good", "doubled"])
    assert sorted(values[0] for values in found) == ["good", "refused"]


def test_repeated_load_changes_nothing(warehouse: Warehouse, table: WarehouseTable, lake: Lake) -> None:
    """A repeated load leaves all totals unchanged, and deleting a batch leaves other batches unchanged."""
    first, second = lake.write(BATCH, ROWS[:3]), lake.write(NEXT_BATCH, ROWS[2:])
    load(warehouse, table, first)
    load(warehouse, table, second)
    before = warehouse.run(table.batch_totals(BATCH)), warehouse.run(table.batch_totals(NEXT_BATCH))
    load(warehouse, table, first, "jr_2")
    assert (warehouse.run(table.batch_totals(BATCH)), warehouse.run(table.batch_totals(NEXT_BATCH))) == before
    warehouse.run(table.delete_batch(BATCH))
    assert warehouse.run(table.batch_totals(BATCH)) == [(0, 0, 0)]
    assert warehouse.run(table.batch_totals(NEXT_BATCH)) == before[1]


def test_staged_rows_of_another_batch_are_counted(
    warehouse: Warehouse, table: WarehouseTable, lake: Lake
) -> None:
    """The staged totals count rows of other batches, and the move leaves these rows out."""
    own, foreign = lake.write(BATCH, ROWS[:2]), lake.write(NEXT_BATCH, ROWS[2:5])
    staged = WarehouseLoad(table, BATCH, "jr_1")
    for statement in (*staged.prepare(), *staged.copy(STAGE, [*own.files, *foreign.files])):
        warehouse.run(statement)
    assert warehouse.run(staged.staged_totals())[0][3] == 3
    for statement in staged.move():
        warehouse.run(statement)
    assert warehouse.run(table.batch_totals(BATCH))[0][0] == 2
    assert warehouse.run(table.batch_totals(NEXT_BATCH))[0][0] == 0


def test_rolled_back_move_keeps_loaded_rows(warehouse: Warehouse, table: WarehouseTable, lake: Lake) -> None:
    """After a move is rolled back, all rows of the earlier load are still there."""
    batch = lake.write(BATCH, ROWS)
    load(warehouse, table, batch)
    before = warehouse.run(table.batch_totals(BATCH))
    staged = WarehouseLoad(table, BATCH, "jr_2")
    for statement in staged.prepare():
        warehouse.run(statement)
    warehouse.run("BEGIN")
    for statement in staged.move():
        warehouse.run(statement)
    assert warehouse.run(table.batch_totals(BATCH)) == [(0, 0, 0)]
    warehouse.run("ROLLBACK")
    assert warehouse.run(table.batch_totals(BATCH)) == before


def test_live_view_shows_only_published_batch(
    warehouse: Warehouse, table: WarehouseTable, lake: Lake
) -> None:
    """The live view follows each publication and rollback, and is empty without a published batch."""
    first, second = lake.write(BATCH, ROWS[:3]), lake.write(NEXT_BATCH, ROWS[2:])
    load(warehouse, table, first)
    load(warehouse, table, second)
    first_keys, second_keys = (sorted(row.key for row in batch.accepted) for batch in (first, second))
    assert live_keys(warehouse, table) == []
    publish(warehouse, 1, BATCH)
    assert live_keys(warehouse, table) == first_keys
    publish(warehouse, 2, NEXT_BATCH)
    assert live_keys(warehouse, table) == second_keys
    publish(warehouse, 3, BATCH)
    assert live_keys(warehouse, table) == first_keys
    # An entry that is projected late changes nothing, because the highest sequence counts.
    warehouse.run('DELETE FROM "PUBLICATIONS" WHERE "SEQUENCE" = 2')
    publish(warehouse, 2, NEXT_BATCH)
    assert live_keys(warehouse, table) == first_keys
    publish(warehouse, 4, None)
    assert live_keys(warehouse, table) == []


def test_projection_gaps_are_found(warehouse: Warehouse) -> None:
    """The gaps and the highest sequence are found, also after deleted entries, in one row each."""

    def projected() -> ProjectedSequences:
        rows = warehouse.run(projected_gaps(), ("flight_delay",))
        found = ProjectedSequences.of_rows(rows)
        assert len(rows) <= len(found.gaps) + 1
        return found

    warehouse.run(create_publications())
    assert projected() == ProjectedSequences()
    for sequence in (1, 2, 3):
        publish(warehouse, sequence, BATCH)
    assert projected() == ProjectedSequences(highest=3)
    for sequence in (5, 9, 10, 10):
        publish(warehouse, sequence, BATCH)
    assert projected() == ProjectedSequences(highest=10, gaps=((3, 5), (5, 9)))
    warehouse.run('DELETE FROM "PUBLICATIONS" WHERE "SEQUENCE" < 3')
    assert projected() == ProjectedSequences(highest=10, gaps=((0, 3), (3, 5), (5, 9)))


def test_duplicate_publication_shows_rows_once(
    warehouse: Warehouse, table: WarehouseTable, lake: Lake
) -> None:
    """A publication is projected once, and even a duplicate entry does not duplicate rows in the view."""
    batch = lake.write(BATCH, ROWS)
    load(warehouse, table, batch)
    publish(warehouse, 1, BATCH)
    publish(warehouse, 1, BATCH)
    assert warehouse.run('SELECT COUNT(*) FROM "PUBLICATIONS"') == [(1,)]
    warehouse.run('INSERT INTO "PUBLICATIONS" SELECT * FROM "PUBLICATIONS"')
    assert warehouse.run('SELECT COUNT(*) FROM "PUBLICATIONS"') == [(2,)]
    assert live_keys(warehouse, table) == sorted(row.key for row in batch.accepted)


def test_live_view_parses_json(warehouse: Warehouse, table: WarehouseTable, lake: Lake) -> None:
    """Readers of the view can query inside JSON columns, which the table stores as text."""
    batch = lake.write(BATCH, ROWS)
    load(warehouse, table, batch)
    publish(warehouse, 1, BATCH)
    shown = warehouse.run(f'SELECT "REASONS" FROM {table.view} WHERE {table.key} = %s', ("zürich",))
    assert json.loads(shown[0][0]) == {"é": 1, "E": 2}
    taken = warehouse.run(f'SELECT "REASONS":E::NUMBER FROM {table.view} WHERE {table.key} = %s', ("zürich",))
    assert taken == [(2,)]


def test_sql_keywords_work_as_names(warehouse: Warehouse) -> None:
    """SQL keywords work as names of models and columns, because every name is quoted."""
    words = (
        "select",
        "table",
        "order",
        "group",
        "key",
        "sequence",
        "model",
        "timestamp",
        "true",
        "case",
        "constraint",
    )
    schema = PredictionSchema(
        (column("from", "string", nullable=False), *(column(w, "long") for w in words)), "from"
    )
    table = WarehouseTable("select", schema)
    for statement in (table.create(), create_publications(), table.create_view()):
        warehouse.run(statement)
    staged = WarehouseLoad(table, BATCH, "jr_1")
    for statement in (*staged.prepare(), *staged.move(), *staged.clean_up()):
        warehouse.run(statement)
    assert warehouse.run(f"SELECT * FROM {table.view}") == []
    assert warehouse.run(table.batch_totals(BATCH)) == [(0, 0, 0)]
    assert warehouse.run(table.read_back(BATCH, 1), ("x",)) == []


def test_older_table_gets_new_columns(warehouse: Warehouse, lake: Lake) -> None:
    """A table gets the columns of a newer schema, and the view shows nulls in them for older batches."""
    older = WarehouseTable("flight_delay", PredictionSchema(FULL_SCHEMA.columns[:3], "flight"))
    for statement in (older.create(), create_publications(), older.create_view()):
        warehouse.run(statement)
    batch = lake.write(BATCH, [{"flight": "A", "seats": 1}])
    load(warehouse, older, batch)
    newer = WarehouseTable("flight_delay", FULL_SCHEMA)
    # Twice, because every load begins with these statements.
    found = warehouse.run(table_columns(), (newer.name.strip('"'),))
    additions = ColumnDifference.between(newer, found).additions
    for statement in (newer.create(), *additions, *additions, newer.create_view()):
        warehouse.run(statement)
    load(warehouse, newer, lake.write(NEXT_BATCH, ROWS))
    publish(warehouse, 1, BATCH)
    assert warehouse.run(f'SELECT "FLIGHT", "SEATS", "FARE" FROM {newer.view}') == [("A", 1, None)]


CLEANED_SCHEMA = PredictionSchema(
    (
        column("flight", "string", nullable=False),
        *(column(f"text_{kind}", "string") for kind in ("long", "decimal", "double", "boolean", "date")),
        column("text_timestamp", "string"),
        column("long_string", "long"),
        column("long_decimal", "long"),
        column("long_double", "long"),
        column("decimal_long", "decimal(38,10)"),
        column("decimal_decimal", "decimal(38,10)"),
        column("decimal_double", "decimal(38,10)"),
        column("boolean_string", "boolean"),
        column("boolean_long", "boolean"),
        column("date_string", "date"),
        column("date_timestamp", "date"),
        column("timestamp_date", "timestamp"),
        column("left_out", "json"),
        column("given", "string"),
        column("clamped", "double"),
        column("whole", "long"),
    ),
    "flight",
)
CLEANING = Cleaning(
    (
        ColumnCleaning(column="flight", trim=True, rename="number"),
        *(
            ColumnCleaning(column=f"text_{kind}", trim=True, cast=kind)
            for kind in ("long", "boolean", "date", "timestamp")
        ),
        ColumnCleaning(column="text_double", trim=True, cast="double", minimum="-1"),
        ColumnCleaning(column="text_decimal", cast="decimal(38,10)"),
        *(
            ColumnCleaning(column=f"{source}_{target}", cast=target)
            for source, target in (
                ("long", "string"),
                ("long", "double"),
                ("decimal", "long"),
                ("decimal", "double"),
                ("boolean", "string"),
                ("boolean", "long"),
                ("date", "string"),
                ("date", "timestamp"),
                ("timestamp", "date"),
            )
        ),
        ColumnCleaning(column="long_decimal", cast="decimal(38,10)"),
        ColumnCleaning(column="decimal_decimal", cast="decimal(12,2)"),
        ColumnCleaning(column="left_out", drop=True),
        ColumnCleaning(column="given", trim=True, default="it's 'a' \\ default;\n--", rename="whole"),
        ColumnCleaning(column="clamped", default="0.5", minimum="0.1", maximum="0.95"),
        ColumnCleaning(column="whole", minimum="-5", rename="given"),
    )
)

CLEANED_ROWS: list[dict[str, Any]] = [
    {"flight": "only-a-key"},
    {
        "flight": " \tA\n",
        "text_long": " -9223372036854775808\r",
        "text_decimal": "1234567890123456789012345678.0123456789",
        "text_double": "\f1e-3\v",
        "text_boolean": "false ",
        "text_date": " 0001-01-01",
        "text_timestamp": " 2013-02-01T05:00:00.25Z",
        "long_string": -(2**63),
        "long_decimal": 2**63 - 1,
        "long_double": -(2**53),
        "decimal_long": Decimal("-9007199254740993.0000000000"),
        "decimal_decimal": Decimal("-9999999999.9900000000"),
        "decimal_double": Decimal("1234567890123456789.0123456789"),
        "boolean_string": False,
        "boolean_long": True,
        "date_string": date(1, 1, 1),
        "date_timestamp": date(9999, 12, 31),
        "timestamp_date": datetime(2013, 2, 1, 23, 59, 59, 999999, tzinfo=UTC),
        "left_out": {"n": 1},
        "given": "\u00a0it's\u2028 \\N ",
        "clamped": 0.9500000000000001,
        "whole": -6,
    },
    {
        "flight": "B",
        "text_timestamp": "9999-12-31T23:59:59.999999+00:00",
        "text_double": "-0.1",
        "text_boolean": "true",
        "decimal_double": Decimal("0.1"),
        "boolean_string": True,
        "boolean_long": False,
        "date_timestamp": date(1, 1, 1),
        "given": "",
        "clamped": 1e-130,
        "whole": 7,
    },
    # Without cleaning, no store could hold these rows.
    {"flight": "C", "clamped": 1e-131, "left_out": {"n": math.nan}},
    {"flight": "D", "clamped": -1.7e308, "text_double": "-1e200", "given": "d"},
    {"flight": "E", "clamped": 1.7e308, "left_out": [math.inf]},
    {"flight": f"F{' ' * 3000}", "clamped": 2.3e-308},
    # These rows are refused for various reasons, and no statement may fail because of them.
    {"flight": "R1", "text_long": "many"},
    {"flight": "R2", "text_long": "9223372036854775808"},
    {"flight": "R3", "text_decimal": "1.01234567891"},
    {"flight": "R4", "text_double": "1e400"},
    {"flight": "R5", "text_boolean": "yes"},
    {"flight": "R6", "text_date": "2013-02-30"},
    {"flight": "R7", "text_timestamp": "2013-02-01T05:00:00+02:00"},
    {"flight": "R8", "long_double": 2**53 + 1},
    {"flight": "R9", "decimal_long": Decimal(2**63)},
    {"flight": "R10", "decimal_decimal": Decimal("0.001")},
    {"flight": "R11", "long_double": 2**63 - 1},
    {"flight": "R12", "clamped": math.nan},
    {"flight": " \t"},
]


def test_warehouse_cleans_like_python(warehouse: Warehouse, lake: Lake) -> None:
    """Snowflake's SQL and Python clean rows to the same values and types, even next to refused rows."""
    lake.schema = CLEANED_SCHEMA
    written = lake.write(BATCH, CLEANED_ROWS)
    accept = row_parser(CLEANED_SCHEMA, CLEANING)
    rows = []
    for line in written.lines:
        with suppress(InvalidRowError):
            rows.append(accept(line.content))
    keys = ["only-a-key", "A", "B", "C", "D", "E", "F"]
    assert [row.key for row in rows] == keys
    batch = written._replace(cleaned=rows)
    cleaned = WarehouseTable("flight_delay", CLEANING.stored_schema(CLEANED_SCHEMA))
    warehouse.run(cleaned.create())
    load(warehouse, cleaned, batch, delivered=CLEANED_SCHEMA, cleaning=CLEANING)
    found = {values[0]: values for values in warehouse.run(cleaned.read_back(BATCH, len(keys)), keys)}
    for row in rows:
        wanted = cleaned.stored_values(row, BATCH)
        assert dict(zip(cleaned.schema.names, found[row.key], strict=False)) == dict(
            zip(cleaned.schema.names, wanted, strict=False)
        )
        assert found[row.key] == wanted
        assert list(map(type, found[row.key])) == list(map(type, wanted))
