"""Tests of the predictions that a load would accept or refuse."""

from __future__ import annotations

import math

import pandas as pd

from prediction_contract.cleaning.cleaning_rules import NO_CLEANING, Cleaning
from prediction_contract.cleaning.column_cleaning import ColumnCleaning
from sagemaker_scripts.batches.loaded_rows import RefusedPrediction, loaded_rows
from tests.batches.encoded import schema_of

SCHEMA = schema_of(share="double")


def predictions(**shares: float) -> pd.DataFrame:
    """Return one prediction per entity."""
    return pd.DataFrame({"share": list(shares.values()), "entity_id": list(shares)})


def test_all_rows_of_a_duplicate_key_are_refused() -> None:
    """Each refused row has its reason, column and message, without its values."""
    rows = pd.concat([predictions(a=1.0, b=2.0), predictions(a=3.0, c=math.nan)])
    found = loaded_rows(SCHEMA, NO_CLEANING, rows)
    assert [(line, row.key) for line, row in found.accepted] == [
        (b'{"entity_id":"b","share":2.0,"row_checksum":%d}' % found.accepted[0][1].checksum, "b")
    ]
    assert found.refused == [
        RefusedPrediction(1, "duplicate_key", "entity_id", "Another row has the same key"),
        RefusedPrediction(3, "duplicate_key", "entity_id", "Another row has the same key"),
        RefusedPrediction(4, "not_a_number", None, "share: NaN is not a JSON number"),
    ]
    assert len(found) == 4
    assert found.reasons() == {"duplicate_key": 2, "not_a_number": 1}


def test_rows_are_checked_after_cleaning() -> None:
    """Numbers that cleaning raises to a minimum, or drops, are no longer refused."""
    rows = predictions(a=0.1, b=1e-131, c=math.nan)
    least = Cleaning((ColumnCleaning(column="share", minimum="0.000000001"),))
    assert loaded_rows(SCHEMA, NO_CLEANING, rows).reasons() == {"number_too_long": 1, "not_a_number": 1}
    found = loaded_rows(SCHEMA, least, rows)
    assert [row.values["share"] for _, row in found.accepted] == [0.1, 1e-9]
    assert found.reasons() == {"not_a_number": 1}
    dropped = Cleaning((ColumnCleaning(column="share", drop=True),))
    assert loaded_rows(SCHEMA, dropped, rows).refused == []
