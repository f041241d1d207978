"""Tests of the comparison of features and predictions by their keys."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from prediction_batches.errors import PredictionsError
from sagemaker_scripts.batches.key_comparison import check_keys

FEATURES = pa.chunked_array([["a", "b"], ["c", "ü", "x\u0301"]], pa.large_string())


@pytest.mark.parametrize(
    "predictions",
    [
        ["a", "b", "c", "ü", "x\u0301"],
        ["x\u0301", "ü", "c", "b", "a"],
        # A key that comes twice and a row without one are refused as rows, and tolerated as such.
        ["a", "b", "b", "c", "ü", "x\u0301", None],
    ],
    ids=["same", "order", "doubled and null"],
)
def test_a_prediction_for_each_row_of_features_is_right(predictions: list[str | None]) -> None:
    """In any order."""
    check_keys(FEATURES, pa.array(predictions, pa.string()))


@pytest.mark.parametrize(
    ("predictions", "fault"),
    [
        (["a", "b", "c", "ü"], "predict returned no prediction for row 5 of the features"),
        (["a", None, "c"], "no prediction for rows 2, 4, 5 of the features"),
        (
            [*FEATURES.to_pylist(), "new", None, "A"],
            "rows 6, 8 of the predictions belong to no entity of the features",
        ),
        # Equal to readers, and another key to every store.
        (
            ["a", "b", "c ", "u\u0308", "x\u0301"],
            "rows 3, 4 of the features; rows 3, 4 of the predictions belong",
        ),
    ],
    ids=["missing", "null", "surplus", "alike"],
)
def test_other_keys_than_the_features_are_refused(predictions: list[str | None], fault: str) -> None:
    """Both sides are named, by rows that count from 1."""
    with pytest.raises(PredictionsError, match=fault):
        check_keys(FEATURES, pa.array(predictions, pa.string()))


def test_the_error_names_rows_of_the_whole_partition_and_quotes_no_key() -> None:
    """A chunk is nothing that a person can look at, and keys may be sensitive."""
    keys = pa.array([f"secret-{number}" for number in range(1000)])
    with pytest.raises(
        PredictionsError, match="rows 501, 502, 503, 504, 505 and 994 more of the f"
    ) as refused:
        check_keys(keys, keys[:1], np.arange(499, 1499))
    assert "secret" not in str(refused.value)
