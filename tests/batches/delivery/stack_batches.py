"""Batches of one model on the local stack, opened as an external program opens them."""

from __future__ import annotations

import gzip
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from deltalake import DeltaTable

from prediction_batches.delivery.batch import Batch, open_batch
from prediction_batches.delivery.commit import Provenance
from prediction_batches.object_store import storage_options
from prediction_contract.naming.batch import BatchId
from prediction_contract.rows.checksums import batch_checksum
from prediction_contract.rows.row_contract import row_contract
from tests.batches.encoded import schema_of, table_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from prediction_batches.delivery.receipts import Receipt
    from prediction_batches.object_store import ObjectStore
    from prediction_contract.manifests.manifest import Manifest

BATCH = "20130201T060000Z-00000001"
PARTITION = "2013-02-01"
SCHEMA = schema_of(minutes="long", share="double")
PROVENANCE = Provenance(model_version="v-1", code_version="c-1")


@dataclass
class StackBatches:
    """A new model without batches, whose bucket is reached through the process's environment.

    Attributes:
        store: The bucket.
        model: The model's name.
    """

    store: ObjectStore
    model: str = field(default_factory=lambda: f"m{uuid.uuid4().hex}")

    def open(self, batch_id: str = BATCH, attempt: int = 1, **options: Any) -> Batch:
        """Open a batch."""
        return open_batch(
            bucket=self.store.bucket,
            model=self.model,
            partition=PARTITION,
            schema=SCHEMA,
            batch_id=batch_id,
            attempt=attempt,
            **options,
        )

    def write(self, batch: Batch, share: str, rows: Iterable[Mapping[str, Any]]) -> Receipt:
        """Write a share."""
        with batch.writer(share) as writer:
            writer.write(table_of(SCHEMA, rows))
        receipt = batch.receipt(share)
        assert receipt is not None
        return receipt

    def parts_of(self, manifest: Manifest) -> list[bytes]:
        """Return the lines of a manifest's parts, in order, after comparing their checksums with it."""
        lines: list[bytes] = []
        for part in manifest.json_parts:
            lines += gzip.decompress(self.store.get(part.key)).splitlines()
        accept = row_contract(SCHEMA).accept
        assert manifest.checksum == batch_checksum(accept(line).checksum for line in lines)
        return lines

    def stored_lines(self, receipt: Receipt) -> int:
        """Return how many lines a receipt's parts hold."""
        return sum(gzip.decompress(self.store.get(part.key)).count(b"\n") for part in receipt.parts)

    def delta(self, version: int | None = None) -> DeltaTable:
        """Return a version of the model's table, or its head."""
        uri = f"s3://{self.store.bucket}/predictions/{self.model}/delta/"
        return DeltaTable(uri, version=version, storage_options=storage_options())

    def stored(self) -> dict[str, list[str]]:
        """Return the keys of each batch in the head of the model's table."""
        found: dict[str, list[str]] = {}
        for row in self.delta().to_pyarrow_table().to_pylist():
            found.setdefault(str(BatchId(row["batch_id"])), []).append(row["entity_id"])
        return {batch_id: sorted(keys) for batch_id, keys in found.items()}


def rows_of(*keys: str, minutes: int = 1) -> list[dict[str, Any]]:
    """Return one row for each key."""
    return [{"entity_id": key, "minutes": minutes, "share": 0.5} for key in keys]
