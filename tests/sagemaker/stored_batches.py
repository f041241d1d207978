"""Schemas, and batches written to a bucket as the score job writes them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from prediction_batches.delivery.batch import open_batch
from prediction_contract.manifests.manifest import Manifest, build_manifest
from prediction_contract.rows.checksums import batch_checksum
from prediction_contract.rows.schema import PredictionSchema
from tests.batches.encoded import encoded

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from prediction_batches.object_store import ObjectStore


def schema_of(types: Mapping[str, str], *, key: str) -> PredictionSchema:
    """Return a schema whose columns are nullable, except for the key.

    Args:
        types: The type of each column by name.
        key: The key column.
    """
    columns = [{"name": name, "type": kind, "nullable": name != key} for name, kind in types.items()]
    return PredictionSchema.from_document({"key": key, "columns": columns})


def write_batch(
    store: ObjectStore,
    schema: PredictionSchema,
    rows: Sequence[Mapping[str, Any]],
    *,
    model: str,
    partition: str,
    batch_id: str,
    shares: int = 1,
) -> Manifest:
    """Write a batch's parts and data files, and return its manifest without writing it."""
    batch = open_batch(
        bucket=store.bucket, model=model, partition=partition, schema=schema, batch_id=batch_id
    )
    receipts = []
    size = -(-len(rows) // shares)
    for number in range(shares):
        with batch.writer(f"share-{number}", store) as writer:
            writer.write_encoded(encoded(schema, rows[number * size : (number + 1) * size]))
            receipts.append(writer.close())
    return build_manifest(
        model=model,
        batch_id=batch_id,
        attempt=1,
        partition=partition,
        bucket=store.bucket,
        created_at=datetime(2013, 2, 1, tzinfo=UTC),
        model_version="v",
        code_version="c",
        schema=schema,
        json_parts=[part for receipt in receipts for part in receipt.parts],
        delta_version=1,
        delta_files=[file.path for receipt in receipts for file in receipt.data_files],
        checksum=batch_checksum(int(receipt.checksum) for receipt in receipts),
    )
