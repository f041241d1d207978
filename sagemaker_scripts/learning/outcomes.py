"""What became of predictions: how outcomes are joined with them, and how the next partition is corrected."""

# pandas' own annotations call every column "Series | DataFrame".
# pyright: reportArgumentType=false

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import pandas as pd

from prediction_contract.errors import ContractError
from sagemaker_scripts.model_functions import OUTCOME_KEY, Artifact, ModelFunctions, PreparedFeatures


class OutcomesError(ContractError):
    """Outcomes cannot be joined with what was predicted."""


class ScoredPartition(NamedTuple):
    """The predictions of one partition.

    Attributes:
        partition: The partition.
        predictions: Its rows as `entity_frame` gives them.
    """

    partition: str
    predictions: pd.DataFrame


def newest_outcomes(tables: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Return what is known of each entity, given tables of outcomes of which later ones know more.

    Of tables that are read one after the other, no more is held than twice what is returned and one table.
    """
    held: list[pd.DataFrame] = []
    known = unmerged = 0
    for table in tables:
        held.append(table)
        unmerged += len(table)
        if unmerged > known:
            held = [_newest(held)]
            known, unmerged = len(held[0]), 0
    return _newest(held)


def _newest(tables: list[pd.DataFrame]) -> pd.DataFrame:
    return pd.concat(tables, ignore_index=True).drop_duplicates(OUTCOME_KEY, keep="last")


def with_outcomes(rows: pd.DataFrame, outcomes: pd.DataFrame) -> pd.DataFrame:
    """Return the rows whose outcome is known, joined with it; both have `partition` and `entity_id`.

    Raises:
        OutcomesError: They share another column.
    """
    return _joined(rows, outcomes, OUTCOME_KEY)


def with_known_outcomes(scored: ScoredPartition, outcomes: pd.DataFrame) -> pd.DataFrame:
    """Return the predictions of a partition whose outcome is known, joined with it.

    `partition` is an attribute of the DataFrame and no column: a model may have a column of that name.

    Raises:
        OutcomesError: An outcome has the name of a predicted column.
    """
    known = outcomes[outcomes["partition"] == scored.partition].drop(columns="partition")
    rows = _joined(scored.predictions, known, ["entity_id"])
    rows.attrs["partition"] = str(scored.partition)
    return rows


def _joined(rows: pd.DataFrame, outcomes: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    # pandas would rename both columns, and the model would find neither.
    shared = sorted(set(rows.columns) & set(outcomes.columns) - set(keys))
    if shared:
        raise OutcomesError(
            f"The outcomes have columns of the rows that they are joined with: {', '.join(shared)}",
            remedy="Give the outcome columns of the model's features function other names",
        )
    return rows.merge(outcomes, on=keys, how="inner")


def predictions_of(
    functions: ModelFunctions,
    prepared: PreparedFeatures,
    artifact: Artifact,
    previous: ScoredPartition | None,
) -> pd.DataFrame:
    """Return a model's predictions of a partition, as scoring and evaluation make them alike.

    Args:
        functions: The model's own part.
        prepared: The partition's features, and what is known of earlier ones when it begins.
        artifact: The trained model.
        previous: The previous batch; None if there is none.

    Raises:
        OutcomesError: An outcome has the name of a predicted column.
    """
    known = None if previous is None else with_known_outcomes(previous, prepared.outcomes)
    # A NaN that the model computes from nullable columns stays one. By default pandas makes it NA, and a
    # number that went wrong would pass for no value.
    with pd.option_context("future.distinguish_nan_and_na", True):  # pairs of name and value
        return functions.predict(prepared.features.drop(columns="partition"), artifact, known)
