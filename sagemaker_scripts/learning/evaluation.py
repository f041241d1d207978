"""Evaluates a model on partitions it was not trained on, with the data known at each partition's start."""

# pandas' annotations type every column as "Series | DataFrame", and every aggregate as a scalar too.
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
    """The predictions that scoring would have delivered.

    Attributes:
        scored: The predictions of each partition that a load would accept.
        rows_left_out: The number of predictions that a load would refuse, by reason.
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
    """Return the predictions that scoring the partitions one after another would have made.

    Each partition is scored from its own features. Its previous batch is the one of the partition before,
    joined with the outcomes known when the partition begins.

    Args:
        functions: The model's functions.
        artifact: The trained model.
        days: Each partition with its prepared data, in order, without gaps. Memory holds one at a time.
        schema: The predictions' schema. Rows that the load would refuse are left out, counted and logged.
        cleaning: The load's cleaning rules.

    Raises:
        EvaluationError: No rows are left.
        PredictionsError: As in `loaded_rows`.
    """
    scored: list[ScoredPartition] = []
    left_out: Counter[str] = Counter()
    for partition, prepared in days:
        previous = scored[-1] if scored else None
        predictions = predictions_of(functions, partition, prepared, artifact, previous)
        rows = loaded_rows(schema, cleaning, predictions)
        if rows.refused:
            _LOG.warning(
                "%d of %d predictions of %s are not evaluated, because a load would refuse them: %s; %s",
                len(rows.refused),
                len(rows),
                partition,
                _reason_counts(rows.reasons()),
                "; ".join(f"row {each.row}: {each.what}" for each in rows.refused[:_NAMED_ROWS]),
            )
        left_out += rows.reasons()
        scored.append(ScoredPartition(partition, entity_frame(schema, cleaning, rows.accepted)))
    if all(each.predictions.empty for each in scored):
        raise EvaluationError(
            "A load would accept no prediction of the evaluated partitions: "
            f"{_reason_counts(left_out) or 'predict returned no rows'}",
            remedy="Correct the model's predict function, or the columns in its defs.yaml",
        )
    return Backtest(scored, left_out)


def _reason_counts(reasons: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in reasons.items())


def evaluate(
    metrics: Sequence[Metric],
    scored: Sequence[ScoredPartition],
    outcomes: pa.Table | None,
    examples: pa.Table,
) -> list[dict[str, Any]]:
    """Return each metric's value for the model and for naive baselines from the training outcomes.

    Args:
        metrics: The model's metrics.
        scored: The predictions of the evaluated partitions.
        outcomes: The newest known outcomes of these partitions.
        examples: The rows that the model was trained on.

    Raises:
        EvaluationError: No predicted entity has an outcome, or all outcomes are equal and a metric needs two
            different ones.
    """
    known = pd.concat([with_known_outcomes(each, outcomes) for each in scored], ignore_index=True)
    if known.empty:
        raise EvaluationError(
            "No outcome of the evaluated partitions is known",
            remedy="Prepare the features of later partitions, which include these outcomes",
        )
    return [_evaluated(metric, known, examples) for metric in metrics]


def _evaluated(metric: Metric, known: pd.DataFrame, examples: pa.Table) -> dict[str, Any]:
    require_outcome_column(metric, known.columns, examples.column_names)
    # Nullable columns may lack a value, and so may columns that cleaning leaves out.
    known = known.dropna(subset=[metric.predicted, metric.actual])
    if known.empty:
        raise EvaluationError(
            f"No evaluated prediction has both {metric.predicted} and {metric.actual}",
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
    """Refuse a metric whose outcome column is missing in the evaluated or the training outcomes.

    Args:
        metric: The metric.
        known: The columns of the evaluated rows.
        learned: The columns of the training rows.

    Raises:
        EvaluationError: The column is missing.
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
            remedy="Prepare the features of the training partitions again",
        )


def trained_values(metric: Metric, examples: pa.Table) -> np.ndarray:
    """Return the outcomes of the training rows, from which naive baselines are computed."""
    return numbers_of(pandas_table(examples.select([metric.actual]))[metric.actual].dropna(), metric)


def numbers_of(values: pd.Series, metric: Metric) -> np.ndarray:
    """Return a column without missing values as floats, with booleans as 0 and 1.

    Raises:
        EvaluationError: The column holds other values than numbers, or infinities.
    """
    try:
        numbers = values.astype("float64").to_numpy()
    except (TypeError, ValueError) as error:
        # The error's message quotes a value, which may be sensitive.
        raise EvaluationError(
            f"{values.name} holds {values.dtype}, but the metric {metric.name} needs numbers",
            remedy="Correct the metrics in the model's defs.yaml",
        ) from error
    if not np.isfinite(numbers).all():
        raise EvaluationError(
            f"{values.name} is infinite in some rows, so the metric {metric.name} is undefined",
            remedy="Correct the model's outcomes function",
        )
    return numbers
