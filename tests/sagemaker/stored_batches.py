"""Schemas, and batches that are written into a bucket as the score job writes them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from prediction_contract.manifests.manifest import Manifest, build_manifest
from prediction_contract.rows.checksums import batch_checksum
from prediction_contract.rows.schema import PredictionSchema
from sagemaker_scripts.batches.batch_rows import write_parts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from prediction_batches.object_store import ObjectStore
    from sagemaker_scripts.batches.batch_rows import PredictionLine


def schema_of(types: Mapping[str, str], *, key: str) -> PredictionSchema:
    """Return a schema of columns that take null, all but the key.

    Args:
        types: By column.
        key: The key column.
    """
    columns = [{"name": name, "type": kind, "nullable": name != key} for name, kind in types.items()]
    return PredictionSchema.from_document({"key": key, "columns": columns})


def write_batch(
    store: ObjectStore,
    schema: PredictionSchema,
    lines: Sequence[PredictionLine],
    *,
    model: str,
    partition: str,
    batch_id: str,
) -> Manifest:
    """Write a batch's parts, and return the manifest that is not written yet."""
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
        json_parts=write_parts(store, lines, model=model, partition=partition, batch_id=batch_id, attempt=1),
        delta_version=1,
        delta_files=["part-0.parquet"],
        checksum=batch_checksum(line.checksum for line in lines),
    )
