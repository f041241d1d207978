"""Training on features joined with what became of their entities."""

# pandas' own annotations call every column "Series | DataFrame", and every aggregate a scalar as well.
# pyright: reportArgumentType=false, reportCallIssue=false, reportReturnType=false, reportIndexIssue=false, reportOperatorIssue=false, reportAttributeAccessIssue=false

from __future__ import annotations

import pandas as pd

from sagemaker_scripts.model_functions import Artifact


def train(examples: pd.DataFrame) -> Artifact:
    """Return what `predict` needs: scikit-learn estimators, numbers, texts, lists and dicts of these.

    Args:
        examples: Features joined with outcomes, one row per entity of each training partition.
    """
    return {"mean_delay_minutes": float(examples["mean_delay_minutes"].mean())}
