"""Scoring finds the rows that a load would refuse before it delivers them."""

from __future__ import annotations

import math
from typing import Any

import pyarrow as pa

from prediction_batches.rows.column_encoder import ColumnEncoder
from prediction_batches.rows.encoded_rows import EncodedRows
from prediction_batches.rows.given_rows import given_rows
from prediction_contract.cleaning.cleaning_rules import Cleaning
from prediction_contract.cleaning.column_cleaning import ColumnCleaning
from prediction_contract.cleaning.row_cleaning import row_parser
from prediction_contract.rows.schema import PredictionSchema
from sagemaker_scripts.scoring.row_verdicts import RefusedRows, judge_rows

SCHEMA = PredictionSchema.from_document(
    {
        "key": "key",
        "columns": [
            {"name": "key", "type": "string", "nullable": False},
            {"name": "share", "type": "double", "nullable": True},
        ],
    }
)


def encoded(*rows: tuple[str | None, float]) -> EncodedRows:
    """Return encoded rows of keys and shares."""
    table = pa.table({"key": [key for key, _ in rows], "share": [share for _, share in rows]})
    return ColumnEncoder(SCHEMA).encode(given_rows(SCHEMA, table))


def reasons(pieces: list[EncodedRows], *rules: ColumnCleaning) -> list[dict[int, str]]:
    """Return the reasons by row of each piece after cleaning."""
    parse_row: Any = row_parser(SCHEMA, Cleaning(rules)) if rules else None
    found = judge_rows(pieces, "key", parse_row)
    return [{number: each.reason for number, each in sorted(piece.refusals.items())} for piece in found]


def test_duplicate_keys_are_refused_across_pieces() -> None:
    """All rows with a duplicate key are refused; a row refused for another reason duplicates no key."""
    pieces = [encoded(("a", 1.0), ("b", 2.0), ("c", math.nan)), encoded(("c", 3.0), ("a", 4.0))]
    assert reasons(pieces) == [{0: "duplicate_key", 2: "not_a_number"}, {1: "duplicate_key"}]
    assert [piece.refusals.keys() for piece in pieces] == [{2}, set()]


def test_missing_keys_are_not_duplicates() -> None:
    """Rows without a key are refused as missing_key, not as duplicates of each other."""
    pieces = [encoded((None, 1.0), (None, 2.0), ("a", 3.0))]
    assert reasons(pieces) == [{0: "missing_key", 1: "missing_key"}]


def test_rows_are_judged_after_cleaning() -> None:
    """Rows that cleaning fixes are accepted, and keys that become equal by trimming are refused."""
    pieces = [encoded(("a", 1e-131), ("b", 1.0), ("c", math.nan), (" b", 2.0))]
    assert reasons(pieces) == [{0: "number_too_long", 2: "not_a_number"}]
    minimum = ColumnCleaning(column="share", minimum="0.000000001")
    assert reasons(pieces, minimum) == [{2: "not_a_number"}]
    assert reasons(pieces, ColumnCleaning(column="share", drop=True)) == [{}]
    trimmed = ColumnCleaning(column="key", trim=True)
    assert reasons(pieces, minimum, trimmed) == [{1: "duplicate_key", 2: "not_a_number", 3: "duplicate_key"}]


def test_refused_rows_are_counted_and_first_five_named() -> None:
    """All refused rows are counted by reason, and the message names the first five."""
    found = RefusedRows()
    first, second = judge_rows(
        [encoded(*[("a", 1.0)] * 4), encoded(("", 1.0), ("a", 2.0), ("b", 3.0))], "key", None
    )
    found.add(first, 0)
    found.add(second, 4)
    assert found.count == 6
    assert str(found) == (
        "5 duplicate_key, 1 empty_key; row 1: another row has the same key; "
        "row 2: another row has the same key; row 3: another row has the same key; "
        "row 4: another row has the same key; row 5: key is empty"
    )
