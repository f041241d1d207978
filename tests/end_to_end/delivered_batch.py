"""A real batch of `flight_delay` on a running stack, written as the score job writes it."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pandas as pd

from model_declaration.declaration_files import declaration_of
from prediction_batches.delivery.batch import open_batch
from prediction_batches.delivery.commit import Provenance
from prediction_contract.naming.batch import mint_batch_id
from tests.projects import EXAMPLE

MODEL = "flight_delay"
FLIGHTS = (("AA", 1141, "JFK", "MIA"), ("UA", 15, "EWR", "IAH"), ("B6", 725, "JFK", "BQN"))


def deliver_batch(bucket: str, partition: str, intent: str, *, minutes: str) -> str:
    """Write a batch of three flights, its done file last, and return its id.

    Args:
        bucket: The stack's bucket.
        partition: The day.
        intent: The batch's intent, which distinguishes batches of one partition.
        minutes: The expected delay of each flight.
    """
    schema = declaration_of(MODEL, EXAMPLE.defs).prediction_schema
    batch = open_batch(
        bucket=bucket,
        model=MODEL,
        partition=partition,
        schema=schema,
        batch_id=mint_batch_id(MODEL, partition, intent, datetime.now(UTC)),
    )
    with batch.writer("flights") as writer:
        writer.write(pd.DataFrame([_row(flight, partition, minutes) for flight in FLIGHTS]))
    return batch.commit(["flights"], Provenance(model_version="by-hand", code_version="by-hand")).batch_id


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
