"""How good a model is on days it was not trained on, with exactly what would have been known on each."""

# pandas' own annotations call every column "Series | DataFrame", and every aggregate a scalar as well.
# pyright: reportArgumentType=false

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import mean_absolute_error, roc_auc_score

from prediction_contract.errors import ContractError
from prediction_contract.metrics import Metric
from sagemaker_scripts.model_functions import Artifact, ModelFunctions, PreparedFeatures
from sagemaker_scripts.outcomes import predictions_of, with_outcomes

# What a prediction without any knowledge is worth.
_CHANCE_AUC = 0.5


class EvaluationError(ContractError):
    """A model cannot be evaluated on the given days."""


def backtest(
    functions: ModelFunctions, artifact: Artifact, days: Mapping[str, PreparedFeatures]
) -> pd.DataFrame:
    """Return the predictions that scoring each partition in its turn would have made.

    Each partition is scored from its own features; the previous batch is that of the partition before it,
    judged by the outcomes that are known when this one begins.

    Args:
        functions: The model's own part.
        artifact: The trained model.
        days: By partition, in order, without gaps.
    """
    scored: list[pd.DataFrame] = []
    for partition, prepared in days.items():
        rows = predictions_of(functions, prepared, artifact, scored[-1] if scored else None)
        scored.append(rows.assign(partition=partition))
    return pd.concat(scored, ignore_index=True)


def evaluate(
    metrics: Sequence[Metric],
    predictions: pd.DataFrame,
    outcomes: pd.DataFrame,
    examples: pd.DataFrame,
) -> list[dict[str, Any]]:
    """Return each metric's value beside that of the naive baselines, which know the training days' outcomes.

    Args:
        metrics: The model's metrics.
        predictions: Of all evaluated partitions.
        outcomes: What became of them in the end.
        examples: What the model was trained on.

    Raises:
        EvaluationError: None of the predicted entities has an outcome, or a metric that tells two outcomes
            apart finds only one.
    """
    judged = with_outcomes(predictions, outcomes)
    if judged.empty:
        raise EvaluationError(
            "No outcome of the evaluated partitions is known",
            remedy="Prepare the features of the partitions after them, which tell what happened",
        )
    return [_evaluated(metric, judged, examples[metric.actual]) for metric in metrics]


def _evaluated(metric: Metric, judged: pd.DataFrame, trained: pd.Series) -> dict[str, Any]:
    actual = judged[metric.actual]
    predicted = judged[metric.predicted].astype("float64")
    if metric.kind == "roc_auc":
        if len(set(actual)) == 1:
            raise EvaluationError(
                f"All entities of the evaluated partitions have the same {metric.actual}",
                remedy="Evaluate more partitions",
            )
        value = float(roc_auc_score(actual, predicted))
        baselines = {"train_mean": _CHANCE_AUC}
        better = value > _CHANCE_AUC
    else:
        value = float(mean_absolute_error(actual, predicted))
        constants = {"train_mean": trained.mean(), "train_median": trained.median()}
        baselines = {
            name: float(mean_absolute_error(actual, np.full(len(actual), constant)))
            for name, constant in constants.items()
        }
        better = value < min(baselines.values())
    return {
        **metric._asdict(),
        "value": round(value, 4),
        "baselines": {name: round(baseline, 4) for name, baseline in baselines.items()},
        "beats_baselines": better,
        "rows": len(judged),
    }
