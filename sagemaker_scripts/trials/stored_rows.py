"""A trial's rows as both stores would hold them, and each row that would be quarantined with its reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import pandas as pd

from prediction_contract.cleaning.cleaning_rules import Cleaning
from prediction_contract.cleaning.row_cleaning import row_parser
from prediction_contract.errors import InvalidRowError
from prediction_contract.rows.quarantine_tolerance import QuarantineTolerance
from prediction_contract.rows.row_contract import Row
from prediction_contract.rows.schema import PredictionSchema
from prediction_contract.text.canonical_json import canonical_json, parse_json
from sagemaker_scripts.batches.batch_rows import prediction_lines

_HIDDEN = "(sensitive)"
# More say nothing new, and a terminal is no place for them.
_MOST_REFUSALS = 1000


@dataclass(frozen=True, slots=True)
class StoredRows:
    """What a load would make of predictions.

    Attributes:
        document: What `mlpipe try` prints of them.
        accepted: Lines, and the row that the stores hold of each; rows that share a key are not among them.
    """

    document: dict[str, Any]
    accepted: list[tuple[bytes, Row]]


def stored_rows(
    schema: PredictionSchema,
    cleaning: Cleaning,
    predictions: pd.DataFrame,
    *,
    tolerance: QuarantineTolerance,
    sensitive: Collection[str],
    most: int,
) -> StoredRows:
    """Return what a load would make of predictions.

    Args:
        schema: The columns that the model declares.
        cleaning: What becomes of them on their way into the stores.
        predictions: What `predict` returned.
        tolerance: How many rows may be refused.
        sensitive: The columns, as the stores call them, whose values nobody is to be shown.
        most: How many rows are shown.

    Raises:
        PredictionsError: The columns are not the schema's, or a value has no JSON.
    """
    lines = [line.content.rstrip(b"\n") for line in prediction_lines(schema, predictions)]
    parse = row_parser(schema, cleaning)
    parsed = [_parsed(parse, line) for line in lines]
    keys = Counter(row.key for row in parsed if isinstance(row, Row))
    accepted = [
        (line, row)
        for line, row in zip(lines, parsed, strict=True)
        if isinstance(row, Row) and keys[row.key] == 1
    ]
    refused = [
        {"row": number, **_refusal(row, schema.key)}
        for number, row in enumerate(parsed, start=1)
        if not isinstance(row, Row) or keys[row.key] > 1
    ]
    return StoredRows(
        {
            "rows": len(lines),
            "stored": [_shown(row, sensitive) for _, row in accepted[:most]],
            "quarantined": refused[:_MOST_REFUSALS],
            "quarantined_rows": len(refused),
            "reasons": dict(Counter(each["reason"] for each in refused)),
            "batch_fault": tolerance.fault(len(lines), len(refused)),
        },
        accepted,
    )


def _parsed(parse: Any, line: bytes) -> Row | InvalidRowError:
    try:
        return parse(line)
    except InvalidRowError as error:
        return error


def _refusal(row: Row | InvalidRowError, key: str) -> dict[str, Any]:
    if isinstance(row, Row):
        return {"reason": "duplicate_key", "column": key, "what": "Another row has its key"}
    return {"reason": row.reason, "column": row.column, "what": row.what}


def _shown(row: Row, sensitive: Collection[str]) -> str:
    if not sensitive:
        return row.canonical.decode()
    members = parse_json(row.canonical)
    assert isinstance(members, dict)  # noqa: S101  # for type checkers
    return canonical_json({name: _HIDDEN if name in sensitive else value for name, value in members.items()})
