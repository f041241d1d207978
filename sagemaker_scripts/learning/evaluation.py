"""How good a model is on days it was not trained on, with exactly what would have been known on each."""

# pandas' own annotations call every column "Series | DataFrame", and every aggregate a scalar as well.
# pyright: reportArgumentType=false

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from prediction_contract.cleaning.cleaning_rules import NO_CLEANING, Cleaning
from prediction_contract.jobs.metrics import Metric
from prediction_contract.rows.schema import PredictionSchema
from sagemaker_scripts.batches.loaded_rows import loaded_rows
from sagemaker_scripts.batches.schema_frame import entity_frame
from sagemaker_scripts.functions.function_calls import ModelFunctions
from sagemaker_scripts.learning.metric_values import EvaluationError, metric_value
from sagemaker_scripts.learning.outcomes import (
    PreparedTables,
    ScoredPartition,
    predictions_of,
    with_known_outcomes,
)
from sagemaker_scripts.tables.given_tables import pandas_table

_LOG = logging.getLogger(__name__)
_NAMED_ROWS = 5


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
    artifact: Any,
    days: Iterable[tuple[str, PreparedTables]],
    schema: PredictionSchema,
    cleaning: Cleaning = NO_CLEANING,
) -> Backtest:
    """Return the predictions that scoring each partition in its turn would have made.

    Each partition is scored from its own features; the previous batch is that of the partition before it,
    joined with the outcomes that are known when this one begins.

    Args:
        functions: The model's own part.
        artifact: The trained model.
        days: Each partition and what was prepared for it, in order, without gaps. One at a time is held.
        schema: Of the predictions. Rows that the load would refuse are left out, counted and logged.
        cleaning: How the load cleans them before it checks them.

    Raises:
        EvaluationError: No row is left.
        PredictionsError: As `loaded_rows`.
    """
    scored: list[ScoredPartition] = []
    left_out: Counter[str] = Counter()
    for partition, prepared in days:
        previous = scored[-1] if scored else None
        predictions = predictions_of(functions, partition, prepared, artifact, previous)
        rows = loaded_rows(schema, cleaning, predictions)
        if rows.refused:
            _LOG.warning(
                "%d of %d predictions of %s are not evaluated, as a load would refuse them: %s; %s",
                len(rows.refused),
                len(rows),
                partition,
                _counted(rows.reasons()),
                "; ".join(f"row {each.row}: {each.what}" for each in rows.refused[:_NAMED_ROWS]),
            )
        left_out += rows.reasons()
        scored.append(ScoredPartition(partition, entity_frame(schema, cleaning, rows.accepted)))
    if all(each.predictions.empty for each in scored):
        raise EvaluationError(
            "A load would accept no prediction of the evaluated partitions: "
            f"{_counted(left_out) or 'predict returned no row'}",
            remedy="Correct the model's predict function, or the columns in its defs.yaml",
        )
    return Backtest(scored, left_out)


def _counted(reasons: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in reasons.items())


def evaluate(
    metrics: Sequence[Metric],
    scored: Sequence[ScoredPartition],
    outcomes: pa.Table | None,
    examples: pa.Table,
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
    return [_evaluated(metric, known, examples) for metric in metrics]


def _evaluated(metric: Metric, known: pd.DataFrame, examples: pa.Table) -> dict[str, Any]:
    require_outcome_column(metric, known.columns, examples.column_names)
    # A column that cleaning leaves out may lack a value, as may one that takes null.
    known = known.dropna(subset=[metric.predicted, metric.actual])
    if known.empty:
        raise EvaluationError(
            f"No evaluated prediction has a {metric.predicted} and a {metric.actual}",
            remedy="Correct the model's predict function, or the metrics in its defs.yaml",
        )
    found = metric_value(
        metric,
        numbers_of(known[metric.actual], metric),
        numbers_of(known[metric.predicted], metric),
        trained_values(metric, examples),
    )
    return {
        **{name: value for name, value in metric._asdict().items() if value is not None},
        "name": metric.name,
        **found._asdict(),
    }


def require_outcome_column(metric: Metric, known: Iterable[str], learned: Iterable[str]) -> None:
    """Refuse a metric of what is no outcome of the evaluated rows, or of those that were learned from.

    Raises:
        EvaluationError: It names another column than they have.
    """
    if metric.actual not in known:
        raise EvaluationError(
            f"The outcomes have no column {metric.actual}, which the metric {metric.name} names",
            remedy="Return it from the model's outcomes function, or correct the metrics in its defs.yaml",
        )
    if metric.actual not in learned:
        raise EvaluationError(
            f"The outcomes that the model learned from have no column {metric.actual}, which the metric "
            f"{metric.name} names",
            remedy="Prepare the features of the partitions to learn from again",
        )


def trained_values(metric: Metric, examples: pa.Table) -> np.ndarray:
    """Return what became of the rows that a model learned from, which naive baselines know."""
    return numbers_of(pandas_table(examples.select([metric.actual]))[metric.actual].dropna(), metric)


def numbers_of(values: pd.Series, metric: Metric) -> np.ndarray:
    """Return a column without missing values as floats, truth values as 0 and 1.

    Raises:
        EvaluationError: It holds no numbers, or infinite ones.
    """
    try:
        numbers = values.astype("float64").to_numpy()
    except (TypeError, ValueError) as error:
        # The words of the error quote a value, and it is not known which are sensitive.
        raise EvaluationError(
            f"{values.name} holds {values.dtype}, and the metric {metric.name} is of numbers",
            remedy="Correct the metrics in the model's defs.yaml",
        ) from error
    if not np.isfinite(numbers).all():
        raise EvaluationError(
            f"{values.name} is infinite in some rows, so the metric {metric.name} says nothing",
            remedy="Correct the model's outcomes function",
        )
    return numbers
