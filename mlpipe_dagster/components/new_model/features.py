"""Features of a partition from what is known before it begins: how many flights leave an airport."""

# pandas' own annotations call every column "Series | DataFrame", and every aggregate a scalar as well.
# pyright: reportArgumentType=false, reportCallIssue=false, reportReturnType=false, reportIndexIssue=false, reportOperatorIssue=false, reportAttributeAccessIssue=false

from __future__ import annotations

import pandas as pd

from sagemaker_scripts.model_functions import PreparedFeatures


def features(schedule: pd.DataFrame, history: pd.DataFrame) -> PreparedFeatures:
    """Return one row per entity of the partition, and what became of those of earlier partitions.

    Args:
        schedule: What is planned for the partition.
        history: The days before it; what is not known when the partition begins is missing.
    """
    rows = schedule.groupby("origin").size().rename("flights").reset_index()
    features = pd.DataFrame({"entity_id": rows["origin"], "flights": rows["flights"]})
    departed = history.dropna(subset=["dep_delay"])
    outcomes = departed.groupby(["partition", "origin"])["dep_delay"].mean().reset_index()
    outcomes = outcomes.rename(columns={"origin": "entity_id", "dep_delay": "mean_delay_minutes"})
    return PreparedFeatures(features, outcomes)
