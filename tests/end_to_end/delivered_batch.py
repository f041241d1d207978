"""A real batch of `flight_delay` on a running stack, written by the score job's own code."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pandas as pd

from model_declaration.declaration_files import declaration_of
from prediction_batches.delta_commit import ModelTable
from prediction_batches.object_store import ObjectStore, storage_options
from prediction_contract.manifests.manifest import build_manifest
from prediction_contract.naming.batch import mint_batch_id
from prediction_contract.rows.checksums import batch_checksum
from sagemaker_scripts.batches.batch_rows import delta_rows, prediction_lines, write_parts
from tests.projects import EXAMPLE

MODEL = "flight_delay"
FLIGHTS = (("AA", 1141, "JFK", "MIA"), ("UA", 15, "EWR", "IAH"), ("B6", 725, "JFK", "BQN"))


def deliver_batch(bucket: str, partition: str, intent: str, *, minutes: str) -> str:
    """Write a batch of three flights, its done file last, and return its id.

    Args:
        bucket: The stack's.
        partition: The day.
        intent: Of the batch; one that sorts later is a newer batch.
        minutes: The expected delay of each flight.
    """
    schema = declaration_of(MODEL, EXAMPLE.defs).prediction_schema
    batch_id = mint_batch_id(MODEL, partition, intent, datetime.now(UTC))
    store = ObjectStore.of_job(bucket)
    lines = prediction_lines(schema, pd.DataFrame([_row(flight, partition, minutes) for flight in FLIGHTS]))
    parts = write_parts(store, lines, model=MODEL, partition=partition, batch_id=batch_id, attempt=1)
    commit = ModelTable(store, MODEL, schema, storage_options()).commit(
        delta_rows(schema, lines, batch_id), batch_id=batch_id, attempt=1, still_wanted=lambda: True
    )
    manifest = build_manifest(
        model=MODEL,
        batch_id=batch_id,
        attempt=1,
        partition=partition,
        bucket=bucket,
        created_at=datetime.now(UTC),
        model_version="by-hand",
        code_version="by-hand",
        schema=schema,
        json_parts=parts,
        delta_version=commit.version,
        delta_files=commit.files,
        checksum=batch_checksum(line.checksum for line in lines),
    )
    assert store.put_new(manifest.key, manifest.to_bytes())
    return batch_id


def _row(flight: tuple[str, int, str, str], partition: str, minutes: str) -> dict[str, Any]:
    carrier, number, origin, destination = flight
    return {
        "entity_id": f"{carrier}-{number}-{origin}",
        "carrier": carrier,
        "flight_number": number,
        "origin": origin,
        "destination": destination,
        "scheduled_departure": pd.Timestamp(f"{partition}T10:00", tz="UTC"),
        "distance_miles": 1000,
        "delay_probability": 0.25,
        "expected_delay_minutes": Decimal(minutes),
        "likely_late": False,
        "correction_minutes": None,
    }
