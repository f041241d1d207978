"""A model of two columns: its declaration, and batches of it as far as their manifests go."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from mlpipe_dagster.declaration import ModelDeclaration
from prediction_contract.manifest import JsonPart, Manifest, build_manifest
from prediction_contract.s3_layout import json_part_key

BUCKET = "mlpipe-local-data-000000000000-us-east-1"
PARTITION = "2013-02-01"


def attributes(**changes: Any) -> dict[str, Any]:
    """Return the attributes of a defs.yaml."""
    return {
        "description": "A number for each thing.",
        "partitions": {"start": "2013-01-01", "end": "2014-01-01"},
        "raw_inputs": ["raw/things"],
        "training": {"first_partition": "2013-01-01", "last_partition": "2013-01-31"},
        "columns": [
            {"name": "entity_id", "type": "string", "nullable": False, "key": True},
            {"name": "score", "type": "decimal(7,2)"},
        ],
        **changes,
    }


def declaration(name: str, **changes: Any) -> ModelDeclaration:
    """Return the declaration of a model."""
    return ModelDeclaration.model_validate({"name": name, **attributes(**changes)})


def manifest(
    model: ModelDeclaration,
    batch_id: str,
    *,
    partition: str = PARTITION,
    rows: int = 3,
    checksum: str = "12345",
    bucket: str = BUCKET,
    model_version: str = "v1",
) -> Manifest:
    """Return the manifest of a batch whose parts need not be there."""
    part = JsonPart(json_part_key(model.name, partition, batch_id, 1, 0), rows, 100, "a" * 64)
    return build_manifest(
        model=model.name,
        batch_id=batch_id,
        attempt=1,
        partition=partition,
        bucket=bucket,
        created_at=datetime(2026, 11, 23, 1, 2, 4, tzinfo=UTC),
        model_version=model_version,
        code_version="c1",
        schema=model.prediction_schema,
        json_parts=[part],
        delta_version=1,
        delta_files=[f"part-{batch_id}.parquet"],
        checksum=checksum,
    )
