"""A model with batches on S3, in its Delta table and in Snowflake, and the sweep that retires them."""

from __future__ import annotations

import gzip
import uuid
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from deltalake import DeltaTable

from mlpipe_dagster.resources.aws_clients import delta_storage_options
from mlpipe_dagster.retention.delta_history import DeltaHistory
from mlpipe_dagster.retention.retention_sweep import RetentionSweep, SweepResult
from prediction_batches.delivery.delta_commit import TableCommit
from prediction_batches.files.data_files import DataFiles
from prediction_batches.files.share_location import ShareLocation
from prediction_batches.object_store import ObjectStore
from prediction_contract.manifests.manifest import JsonPart
from prediction_contract.naming.s3_layout import (
    delta_table_prefix,
    json_batch_prefix,
    json_part_key,
    quarantine_key,
)
from prediction_contract.stores.warehouse_table import WarehouseTable
from tests.batches.encoded import encoded
from tests.dagster.loaded_model import LoadedModel, rows
from tests.dagster.publication.test_publication_interleavings import HOME, person, publisher
from tests.dagster.small_model import PARTITION

# Exceeds the default retention of batches.
LATER = timedelta(days=31)
ROWS = 4


@dataclass(frozen=True)
class Holdings:
    """The contents of the stores for one batch: rows in Snowflake, its objects on S3, its Delta files."""

    rows: int
    objects: int
    delta_files: int


WHOLE = Holdings(rows=ROWS, objects=2, delta_files=1)
GONE = Holdings(rows=0, objects=0, delta_files=0)


class SweptModel(LoadedModel):
    """A model with batches in all stores except DynamoDB, whose items expire by themselves."""

    def __init__(self, loaded: LoadedModel) -> None:
        super().__init__(loaded.platform, loaded.declaration)
        self.delta_files: dict[str, list[str]] = {}
        self.attempts: Counter[str] = Counter()

    @property
    def options(self) -> dict[str, str]:
        """Return deltalake's storage options for the bucket."""
        return delta_storage_options(self.platform.client("s3"))

    @property
    def table(self) -> str:
        """Return the address of the Delta table."""
        return f"s3://{self.platform.settings.data_bucket}/{delta_table_prefix(self.name)}"

    def commit(self, batch_id: str) -> tuple[int, list[str]]:
        """Commit a batch's rows to the Delta table as a new attempt; return version and files."""
        self.attempts[batch_id] += 1
        attempt, schema = self.attempts[batch_id], self.declaration.prediction_schema
        store = ObjectStore(self.platform.client("s3"), self.platform.settings.data_bucket)
        rows = encoded(schema, [{"entity_id": f"E{number}"} for number in range(ROWS)])
        location = ShareLocation(store, self.name, PARTITION, batch_id, attempt, "all")
        with DataFiles(location, schema) as files:
            files.write(rows.columns, rows.checksums)
            commit = TableCommit(
                store=store,
                model=self.name,
                schema=schema,
                batch_id=batch_id,
                attempt=attempt,
                files=files.close(),
                options=self.options,
            )
        made = commit.make(lambda: True)
        return made.version, list(made.files)

    def stored_batch(self, *, partition: str = PARTITION) -> str:
        """Store and verify a batch, and return its id."""
        batch_id = self.batch_id()
        key = json_part_key(self.name, partition, batch_id, 1, share="part", number=0)
        self.platform.bucket.put(key, gzip.compress(b"{}\n" * ROWS))
        self.platform.bucket.put(quarantine_key(self.name, batch_id, 1, 0), gzip.compress(b"{}\n"))
        version, files = self.commit(batch_id)
        self.delta_files[batch_id] = files
        return self.loaded_batch(
            rows(range(ROWS)),
            batch_id=batch_id,
            partition=partition,
            json_parts=[JsonPart(key, 3, 100, "a" * 64)],
            delta_version=version,
            delta_files=files,
        )

    def released(self, count: int) -> list[str]:
        """Publish batches in the registry and in Snowflake, and return their ids."""
        batches = [self.stored_batch(partition=f"2013-02-{day:02}") for day in range(1, count + 1)]
        for batch_id in batches:
            publisher(self).publish(batch_id, person(), "{}")
        self.project()
        return batches

    def project(self) -> None:
        """Update Snowflake's projection."""
        with self.warehouse.quick_session() as session:
            session.project(self.name, session.missing_publications(self.name, self.platform.registry))

    def outlive(self, batch_id: str) -> None:
        """Set the end of a batch's retention to the past."""
        self.platform.client("dynamodb").update_item(
            TableName=self.platform.settings.deployment.registry_table,
            Key=self.record(batch_id).key.item(),
            UpdateExpression="SET retain_until = :past",
            ExpressionAttributeValues={":past": {"S": "2013-02-02T00:00:00Z"}},
        )

    def sweep(self, run_id: str | None = None, **changes: Any) -> SweepResult:
        """Run the sweep 31 days from now, unless changed."""
        with self.warehouse.quick_session() as session:
            return self.sweep_with(session, run_id, **changes).sweep()

    def sweep_with(self, session: Any, run_id: str | None = None, **changes: Any) -> RetentionSweep:
        """Return a sweep that has not begun; every other run counts as ended."""
        given = {
            "model": self.name,
            "run_id": run_id or uuid.uuid4().hex,
            "has_ended": lambda _: True,
            "registry": self.platform.registry,
            "home_region": HOME,
            "regions": (),
            "bucket": self.platform.bucket,
            "warehouse": session,
            "delta": DeltaHistory(self.platform.settings.data_bucket, self.name, lambda: self.options),
            "clock": lambda: datetime.now(UTC) + LATER,
            "vacuum_after": timedelta(0),
        }
        return RetentionSweep(**given | changes)

    def holds(self, batch_id: str) -> Holdings:
        """Return the contents of the stores for a batch."""
        bucket, record = self.platform.bucket, self.record(batch_id)
        own = json_batch_prefix(self.name, record.partition, batch_id)
        refused = f"quarantine/{self.name}/batch={batch_id}/"
        root = delta_table_prefix(self.name)
        with self.warehouse.quick_session() as session:
            table = WarehouseTable(self.name, self.declaration.prediction_schema)
            ((count,),) = session.rows(
                f"SELECT COUNT(*) FROM {table.name} WHERE {table.is_of_batch(batch_id)}"
            )
        return Holdings(
            rows=int(count),
            objects=len([*bucket.below(own), *bucket.below(refused)]),
            delta_files=sum(bucket.look(f"{root}{name}") is not None for name in self.delta_files[batch_id]),
        )

    def in_newest_version(self) -> set[str]:
        """Return the batches in the newest version of the Delta table."""
        table = DeltaTable(self.table, storage_options=self.options)
        return set(table.to_pyarrow_table(columns=["batch_id"])["batch_id"].to_pylist())
