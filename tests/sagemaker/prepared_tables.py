"""Features as a job prepares them, of DataFrames."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from sagemaker_scripts.features.feature_store import PreparedPartition

if TYPE_CHECKING:
    import pandas as pd


def prepared_of(features: pd.DataFrame, outcomes: pd.DataFrame | None = None) -> PreparedPartition:
    """Return what is prepared of one partition."""
    return PreparedPartition(
        pa.Table.from_pandas(features, preserve_index=False),
        None if outcomes is None else pa.Table.from_pandas(outcomes, preserve_index=False),
    )
