"""A model of two columns with its declaration, and batches in manifest and registry only."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING, Any

import dagster as dg

from mlpipe_dagster.components.prediction_pipeline import partitions_of
from mlpipe_dagster.done_files.registration import register_done_file
from model_declaration.declaration import ModelDeclaration
from prediction_contract.manifests.load_report import LoadEvidence
from prediction_contract.manifests.manifest import JsonPart, Manifest, build_manifest
from prediction_contract.naming.s3_layout import json_part_key
from prediction_contract.registry.automatic_publication import record_checks
from prediction_contract.registry.load_rules import (
    begin_writing,
    claim_load,
    complete_load,
    refuse_load,
    verify_load,
)
from prediction_contract.registry.records import BatchRecord
from prediction_contract.rows.checksums import RowTally
from prediction_contract.stores.serving_record import ServingRecord

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlpipe_dagster.resources.platform import Platform

PARTITION = "2013-02-01"
ROWS = RowTally(rows=3, checksum=12345)
NOTHING = RowTally(rows=0, checksum=0)
TOKEN = "token"
DAYS = timedelta(days=30)


def attributes(**changes: Any) -> dict[str, Any]:
    """Return the attributes of a defs.yaml."""
    return {
        "description": "A number for each thing.",
        "partitions": {"start": "2013-01-01", "end": "2014-01-01"},
        "sources": {"things": {"format": "parquet", "path": "raw/things/{partition}.parquet"}},
        "training": {"window": 31},
        "columns": [
            {"name": "entity_id", "type": "string", "nullable": False, "key": True},
            {"name": "score", "type": "decimal(7,2)"},
        ],
        **changes,
    }


def declaration(name: str, **changes: Any) -> ModelDeclaration:
    """Return the declaration of a model."""
    return ModelDeclaration.model_validate({"name": name, **attributes(**changes)})


def now() -> datetime:
    """Return the current time."""
    return datetime.now(UTC)


@dataclass
class SmallModel:
    """A declared model on a platform.

    Attributes:
        platform: Receives its batches.
        declaration: Its declaration.
    """

    platform: Platform
    declaration: ModelDeclaration
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    @property
    def name(self) -> str:
        """Return the model's name."""
        return self.declaration.name

    @property
    def partitions(self) -> dg.PartitionsDefinition[str]:
        """Return the model's partitions."""
        return partitions_of(self.declaration)

    def batch_id(self, day: str = "20261123") -> str:
        """Return a new batch id; ids of the same second sort in the order of their creation."""
        return f"{day}T010203Z-{next(self._numbers):08x}"

    def manifest(self, batch_id: str | None = None, **changes: Any) -> Manifest:
        """Return a valid manifest whose parts do not exist."""
        batch_id = batch_id or self.batch_id()
        partition = changes.pop("partition", PARTITION)
        part = JsonPart(
            json_part_key(self.name, partition, batch_id, 1, share="part", number=0), ROWS.rows, 100, "a" * 64
        )
        return build_manifest(
            **{
                "model": self.name,
                "batch_id": batch_id,
                "attempt": 1,
                "partition": partition,
                "bucket": self.platform.settings.data_bucket,
                "created_at": datetime(2026, 11, 23, 1, 2, 4, tzinfo=UTC),
                "model_version": "v1",
                "code_version": "c1",
                "schema": self.declaration.prediction_schema,
                "json_parts": [part],
                "delta_version": 1,
                "delta_files": [f"part-{batch_id}.parquet"],
                "checksum": str(ROWS.checksum),
                **changes,
            }
        )

    @property
    def serving(self) -> str:
        """Return the serving text of a batch with the declared columns."""
        schema = self.declaration.prediction_schema
        return ServingRecord(schema, "v1", row_count=ROWS.rows, checksum=str(ROWS.checksum)).to_json()

    def unreadable_model(self) -> str:
        """Store another model whose live batch's record is malformed, and return its name.

        Its name sorts first, so code that stops there examines no other model.
        """
        name, batch_id = f"a{self.name}"[:41], self.batch_id()
        deployment, dynamodb = self.platform.settings.deployment, self.platform.client("dynamodb")
        records = {
            f"live#{deployment.home}": {"batch_id": {"S": batch_id}, "sequence": {"N": "1"}},
            f"batch#{batch_id}": {"batch_id": {"S": batch_id}, "row_count": {"N": "0.5"}},
        }
        for record, attributes in records.items():
            item = {"model": {"S": name}, "record": {"S": record}, **attributes}
            dynamodb.put_item(TableName=deployment.registry_table, Item=item)
        return name

    def deliver(self, manifest: Manifest) -> Manifest:
        """Put a manifest where the sensor finds it."""
        self.platform.bucket.put(manifest.key, manifest.to_bytes())
        return manifest

    def record(self, batch_id: str) -> BatchRecord:
        """Return the registry's record of a batch."""
        found = self.platform.registry.batch(self.name, batch_id)
        assert found is not None
        return found

    def registered_batch(self, **changes: Any) -> str:
        """Deliver and register a batch, and return its id."""
        manifest = self.deliver(self.manifest(**changes))
        done_file = register_done_file(self.platform.bucket, self.platform.registry, manifest.key)
        assert done_file.refusal is None
        return manifest.batch_id

    def refuse(self, batch_id: str, *, has_written: bool = False) -> None:
        """Let a load refuse a batch, before or after it has begun to write."""
        registry, later = self.platform.registry, now() + timedelta(minutes=5)
        registry.carry_out(
            lambda: claim_load(self.record(batch_id), token=TOKEN, confirm_by=later, now=now())
        )
        if has_written:
            registry.carry_out(
                lambda: begin_writing(
                    self.record(batch_id),
                    token=TOKEN,
                    manifest_digest=self.record(batch_id).manifest_digest,
                    cleaning="{}",
                    now=now(),
                )
            )
        registry.carry_out(
            lambda: refuse_load(
                self.record(batch_id),
                token=TOKEN,
                manifest_digest=self.record(batch_id).manifest_digest,
                reason="part-00000 is missing",
                now=now(),
                retention=DAYS,
            )
        )

    def verified_batch(self, **changes: Any) -> str:
        """Register and verify a batch that passed its checks, and return its id."""
        return self.verify(self.registered_batch(**changes))

    def verify(self, batch_id: str, *, quarantined: RowTally = NOTHING) -> str:
        """Load and verify a registered batch with passed checks, and return its id."""
        registry, later = self.platform.registry, now() + timedelta(minutes=5)
        stored = RowTally(rows=ROWS.rows - quarantined.rows, checksum=ROWS.checksum - quarantined.checksum)
        steps = (
            lambda: claim_load(self.record(batch_id), token=TOKEN, confirm_by=later, now=now()),
            lambda: complete_load(
                self.record(batch_id), token=TOKEN, expire_at=now() + DAYS, now=now(), retention=DAYS
            ),
            lambda: verify_load(
                self.record(batch_id),
                LoadEvidence(attempt=1, dynamodb=stored, snowflake=stored, quarantined=quarantined),
                now=now(),
                retention=DAYS,
            ),
            lambda: record_checks(self.record(batch_id), attempt=1, faults=()),
        )
        for step in steps:
            registry.carry_out(step)
        return batch_id
