"""Tests of comparing the keys of features and predictions."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from prediction_batches.errors import PredictionsError
from sagemaker_scripts.batches.key_comparison import check_keys, key_fault

FEATURES = pa.chunked_array([["a", "b"], ["c", "ü", "x\u0301"]], pa.large_string())


@pytest.mark.parametrize(
    "predictions",
    [
        ["a", "b", "c", "ü", "x\u0301"],
        ["x\u0301", "ü", "c", "b", "a"],
        # Duplicate and missing keys are invalid rows, which other checks count.
        ["a", "b", "b", "c", "ü", "x\u0301", None],
    ],
    ids=["same", "order", "doubled and null"],
)
def test_predictions_for_all_features_are_accepted(predictions: list[str | None]) -> None:
    """Every feature row needs a prediction, in any order."""
    keys = pa.array(predictions, pa.string())
    assert key_fault(FEATURES, keys) is None
    check_keys(FEATURES, keys)


@pytest.mark.parametrize(
    ("predictions", "fault"),
    [
        (["a", "b", "c", "ü"], "predict returned no prediction for row 5 of the features"),
        (["a", None, "c"], "no prediction for rows 2, 4, 5 of the features"),
        (
            [*FEATURES.to_pylist(), "new", None, "A"],
            "rows 6, 8 of the predictions belong to no entity of the features",
        ),
        # Two keys that look the same to a person but differ in every store.
        (
            ["a", "b", "c ", "u\u0308", "x\u0301"],
            "rows 3, 4 of the features; rows 3, 4 of the predictions belong",
        ),
    ],
    ids=["missing", "null", "surplus", "alike"],
)
def test_missing_and_surplus_keys_are_refused(predictions: list[str | None], fault: str) -> None:
    """The error names the rows of both sides, counting from 1."""
    with pytest.raises(PredictionsError, match=fault):
        check_keys(FEATURES, pa.array(predictions, pa.string()))


def test_error_names_rows_of_the_partition_without_keys() -> None:
    """Row numbers count through the partition, not the chunk, and keys are not quoted."""
    keys = pa.array([f"secret-{number}" for number in range(1000)])
    with pytest.raises(
        PredictionsError, match="rows 501, 502, 503, 504, 505 and 994 more of the f"
    ) as refused:
        check_keys(keys, keys[:1], np.arange(499, 1499))
    assert "secret" not in str(refused.value)
