"""The schemas of both models' predictions, as their jobs are told."""

from __future__ import annotations

from prediction_contract.schema import PredictionSchema


def _schema(columns: dict[str, str], *, nullable: str) -> PredictionSchema:
    return PredictionSchema.from_document(
        {
            "key": "entity_id",
            "columns": [
                {"name": name, "type": kind, "nullable": name == nullable} for name, kind in columns.items()
            ],
        }
    )


SCHEMAS = {
    "flight_delay": _schema(
        {
            "entity_id": "string",
            "carrier": "string",
            "flight_number": "long",
            "origin": "string",
            "destination": "string",
            "scheduled_departure": "timestamp",
            "distance_miles": "long",
            "delay_probability": "double",
            "expected_delay_minutes": "decimal(7,2)",
            "likely_late": "boolean",
            "correction_minutes": "decimal(7,2)",
        },
        nullable="correction_minutes",
    ),
    "airport_congestion": _schema(
        {
            "entity_id": "string",
            "origin": "string",
            "hour": "long",
            "hour_start": "timestamp",
            "scheduled_departures": "long",
            "typical_delay_minutes": "double",
            "expected_departure_delay_minutes": "decimal(7,2)",
            "congested": "boolean",
            "correction_minutes": "decimal(7,2)",
        },
        nullable="correction_minutes",
    ),
}
