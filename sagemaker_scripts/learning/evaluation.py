"""How good a model is on days it was not trained on, with exactly what would have been known on each."""

# pandas' own annotations call every column "Series | DataFrame", and every aggregate a scalar as well.
# pyright: reportArgumentType=false

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.metrics import mean_absolute_error, roc_auc_score

from prediction_contract.cleaning.cleaning_rules import NO_CLEANING, Cleaning
from prediction_contract.cleaning.row_cleaning import row_parser
from prediction_contract.errors import ContractError
from prediction_contract.jobs.metrics import Metric
from prediction_contract.rows.schema import PredictionSchema
from sagemaker_scripts.batches.batch_rows import (
    accepted_rows,
    counted_reasons,
    prediction_lines,
    refused_rows,
)
from sagemaker_scripts.batches.schema_frame import entity_frame
from sagemaker_scripts.learning.outcomes import ScoredPartition, predictions_of, with_known_outcomes
from sagemaker_scripts.model_functions import Artifact, ModelFunctions, PreparedFeatures

_LOG = logging.getLogger(__name__)
# What a prediction without any knowledge is worth.
_CHANCE_AUC = 0.5


class EvaluationError(ContractError):
    """A model cannot be evaluated on the given days."""


class Backtest(NamedTuple):
    """What scoring would have delivered.

    Attributes:
        scored: The predictions of each partition that a load accepts.
        rows_left_out: How many predictions a load would refuse, by reason.
    """

    scored: list[ScoredPartition]
    rows_left_out: Counter[str]


def backtest(
    functions: ModelFunctions,
    artifact: Artifact,
    days: Iterable[tuple[str, PreparedFeatures]],
    schema: PredictionSchema,
    cleaning: Cleaning = NO_CLEANING,
) -> Backtest:
    """Return the predictions that scoring each partition in its turn would have made.

    Each partition is scored from its own features; the previous batch is that of the partition before it,
    joined with the outcomes that are known when this one begins.

    Args:
        functions: The model's own part.
        artifact: The trained model.
        days: Each partition and its features, in order, without gaps. One at a time is held.
        schema: Of the predictions. Rows that the load would refuse are left out, counted and logged.
        cleaning: How the load cleans them before it checks them.

    Raises:
        EvaluationError: No row is left.
        PredictionsError: As `prediction_lines`.
    """
    scored: list[ScoredPartition] = []
    left_out: Counter[str] = Counter()
    parse_row = row_parser(schema, cleaning) if cleaning else None
    for partition, prepared in days:
        predictions = predictions_of(functions, prepared, artifact, scored[-1] if scored else None)
        lines = prediction_lines(schema, predictions)
        refused = refused_rows(lines, parse_row)
        if refused.first:
            _LOG.warning(
                "%d of %d predictions of %s are not evaluated, as a load would refuse them: %s",
                refused.reasons.total(),
                len(lines),
                partition,
                refused,
            )
        left_out += refused.reasons
        rows = accepted_rows(lines, parse_row)
        scored.append(ScoredPartition(partition, entity_frame(schema, cleaning, rows)))
    if all(each.predictions.empty for each in scored):
        raise EvaluationError(
            "A load would accept no prediction of the evaluated partitions: "
            f"{counted_reasons(left_out) or 'predict returned no row'}",
            remedy="Correct the model's predict function, or the columns in its defs.yaml",
        )
    return Backtest(scored, left_out)


def evaluate(
    metrics: Sequence[Metric],
    scored: Sequence[ScoredPartition],
    outcomes: pd.DataFrame,
    examples: pd.DataFrame,
) -> list[dict[str, Any]]:
    """Return each metric's value beside that of the naive baselines, which know the training days' outcomes.

    Args:
        metrics: The model's metrics.
        scored: The evaluated partitions.
        outcomes: What became of them in the end.
        examples: What the model was trained on.

    Raises:
        EvaluationError: None of the predicted entities has an outcome, or a metric that tells two outcomes
            apart finds only one.
    """
    known = pd.concat([with_known_outcomes(each, outcomes) for each in scored], ignore_index=True)
    if known.empty:
        raise EvaluationError(
            "No outcome of the evaluated partitions is known",
            remedy="Prepare the features of the partitions after them, which tell what happened",
        )
    return [_evaluated(metric, known, examples[metric.actual]) for metric in metrics]


def _evaluated(metric: Metric, known: pd.DataFrame, trained: pd.Series) -> dict[str, Any]:
    # A column that cleaning leaves out may lack a value, as may one that takes null.
    known = known.dropna(subset=[metric.predicted])
    if known.empty:
        raise EvaluationError(
            f"No evaluated prediction has a {metric.predicted}",
            remedy="Correct the model's predict function, or the metrics in its defs.yaml",
        )
    actual = known[metric.actual]
    predicted = known[metric.predicted].astype("float64")
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
        "rows": len(known),
    }
