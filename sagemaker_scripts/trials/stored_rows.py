"""A trial's rows in the form of both stores, and the rows that would be quarantined with their reasons."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pyarrow as pa

from prediction_contract.cleaning.cleaning_rules import Cleaning
from prediction_contract.rows.quarantine_tolerance import QuarantineTolerance
from prediction_contract.rows.row_contract import Row
from prediction_contract.rows.schema import PredictionSchema
from prediction_contract.text.canonical_json import canonical_json, parse_json
from sagemaker_scripts.batches.key_comparison import key_fault
from sagemaker_scripts.batches.loaded_rows import loaded_rows

_HIDDEN = "(sensitive)"
# More refused rows give no new information and are too many for a terminal.
_MOST_REFUSALS = 1000


@dataclass(frozen=True, slots=True)
class StoredRows:
    """The result of a load of predictions.

    Attributes:
        document: The document for `mlpipe try`.
        accepted: The accepted rows, each as a line of JSON and as the row that the stores hold.
    """

    document: dict[str, Any]
    accepted: list[tuple[bytes, Row]]


def stored_rows(
    schema: PredictionSchema,
    cleaning: Cleaning,
    predictions: pd.DataFrame,
    entities: pa.ChunkedArray,
    *,
    tolerance: QuarantineTolerance,
    sensitive: Collection[str],
    most: int,
) -> StoredRows:
    """Return the result of a load of predictions.

    Args:
        schema: The declared columns.
        cleaning: The load's cleaning rules.
        predictions: The result of `predict`.
        entities: The entities of its features.
        tolerance: How many rows may be refused.
        sensitive: The columns whose values are hidden, by their names in the stores.
        most: The maximum number of rows to show.

    Raises:
        PredictionsError: The columns are not the schema's, or a value has no JSON form.
    """
    found = loaded_rows(schema, cleaning, predictions)
    return StoredRows(
        {
            "rows": len(found),
            "stored": [_shown(row, sensitive) for _, row in found.accepted[:most]],
            "quarantined": [each._asdict() for each in found.refused[:_MOST_REFUSALS]],
            "quarantined_rows": len(found.refused),
            "reasons": dict(found.reasons()),
            "batch_fault": tolerance.fault(len(found), len(found.refused)) or key_fault(entities, found.keys),
        },
        found.accepted,
    )


def _shown(row: Row, sensitive: Collection[str]) -> str:
    if not sensitive:
        return row.canonical.decode()
    members = parse_json(row.canonical)
    assert isinstance(members, dict)  # noqa: S101  # for type checkers
    return canonical_json({name: _HIDDEN if name in sensitive else value for name, value in members.items()})
