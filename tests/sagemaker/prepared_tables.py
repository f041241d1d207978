"""Prepare and write features from DataFrames."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from sagemaker_scripts.features.feature_store import FeatureFolder, PreparedPartition

if TYPE_CHECKING:
    import pandas as pd

    from prediction_batches.object_store import ObjectStore
    from sagemaker_scripts.features.feature_store import FeatureSet


def prepared_of(features: pd.DataFrame, outcomes: pd.DataFrame | None = None) -> PreparedPartition:
    """Return a prepared partition with the given features and outcomes."""
    return PreparedPartition(
        pa.Table.from_pandas(features, preserve_index=False),
        None if outcomes is None else pa.Table.from_pandas(outcomes, preserve_index=False),
    )


def write_feature_set(
    store: ObjectStore,
    prepared: PreparedPartition,
    *,
    model: str,
    partition: str,
    run_id: str,
    code_version: str,
) -> FeatureSet:
    """Write a prepared partition as the features job does."""
    return FeatureFolder(store, model, partition, run_id, code_version).write_all(prepared)
