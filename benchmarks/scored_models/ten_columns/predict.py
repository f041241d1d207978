"""Predictions of ten columns."""

# PyArrow creates its compute functions at import time, so type checkers do not see them.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

_MOST_MINUTES = 600


def predict(features: pa.Table, model: dict[str, float], previous: pa.Table | None) -> pa.Table:
    """Return a row for each flight, with a correction from the previous batch's error."""
    minutes = pc.multiply(features["wind"], model["minutes"])
    columns: dict[str, Any] = {
        name: features[name]
        for name in ("entity_id", "carrier", "flight_number", "origin", "scheduled_departure")
    }
    return pa.table(
        {
            **columns,
            "distance_miles": features["distance_miles"],
            "delay_probability": pc.divide(minutes, _MOST_MINUTES),
            "expected_delay_minutes": pc.round(minutes, 2).cast(pa.decimal128(7, 2), safe=False),
            "likely_late": pc.greater(minutes, model["late"]),
            "correction_minutes": _corrections(features["entity_id"], previous),
        }
    )


def _corrections(entities: pa.ChunkedArray, previous: pa.Table | None) -> Any:
    if previous is None:
        return pa.nulls(len(entities), pa.float64())
    wrong = pc.subtract(
        previous["late_minutes"].cast(pa.float64()), previous["expected_delay_minutes"].cast(pa.float64())
    )
    return wrong.take(pc.index_in(entities, previous["entity_id"].combine_chunks()))
