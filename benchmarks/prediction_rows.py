"""The rows of the scoring benchmarks: ten columns of six types, and optionally a JSON column."""

# PyArrow creates its compute functions at import time, so type checkers do not see them.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prediction_contract.rows.schema import PredictionSchema

SCHEMA = PredictionSchema.from_document(
    {
        "key": "entity_id",
        "columns": [
            {"name": "entity_id", "type": "string", "nullable": False},
            {"name": "carrier", "type": "string", "nullable": False},
            {"name": "flight_number", "type": "long", "nullable": False},
            {"name": "origin", "type": "string", "nullable": False},
            {"name": "scheduled_departure", "type": "timestamp", "nullable": False},
            {"name": "distance_miles", "type": "long", "nullable": False},
            {"name": "delay_probability", "type": "double", "nullable": False},
            {"name": "expected_delay_minutes", "type": "decimal(7,2)", "nullable": False},
            {"name": "likely_late", "type": "boolean", "nullable": False},
            {"name": "correction_minutes", "type": "double", "nullable": True},
        ],
    }
)
_REASONS = PredictionSchema.from_document(
    {
        "key": "entity_id",
        "columns": [
            {"name": "entity_id", "type": "string", "nullable": False},
            {"name": "reasons", "type": "json", "nullable": False},
        ],
    }
).columns[1]
SCHEMA_WITH_JSON = replace(SCHEMA, columns=(*SCHEMA.columns, _REASONS))
_FEBRUARY_2013 = 1_359_676_800_000_000
_MOST_DELAY = 60_000


def predictions(rows: int) -> pa.Table:
    """Return rows of the ten columns, the same at each call."""
    random, numbers = np.random.default_rng(0), np.arange(rows)
    cents = np.clip(np.round(random.normal(0, 2000, rows)), -_MOST_DELAY, _MOST_DELAY).astype(np.int64)
    hundredth = pa.scalar("0.01").cast(pa.decimal128(3, 2))
    return pa.table(
        {
            "entity_id": pc.binary_join_element_wise("AA-", pa.array(numbers).cast(pa.string()), "-JFK", ""),
            "carrier": pa.repeat("AA", rows),
            "flight_number": numbers,
            "origin": pa.repeat("JFK", rows),
            "scheduled_departure": pa.array(_FEBRUARY_2013 + numbers % 86_400 * 1_000_000).cast(
                pa.timestamp("us", tz="UTC")
            ),
            "distance_miles": random.integers(1, 5000, rows),
            "delay_probability": random.random(rows),
            "expected_delay_minutes": pc.multiply(pa.array(cents).cast(pa.decimal128(19, 0)), hundredth).cast(
                pa.decimal128(7, 2)
            ),
            "likely_late": random.random(rows) > 0.5,  # noqa: PLR2004  # half of them
            "correction_minutes": random.random(rows),
        }
    )


def reasons(rows: int) -> list[dict[str, Any]]:
    """Return the values of the JSON column, all different."""
    return [
        {
            "rank": number,
            "weight": number / 7,
            "factors": ["carrier", f"hour {number % 24}"],
            "is_new": number % 2 == 0,
        }
        for number in range(rows)
    ]
