"""Joins two models' predictions of the same entities with the actual outcomes."""

# pandas' annotations type every column as "Series | DataFrame".
# pyright: reportArgumentType=false, reportReturnType=false, reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from prediction_contract.jobs.metrics import Metric
from prediction_contract.printable_text import escape_unprintable
from sagemaker_scripts.functions.entity_rows import ENTITY
from sagemaker_scripts.learning.evaluation import numbers_of
from sagemaker_scripts.learning.metric_values import EvaluationError
from sagemaker_scripts.learning.outcomes import ScoredPartition, with_known_outcomes
from sagemaker_scripts.retraining.paired_bootstrap import PairedRows

# Columns of outcomes and predictions have no spaces in their names, so these names are distinct.
_CANDIDATE, _CHAMPION, _SLICE, _NUMBER = "candidate ", "champion ", "slice ", "partition number"
_LONGEST_VALUE = 80


@dataclass(frozen=True)
class JoinedPredictions:
    """The rows of all held-out partitions whose outcome is known.

    Attributes:
        rows: One row per partition and entity that at least one of the models predicted.
        partitions: The number of held-out partitions.
        has_champion: Whether there is a champion.
    """

    rows: pd.DataFrame
    partitions: int
    has_champion: bool

    @classmethod
    def of_models(
        cls,
        candidate: Sequence[ScoredPartition],
        champion: Sequence[ScoredPartition] | None,
        outcomes: pa.Table | None,
        *,
        metrics: Sequence[Metric],
        slices: Sequence[str],
    ) -> JoinedPredictions:
        """Join the predictions of the same partitions.

        Args:
            candidate: The candidate's predictions of each partition.
            champion: The champion's predictions; None without a champion.
            outcomes: The newest known outcomes.
            metrics: The metrics; their columns are kept.
            slices: The columns that divide the rows into slices.

        Raises:
            OutcomesError: An outcome has the name of a predicted column.
        """
        columns = list(dict.fromkeys(metric.predicted for metric in metrics))
        frames = []
        for number, scored in enumerate(candidate):
            rows = _of_model(scored.predictions, columns, slices, _CANDIDATE)
            if champion is not None:
                other = _of_model(champion[number].predictions, columns, slices, _CHAMPION)
                rows = rows.merge(other, on=ENTITY, how="outer")
                for name in slices:
                    own, others = f"{_CANDIDATE}{_SLICE}{name}", f"{_CHAMPION}{_SLICE}{name}"
                    rows[own] = rows[own].fillna(rows[others])
            known = with_known_outcomes(ScoredPartition(scored.partition, rows), outcomes)
            frames.append(known.assign(**{_NUMBER: number}))
        return cls(pd.concat(frames, ignore_index=True), len(candidate), champion is not None)

    def require_outcomes(self, metric: Metric) -> None:
        """Refuse to judge while no outcome of the held-out partitions is known.

        Raises:
            EvaluationError: No value of the metric's outcome column is known.
        """
        if not len(self.rows[metric.actual].dropna()):
            raise EvaluationError(
                f"No outcome of the held-out partitions is known: {metric.actual} is missing in all rows",
                remedy="Prepare the features of later partitions, which include these outcomes, then start "
                "the next attempt",
            )

    def paired(self, metric: Metric, chosen: np.ndarray | None = None) -> PairedRows:
        """Return the rows with a known outcome and a prediction of each model, for one metric.

        Args:
            metric: The metric.
            chosen: A mask of the rows to use; None for all.

        Raises:
            EvaluationError: A column holds other values than numbers.
        """
        rows = self.rows if chosen is None else self.rows[chosen]
        candidate = rows[f"{_CANDIDATE}{metric.predicted}"]
        champion = rows[f"{_CHAMPION}{metric.predicted}"] if self.has_champion else candidate
        kept = rows[metric.actual].notna() & candidate.notna() & champion.notna()
        if metric.kind == "mape":
            # The metric is undefined for an outcome of 0.
            kept &= rows[metric.actual] != 0
        return PairedRows(
            numbers_of(rows[metric.actual][kept], metric),
            numbers_of(candidate[kept], metric),
            numbers_of(champion[kept], metric),
            rows[_NUMBER][kept].to_numpy(),
        )

    def left_out(self, metric: Metric) -> tuple[int, int]:
        """Return how many rows with an outcome the champion predicted, and how many the candidate lacks."""
        answered = self.rows[metric.actual].notna() & self.rows[f"{_CHAMPION}{metric.predicted}"].notna()
        return int(answered.sum()), int(
            (answered & self.rows[f"{_CANDIDATE}{metric.predicted}"].isna()).sum()
        )

    def slices(self, column: str, most: int) -> list[tuple[str, np.ndarray]]:
        """Return the most frequent values of a column, each with the mask of its rows.

        Args:
            column: The column.
            most: The maximum number of values.
        """
        codes, values = pd.factorize(self.rows[f"{_CANDIDATE}{_SLICE}{column}"], use_na_sentinel=False)
        counts = np.bincount(codes, minlength=len(values))
        # Among equally frequent values, those that occur first are kept.
        order = np.argsort(-counts, kind="stable")[:most]
        return [(_shown(values[place]), codes == place) for place in order]


def _shown(value: Any) -> str:
    return "null" if pd.isna(value) else escape_unprintable(str(value))[:_LONGEST_VALUE]


def _of_model(
    predictions: pd.DataFrame, columns: Sequence[str], slices: Sequence[str], model: str
) -> pd.DataFrame:
    """Return the columns needed for judging, with the model's prefix in their names."""
    kept = {f"{model}{name}": predictions[name] for name in columns}
    dividing = {f"{model}{_SLICE}{name}": predictions[name] for name in slices}
    return pd.DataFrame({ENTITY: predictions[ENTITY], **kept, **dividing})
