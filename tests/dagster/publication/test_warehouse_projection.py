"""Snowflake's live view has the columns of the live batch, whoever made it live and whatever is loaded."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Self

import dagster as dg
import pytest

from mlpipe_dagster.pipeline.model_sensors import ServedModel
from mlpipe_dagster.publication.projection_sensor import MAX_VIEWS, ProjectionCursor, projection_tick
from mlpipe_dagster.resources.warehouse import Warehouse
from mlpipe_dagster.resources.warehouse_session import PublicationsMoveError, WarehouseSession
from prediction_contract.registry.records import BatchRecord, LivePointer, PublicationEntry
from prediction_contract.rows.schema import Column, ColumnType, PredictionSchema
from prediction_contract.stores.serving_record import ServingRecord
from prediction_contract.stores.warehouse_columns import ColumnDifference, table_columns
from prediction_contract.stores.warehouse_table import WarehouseTable, table_name
from tests.dagster.publication.test_publication_asset import materialized, publisher, request
from tests.dagster.small_model import SmallModel, declaration

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.dagster.cli_calls import CommandLine

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
    return ServingRecord(schema, "v1", row_count=3, checksum="12345").to_json()


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


class RestlessRegistry(FakeRegistry):
    """Somebody publishes each time that it is asked."""

    asked = 0

    def live(self) -> int:
        """Return the newest sequence, for some hundred questions."""
        self.asked += 1
        return min(self.asked, 300)


def test_the_view_does_not_follow_for_ever() -> None:
    """Whoever publishes without a pause keeps no run, which says so in place of going on."""
    connection = FakeConnection()
    registry: Any = RestlessRegistry(connection)
    with pytest.raises(PublicationsMoveError, match="each of 10 updates"):
        WarehouseSession(connection).follow(registry, "model", "us-east-1")


@dataclass
class CountedSession(WarehouseSession):
    """A session in whose projection there is nothing to do by the count."""

    counts: dict[str, tuple[int, int]]
    _connection: FakeConnection

    def projected_count(self) -> dict[str, tuple[int, int]]:
        """See `WarehouseSession`."""
        return self.counts


class FollowedWarehouse:
    """Snowflake with the second of two publications of each model, and whatever view."""

    def __init__(self, models: Sequence[str]) -> None:
        self.models = models
        self.connection = FakeConnection()

    @contextmanager
    def quick_session(self) -> Iterator[WarehouseSession]:
        """Open a session that is in step by its count."""
        yield CountedSession(dict.fromkeys(self.models, (2, 2)), self.connection)

    def replaced_views(self) -> int:
        """Return how often a view was replaced since this was asked last."""
        statements, self.connection.statements = self.connection.statements, []
        return sum("VIEW" in statement for statement in statements)


class LiveRegistry(FakeRegistry):
    """The wide batch is live."""

    def live(self) -> int:
        """Return the newest sequence."""
        return 2


def test_views_of_an_earlier_batch_are_replaced_in_time() -> None:
    """Whoever died between two looks left one; the comparison of all finds it, some models to a tick."""
    names = [f"model_{number:02}" for number in range(2 * MAX_VIEWS + 5)]
    models = [
        ServedModel(name=name, partitions=dg.StaticPartitionsDefinition(["a"]), items_life=timedelta(days=90))
        for name in names
    ]
    fake, now = FollowedWarehouse(names), datetime(2026, 11, 23, tzinfo=UTC)
    warehouse: Any = fake
    settings = SimpleNamespace(deployment=SimpleNamespace(home="us-east-1"))
    platform: Any = SimpleNamespace(settings=settings, registry=LiveRegistry(fake.connection))
    in_step = dict.fromkeys(names, 2)
    cursor: str | None = ProjectionCursor(
        sequences=in_step, compared_at=now.timestamp(), shown=in_step
    ).text()
    replaced = []
    with dg.DagsterInstance.ephemeral() as instance:
        for hours in (1, 7, 7, 7, 7):
            context = dg.build_sensor_context(instance=instance, cursor=cursor)
            cursor = projection_tick(
                context, platform, warehouse, models, now + timedelta(hours=hours)
            ).cursor
            replaced.append(fake.replaced_views())
    assert replaced == [0, MAX_VIEWS, MAX_VIEWS, 5, 0]
