"""Snowflake's live view always has the columns of the live batch."""

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
    """Verify a batch whose columns are in the Snowflake table."""
    table = WarehouseTable(small.name, schema)
    with Warehouse(platform=small.platform).quick_session() as session:
        session.ensure_table(small.name, schema)
        found = session._query(table_columns(), (table_name(small.name),))
        for statement in ColumnDifference.between(table, found).additions:
            session._query(statement)
    return small.verified_batch(partition=partition, schema=schema)


def live_columns(small: SmallModel) -> list[str]:
    """Return the columns of the live view."""
    view = WarehouseTable(small.name, NARROW).view
    with (
        Warehouse(platform=small.platform).quick_session() as session,
        session._connection.cursor() as cursor,
    ):
        cursor.execute(f"SELECT * FROM {view}")
        return [column.name for column in cursor.description]


@pytest.mark.stack
def test_live_view_follows_publish_and_rollback(small_model: SmallModel, command_line: CommandLine) -> None:
    """Each command gives the view the columns of the batch that becomes live."""
    first, second = verified(small_model, "2013-01-31"), verified(small_model, "2013-02-01", WIDE)
    for batch_id, columns in ((first, NARROW_VIEW), (second, WIDE_VIEW)):
        assert command_line.json("publish", small_model.name, batch_id).status == 0
        assert live_columns(small_model) == columns
    assert command_line.json("rollback", small_model.name).status == 0
    assert live_columns(small_model) == NARROW_VIEW


@pytest.mark.stack
def test_live_view_ignores_batches_that_do_not_become_live(small_model: SmallModel) -> None:
    """Neither an older batch nor one published during a hold changes its columns."""
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
    """Return the serving text of a batch with these columns."""
    return ServingRecord(schema, "v1", row_count=3, checksum="12345").to_json()


@dataclass
class FakeConnection:
    """Record statements, and return no rows except for an INSERT."""

    statements: list[str] = field(default_factory=list)

    def cursor(self) -> FakeConnection:
        """Return itself as the cursor."""
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def execute(self, statement: str, _parameters: Any) -> None:
        """Record a statement."""
        self.statements.append(statement)

    def fetchall(self) -> Sequence[tuple[Any, ...]]:
        """Return one row after an INSERT, otherwise none."""
        return [(1,)] if self.statements[-1].startswith("INSERT") else []


class FakeRegistry:
    """Show the narrow batch as live until the view is replaced, then the wide one."""

    def __init__(self, connection: FakeConnection) -> None:
        self.connection = connection

    def live(self) -> int:
        """Return the sequence of the newest publication."""
        return 2 if any("VIEW" in statement for statement in self.connection.statements) else 1

    def pointer(self, model: str, _region: str) -> LivePointer:
        """Return the home region's pointer."""
        return LivePointer(model=model, batch_id=f"batch {self.live()}", sequence=self.live())

    def batch(self, model: str, batch_id: str) -> BatchRecord:
        """Return a batch's record."""
        return BatchRecord(model=model, batch_id=batch_id, published_sequence=int(batch_id.split()[1]))

    def publication(self, model: str, sequence: int) -> PublicationEntry:
        """Return an entry."""
        text = serving(NARROW if sequence == 1 else WIDE)
        return PublicationEntry(model=model, sequence=sequence, action="publish", serving=text)

    def publications(self, *_: Any, **__: Any) -> list[PublicationEntry]:
        """Return no entries, because these tests are only about the view."""
        return []


def test_view_follows_publication_during_its_update() -> None:
    """The view is replaced again for a batch that went live meanwhile."""
    connection = FakeConnection()
    WarehouseSession(connection).follow(FakeRegistry(connection), "model", "us-east-1")  # type: ignore[arg-type]
    views = [statement for statement in connection.statements if "VIEW" in statement]
    assert ["SEATS" in view for view in views] == [False, True]


class RestlessRegistry(FakeRegistry):
    """Show a new publication at each call."""

    asked = 0

    def live(self) -> int:
        """Return a higher sequence at each call, up to 300."""
        self.asked += 1
        return min(self.asked, 300)


def test_view_update_gives_up_after_ten_publications() -> None:
    """Continuous publications end the update with an error instead of an endless loop."""
    connection = FakeConnection()
    registry: Any = RestlessRegistry(connection)
    with pytest.raises(PublicationsMoveError, match="each of 10 updates"):
        WarehouseSession(connection).follow(registry, "model", "us-east-1")


@dataclass
class CountedSession(WarehouseSession):
    """A session whose projection is up to date by its counts."""

    counts: dict[str, tuple[int, int]]
    _connection: FakeConnection

    def projected_count(self) -> dict[str, tuple[int, int]]:
        """See `WarehouseSession`."""
        return self.counts


class FollowedWarehouse:
    """A Snowflake that has both publications of each model, with any view."""

    def __init__(self, models: Sequence[str]) -> None:
        self.models = models
        self.connection = FakeConnection()

    @contextmanager
    def quick_session(self) -> Iterator[WarehouseSession]:
        """Open a session with an up-to-date projection."""
        yield CountedSession(dict.fromkeys(self.models, (2, 2)), self.connection)

    def replaced_views(self) -> int:
        """Return how many views were replaced since the last call."""
        statements, self.connection.statements = self.connection.statements, []
        return sum("VIEW" in statement for statement in statements)


class LiveRegistry(FakeRegistry):
    """Show the wide batch as live."""

    def live(self) -> int:
        """Return the wide batch's sequence."""
        return 2


def test_outdated_views_are_replaced_a_few_per_tick() -> None:
    """Six hours or more after the last complete comparison, each tick replaces at most MAX_VIEWS."""
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
