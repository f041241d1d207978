"""What became of predictions: how outcomes are joined with them, and how the next partition is corrected."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from sagemaker_scripts.model_functions import Artifact, ModelFunctions, PreparedFeatures

ENTITY = ["partition", "entity_id"]


def newest_outcomes(tables: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Return what is known of each entity, given tables of outcomes of which later ones know more."""
    return pd.concat(list(tables), ignore_index=True).drop_duplicates(ENTITY, keep="last")


def with_outcomes(rows: pd.DataFrame, outcomes: pd.DataFrame) -> pd.DataFrame:
    """Return the rows whose outcome is known, joined with it; both have `partition` and `entity_id`."""
    return rows.merge(outcomes, on=ENTITY, how="inner")


def predictions_of(
    functions: ModelFunctions,
    prepared: PreparedFeatures,
    artifact: Artifact,
    previous: pd.DataFrame | None,
) -> pd.DataFrame:
    """Return a model's predictions of a partition, as scoring and evaluation make them alike.

    Args:
        functions: The model's own part.
        prepared: The partition's features, and what is known of earlier ones when it begins.
        artifact: The trained model.
        previous: The rows of the previous batch with `partition`; None if there is none.
    """
    judged = None if previous is None else with_outcomes(previous, prepared.outcomes)
    return functions.predict(prepared.features.drop(columns="partition"), artifact, judged)
