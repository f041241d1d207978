"""Measure publish, rollback, sensors and `doctor` for a model with 10 batches and for one with 10,000.

    python -m benchmarks.long_history [--batches 10000]

Each hour has one batch, published and later retired after its retention of thirty days. The oldest batch has
a failed load that was never repeated. DynamoDB and Snowflake are canned: only the number of requests to them
is compared. Writes `benchmarks/results/long_history.json`, and fails if an operation sends more requests with
the long history. The answers may be longer, but only up to a limit that does not depend on the history:
`doctor` reads a week and the 100 oldest batches that are not retired; retention reads batches that are not
retired, or whose Delta files are not vacuumed yet.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg

from benchmarks.canned.canned_registry import CannedProjection, CannedRegistry
from mlpipe_dagster.cli.deployment_access import DeploymentAccess, WarehouseQueries
from mlpipe_dagster.cli.health.doctor import doctor
from mlpipe_dagster.pipeline.model_sensors import ServedModel
from mlpipe_dagster.publication.live_batches_sensor import live_batches_tick
from mlpipe_dagster.publication.projection_sensor import projection_tick
from mlpipe_dagster.publication.publisher import Publisher
from mlpipe_dagster.regions.serving_regions_sensor import serving_regions_tick
from mlpipe_dagster.retention.retention_sweep import RetentionSweep, model_needs_sweep
from model_declaration.declaration import ModelDeclaration
from model_declaration.project import Project
from prediction_contract.errors import ContractError
from prediction_contract.naming.resource_names import Deployment
from prediction_contract.registry.records import (
    BatchRecord,
    ChangeRequest,
    LivePointer,
    LoadState,
    PublicationEntry,
    ReleaseState,
    pointer_key,
    publication_key,
)
from prediction_contract.registry.table import RegistryTable
from prediction_contract.rows.schema import PredictionSchema
from prediction_contract.stores.serving_record import ServingRecord
from prediction_contract.stores.warehouse_table import (
    PUBLICATIONS,
    ProjectedPublication,
    create_publications,
    publication_parameters,
)
from prediction_contract.text.utc_time import format_utc

RESULT = Path(__file__).resolve().parent / "results" / "long_history.json"
MODEL, REGION = "tides", "us-east-1"
SHORT = 10
HOUR, RETAINED = timedelta(hours=1), timedelta(days=30)
_THIS_HOUR = datetime.now(UTC).replace(minute=30, second=0, microsecond=0)
# On the first day of a month retention examines all batches, so that day is avoided.
NOW = _THIS_HOUR - timedelta(days=_THIS_HOUR.day == 1)
PARTITIONS = dg.HourlyPartitionsDefinition("2024-01-01-00:00", timezone="UTC")
SERVED = ServedModel(
    name=MODEL, partitions=PARTITIONS, items_life=timedelta(days=90), due_after=timedelta(hours=2)
)


@dataclass(frozen=True, kw_only=True)
class Cost:
    """The requests of one operation to the registry and to Snowflake.

    Attributes:
        requests: The number of requests to the registry, by operation.
        items: The number of records read.
        bytes: The size of these records as JSON.
        statements: The number of statements to Snowflake.
        rows: The number of rows that Snowflake returned.
    """

    requests: dict[str, int]
    items: int
    bytes: int = field(compare=False)
    statements: int
    rows: int


@dataclass
class LongHistory:
    """A model with a published batch for each hour. The newest batch, of this hour, is not live yet.

    Attributes:
        registry: The model's records.
        warehouse: The model's projection.
    """

    registry: CannedRegistry
    warehouse: CannedProjection

    @classmethod
    def of(cls, batches: int) -> LongHistory:
        """Return a model with this many batches."""
        made = cls(CannedRegistry(), CannedProjection())
        made.warehouse.execute(create_publications())
        minted = [NOW - (batches - number) * HOUR for number in range(1, batches + 1)]
        ids = [f"{moment:%Y%m%dT%H%M%SZ}-{number:08x}" for number, moment in enumerate(minted, 1)]
        for sequence, (batch_id, moment) in enumerate(zip(ids, minted, strict=True), 1):
            made._add(batch_id, moment, sequence, newest=batches)
            if sequence < batches:
                made._published(batch_id, ids[sequence - 2] if sequence > 1 else None, moment, sequence)
        live, sequence = ids[-2], batches - 1
        pointer = LivePointer(
            model=MODEL,
            batch_id=live,
            partition=_partition(minted[-2]),
            sequence=sequence,
            previous_batch_id=ids[-3],
            published_at=format_utc(minted[-2]),
        )
        for region in (REGION, "eu-west-1"):
            made.registry.put(_attributes(pointer) | pointer_key(MODEL, region).attributes())
        never_loaded = BatchRecord(
            model=MODEL,
            batch_id=f"{minted[0] - HOUR:%Y%m%dT%H%M%SZ}-00000000",
            partition=_partition(minted[0]),
            load_state=LoadState.DONE,
            checksum=str(2**63),
            load_attempts=1,
        )
        made.put(never_loaded)
        return made

    def put(self, record: BatchRecord) -> None:
        """Put a batch's record, replacing an existing one."""
        self.registry.put(_attributes(record) | record.key.attributes())

    def _add(self, batch_id: str, moment: datetime, sequence: int, *, newest: int) -> None:
        is_retired = NOW - moment > RETAINED + 2 * HOUR
        release = {newest: ReleaseState.UNPUBLISHED, newest - 1: ReleaseState.LIVE}
        record = BatchRecord(
            model=MODEL,
            batch_id=batch_id,
            partition=_partition(moment),
            load_state=LoadState.RETIRED if is_retired else LoadState.VERIFIED,
            release_state=release.get(sequence, ReleaseState.SUPERSEDED),
            manifest_key=f"done/{moment:%Y-%m-%d}/{MODEL}/{batch_id}.json",
            manifest_digest="0" * 64,
            row_count=1000,
            accepted_rows=1000,
            checksum=str(2**63 + sequence),
            load_attempts=1,
            cleaning="{}",
            verified_attempt=1,
            checked_attempt=1,
            verified_regions=frozenset({"eu-west-1"}),
            items_expire_at=format_utc(moment + timedelta(days=90)),
            retain_until=format_utc(moment + RETAINED + HOUR),
            cleared_at=format_utc(moment + RETAINED + 2 * HOUR) if is_retired else None,
            published_sequence=sequence if sequence < newest else None,
            superseded_sequence=sequence + 1 if sequence < newest - 1 else None,
        )
        self.put(record)

    def _published(self, batch_id: str, previous: str | None, moment: datetime, sequence: int) -> None:
        entry = PublicationEntry(
            model=MODEL,
            sequence=sequence,
            action="publish",
            batch_id=batch_id,
            partition=_partition(moment),
            previous_batch_id=previous,
            request_id=f"request-{sequence}",
            actor="dagster run 0123",
            published_at=format_utc(moment),
            serving=_SERVING,
        )
        self.registry.put(_attributes(entry) | publication_key(MODEL, sequence).attributes())
        projected = ProjectedPublication(
            MODEL, sequence, batch_id, entry.partition, entry.action, entry.request_id, entry.published_at
        )
        self.warehouse.insert(PUBLICATIONS, publication_parameters(projected)[: len(projected)])

    @property
    def table(self) -> RegistryTable:
        """The registry table over the canned client."""
        return RegistryTable(self.registry, "registry")

    @property
    def newest(self) -> str:
        """The batch that is not live yet."""
        return next(self.table.batches(MODEL, newest_first=True)).batch_id

    @contextmanager
    def session(self) -> Iterator[WarehouseQueries]:
        """Open a session of Snowflake."""
        yield CannedSession(self.warehouse)

    quick_session = session

    def cost_of(self, act: Callable[[], object]) -> Cost:
        """Return the cost of an operation."""
        self.registry.reset()
        self.warehouse.statements = self.warehouse.rows = 0
        act()
        return Cost(
            requests=dict(self.registry.requests),
            items=self.registry.items,
            bytes=self.registry.bytes,
            statements=self.warehouse.statements,
            rows=self.warehouse.rows,
        )


class CannedSession(WarehouseQueries):
    """A session whose schema contains only the projection."""

    def tables(self) -> list[str]:
        """See `WarehouseQueries`."""
        return [PUBLICATIONS.strip('"')]

    def _create_view(self, model: str, schema: PredictionSchema) -> None:
        """Skip the view: its statement costs the same with any history."""

    def has_predictions(self, model: str) -> bool:
        """See `WarehouseSession`."""
        return model != MODEL


class CannedAccess(DeploymentAccess):
    """A deployment in which only the registry and Snowflake answer."""

    def __init__(self, history: LongHistory, declaration: ModelDeclaration) -> None:
        super().__init__(Project.at(Path(__file__).resolve().parents[1]))
        self._history = history
        self._declared = declaration
        self.settings = _SETTINGS

    @property
    def now(self) -> datetime:
        """The end of the histories."""
        return NOW

    @property
    def registry(self) -> RegistryTable:
        """See `DeploymentAccess`."""
        return self._history.table

    def client(self, service: str) -> Any:
        """Return DynamoDB's client; raise for other services, whose requests do not grow with the history."""
        if service == "dynamodb":
            return self._history.registry
        raise ContractError(f"{service} is not canned", remedy="Use DynamoDB's client")

    def models(self) -> list[str]:
        """See `DeploymentAccess`."""
        return [MODEL]

    def require_declared(self, model: str) -> None:
        """See `DeploymentAccess`."""

    def declaration(self, model: str) -> ModelDeclaration:  # noqa: ARG002  # there is one model
        """See `DeploymentAccess`."""
        return self._declared

    def warehouse(self) -> Any:
        """See `DeploymentAccess`."""
        return self._history.session()


_SERVING = ServingRecord(
    schema=PredictionSchema.from_document(
        {
            "key": "entity_id",
            "columns": [
                {"name": "entity_id", "type": "string", "nullable": False},
                *({"name": f"height_{number}", "type": "double", "nullable": True} for number in range(10)),
            ],
        }
    ),
    model_version="0123456789abcdef",
    row_count=1000,
    checksum="0",
).to_json()
_SETTINGS: Any = SimpleNamespace(
    deployment=Deployment("bench", "123456789012", REGION),
    code_prefix="",
    serving_regions=("eu-west-1",),
    data_bucket="bucket",
)


def costs(batches: int) -> dict[str, Cost]:
    """Return the cost of each operation on a model with this many batches."""
    history, declared = LongHistory.of(batches), declaration()
    platform: Any = SimpleNamespace(settings=_SETTINGS, registry=history.table)
    publisher = Publisher(
        registry=history.table,
        deployment=_SETTINGS.deployment,
        declaration=declared,
        serving_regions=_SETTINGS.serving_regions,
        clock=lambda: NOW,
    )
    sweep = RetentionSweep(
        model=MODEL,
        run_id="run",
        has_ended=lambda _: True,
        registry=history.table,
        home_region=REGION,
        regions=_SETTINGS.serving_regions,
        bucket=_nothing(),
        warehouse=CannedSession(history.warehouse),
        delta=_nothing(),
        clock=lambda: NOW,
        most_batches=0,
    )
    newest = history.newest
    found: dict[str, Cost] = {}
    with dg.DagsterInstance.ephemeral() as instance:

        def project() -> None:
            with history.session() as session:
                session.follow(history.table, MODEL, REGION)

        def publish() -> None:
            publisher.publish(
                newest, ChangeRequest(request_id="publish", actor="bench", automatic=True), _SERVING
            )
            project()

        def roll_back() -> None:
            publisher.roll_back(ChangeRequest(request_id="rollback", actor="bench"))
            project()

        def tick_projection(cursor: str | None) -> str | None:
            looked = dg.build_sensor_context(instance=instance, cursor=cursor)
            warehouse: Any = history
            return projection_tick(looked, platform, warehouse, [SERVED], NOW + timedelta(minutes=5)).cursor

        # Not counted: the first sweep examines all batches, and the first tick looks back for days.
        sweep.sweep()
        cursor = tick_projection(None)
        context = dg.build_sensor_context(instance=instance)

        options = argparse.Namespace(model=MODEL, days=7)
        operations: dict[str, Callable[[], object]] = {
            "doctor": lambda: doctor(options, CannedAccess(history, declared)),
            "sensor live_batches": lambda: live_batches_tick(context, platform, [SERVED], NOW),
            "sensor serving_regions": lambda: serving_regions_tick(instance, platform, [SERVED], NOW),
            "sensor retention": lambda: model_needs_sweep(history.table, MODEL, REGION, now=NOW),
            "publish": publish,
            "sensor warehouse_projection": lambda: tick_projection(cursor),
            "rollback": roll_back,
            "retention sweep": sweep.sweep,
        }
        for name, act in operations.items():
            found[name] = history.cost_of(act)
    return found


def declaration() -> ModelDeclaration:
    """Return the model's declaration."""
    return ModelDeclaration.model_validate(
        {
            "name": MODEL,
            "description": "A height for each harbour.",
            "partitions": {"start": "2024-01-01", "end": "2027-01-01"},
            "training": {"window": 31},
            "columns": [
                {"name": "entity_id", "type": "string", "nullable": False, "key": True},
                {"name": "height", "type": "double"},
            ],
        }
    )


def _nothing() -> Any:
    """Return an empty bucket or Delta table."""
    return SimpleNamespace(exists=lambda: False)


def _partition(moment: datetime) -> str:
    return f"{moment - HOUR:%Y-%m-%dT%H}"


def _attributes(record: Any) -> dict[str, Any]:
    found = {name: getattr(record, name) for name in record.__dataclass_fields__}
    return {name: value for name, value in found.items() if value not in (None, frozenset())}


def main() -> int:
    """Measure, print and write the result; return 1 if the long history takes more requests."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--batches", type=int, default=10_000, help="batches of the long history")
    options = parser.parse_args()
    short, long = costs(SHORT), costs(options.batches)
    result = {
        name: {
            "requests": [sum(each.requests.values()) for each in (short[name], long[name])],
            "records_read": [short[name].items, long[name].items],
            "bytes_read": [short[name].bytes, long[name].bytes],
            "snowflake_statements": [short[name].statements, long[name].statements],
            "snowflake_rows": [short[name].rows, long[name].rows],
            "ratio_of_bytes": round(long[name].bytes / max(short[name].bytes, 1), 2),
        }
        for name in short
    }
    document = {"batches": [SHORT, options.batches], "operations": result}
    sys.stdout.write(f"{json.dumps(document, indent=1)}\n")
    RESULT.write_text(f"{json.dumps(document, indent=1)}\n", encoding="utf-8")
    return int(any(short[name].requests != long[name].requests for name in short))


if __name__ == "__main__":
    sys.exit(main())
