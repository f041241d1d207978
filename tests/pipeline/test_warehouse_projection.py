"""Snowflake's live view has the columns of the live batch, whoever made it live and whatever is loaded."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import pytest

from mlpipe_dagster.resources.warehouse import Warehouse
from mlpipe_dagster.warehouse_projection import WarehouseSession
from prediction_contract.registry.records import BatchRecord, LivePointer, PublicationEntry
from prediction_contract.schema import Column, ColumnType, PredictionSchema
from prediction_contract.serving import Serving
from prediction_contract.warehouse_columns import ColumnDifference, table_columns
from prediction_contract.warehouse_table import WarehouseTable, table_name
from tests.pipeline.small_model import SmallModel, declaration
from tests.pipeline.test_publication_asset import materialized, publisher, request

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.pipeline.cli_calls import CommandLine

NARROW = declaration("model").prediction_schema
WIDE = PredictionSchema((*NARROW.columns, Column("seats", ColumnType.parse("long"))), NARROW.key)
NARROW_VIEW = ["ENTITY_ID", "SCORE", "BATCH_ID", "ROW_CHECKSUM"]
WIDE_VIEW = ["ENTITY_ID", "SCORE", "SEATS", "BATCH_ID", "ROW_CHECKSUM"]


def verified(small: SmallModel, partition: str, schema: PredictionSchema = NARROW) -> str:
    """Bring a batch to where it may be published; its columns are in Snowflake, as a load leaves them."""
    table = WarehouseTable(small.name, schema)
    with Warehouse(platform=small.platform).quick_session() as session:
        session.ensure_table(small.name, schema)
        found = session._query(table_columns(), (table_name(small.name),))
        for statement in ColumnDifference.between(table, found).additions:
            session._query(statement)
    return small.verified_batch(partition=partition, schema=schema)


def live_columns(small: SmallModel) -> list[str]:
    """Return the columns that a reader of the live view sees."""
    view = WarehouseTable(small.name, NARROW).view
    with (
        Warehouse(platform=small.platform).quick_session() as session,
        session._connection.cursor() as cursor,
    ):
        cursor.execute(f"SELECT * FROM {view}")
        return [column.name for column in cursor.description]


@pytest.mark.stack
def test_the_view_follows_a_persons_commands(small_model: SmallModel, command_line: CommandLine) -> None:
    """A publication brings the batch's columns, a rollback those of the batch that it returns to."""
    first, second = verified(small_model, "2013-01-31"), verified(small_model, "2013-02-01", WIDE)
    for batch_id, columns in ((first, NARROW_VIEW), (second, WIDE_VIEW)):
        assert command_line.json("publish", small_model.name, batch_id).status == 0
        assert live_columns(small_model) == columns
    assert command_line.json("rollback", small_model.name).status == 0
    assert live_columns(small_model) == NARROW_VIEW


@pytest.mark.stack
def test_a_batch_that_does_not_become_live_leaves_the_view_alone(small_model: SmallModel) -> None:
    """Neither an older batch that is loaded again, nor one that is held."""
    verified(small_model, "2013-02-01", WIDE)
    older = verified(small_model, "2013-01-31")
    verified(small_model, "2013-02-02")
    assert materialized(small_model, partition="2013-02-01")["outcome"] == "live"
    assert materialized(small_model, partition="2013-01-31", batch_id=older)["outcome"] == "history"
    assert live_columns(small_model) == WIDE_VIEW
    publisher(small_model).hold(request(), held=True)
    assert materialized(small_model, partition="2013-02-02")["outcome"] == "history"
    assert live_columns(small_model) == WIDE_VIEW
    publisher(small_model).hold(request(), held=False)
    assert materialized(small_model, partition="2013-02-02")["outcome"] == "live"
    assert live_columns(small_model) == NARROW_VIEW


def serving(schema: PredictionSchema) -> str:
    """Return what a publication entry says of a batch with these columns."""
    return Serving(schema, "v1", row_count=3, checksum="12345").to_json()


@dataclass
class FakeConnection:
    """Takes statements, and has no rows."""

    statements: list[str] = field(default_factory=list)

    def cursor(self) -> FakeConnection:
        """Return itself."""
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def execute(self, statement: str, _parameters: Any) -> None:
        """Take a statement."""
        self.statements.append(statement)

    def fetchall(self) -> Sequence[tuple[Any, ...]]:
        """Return one row of a statement that changes rows, else none."""
        return [(1,)] if self.statements[-1].startswith("INSERT") else []


class FakeRegistry:
    """At first the narrow batch is live; somebody publishes the wide one once the view was replaced."""

    def __init__(self, connection: FakeConnection) -> None:
        self.connection = connection

    def live(self) -> int:
        """Return the newest sequence."""
        return 2 if any("VIEW" in statement for statement in self.connection.statements) else 1

    def pointer(self, model: str, _region: str) -> LivePointer:
        """Return home's pointer."""
        return LivePointer(model=model, batch_id=f"batch {self.live()}", sequence=self.live())

    def batch(self, model: str, batch_id: str) -> BatchRecord:
        """Return a batch's record."""
        return BatchRecord(model=model, batch_id=batch_id, published_sequence=int(batch_id.split()[1]))

    def publication(self, model: str, sequence: int) -> PublicationEntry:
        """Return an entry."""
        text = serving(NARROW if sequence == 1 else WIDE)
        return PublicationEntry(model=model, sequence=sequence, action="publish", serving=text)

    def publications(self, *_: Any, **__: Any) -> list[PublicationEntry]:
        """Return no entry: the projection is not what this is about."""
        return []


def test_a_publication_meanwhile_is_followed_too() -> None:
    """Of two that replace the view at once, the last one shows what is live then."""
    connection = FakeConnection()
    WarehouseSession(connection).follow(FakeRegistry(connection), "model", "us-east-1")  # type: ignore[arg-type]
    views = [statement for statement in connection.statements if "VIEW" in statement]
    assert ["SEATS" in view for view in views] == [False, True]
