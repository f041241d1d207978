"""Compares a challenger's predictions with those of the batch that the champion scored."""

# PyArrow creates its compute functions when it is imported.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from prediction_batches.object_store import ObjectStore
from prediction_contract.jobs.metrics import Metric
from prediction_contract.rows.drift import (
    Distribution,
    bin_fractions,
    bins_for,
    distinct_edges,
    stability_index,
)
from prediction_contract.rows.schema import Kind, PredictionSchema
from sagemaker_scripts.functions.entity_rows import ENTITY, PARTITION
from sagemaker_scripts.learning.metric_values import EvaluationError, metric_value

# The kinds whose values have an order and a distance, so that a move can be measured.
_MEASURED = frozenset({Kind.LONG, Kind.DECIMAL, Kind.DOUBLE, Kind.BOOLEAN})
# The number of the champion's rows, spread over the batch, from which the bins' edges are computed.
_EDGE_ROWS = 500_000
# The maximum number of outcomes to join; a batch with more is compared on this number only.
MOST_OUTCOMES = 2_000_000
_READ_ROWS = 50_000
_DECIMALS = 6


@dataclass(frozen=True)
class PredictedRows:
    """Reads data files of predictions in pieces; each file is on disk only while it is read.

    Attributes:
        store: The bucket.
        keys: The keys of the files.
        folder: The folder for local copies.
    """

    store: ObjectStore
    keys: Sequence[str]
    folder: Path

    def pieces(
        self, columns: Sequence[str], chosen: Callable[[int], bool] = lambda _: True
    ) -> Iterator[pa.RecordBatch]:
        """Yield some columns of the rows.

        Args:
            columns: The names of the columns.
            chosen: Selects the row groups to read, by their number across all files.
        """
        number = 0
        for place, key in enumerate(self.keys):
            path = self.folder / f"predicted-{place}.parquet"
            with path.open("wb") as file:
                self.store.save(key, file)
            with pq.ParquetFile(path) as file:
                groups = [each for each in range(file.num_row_groups) if chosen(number + each)]
                number += file.num_row_groups
                if groups:
                    yield from file.iter_batches(_READ_ROWS, groups, columns)
            path.unlink()


def shared_numeric_columns(schema: PredictionSchema, other: PredictionSchema) -> list[str]:
    """Return the numeric and boolean columns that are the same in both schemas, without the key."""
    return [
        column.name
        for column in schema.columns
        if column.type.kind in _MEASURED and column.name != schema.key and column in other.columns
    ]


def column_distances(
    names: Sequence[str], champion: PredictedRows, challenger: PredictedRows, rows: int
) -> list[dict[str, Any]]:
    """Return each column's stability index from the champion to the challenger, largest first.

    Args:
        names: The columns.
        champion: The batch's rows.
        challenger: The challenger's rows.
        rows: The batch's number of rows; with too few, the result is empty.
    """
    bins = bins_for(rows)
    if not names or not bins:
        return []
    edges = _edges(champion, names, bins, rows)
    before, after = (_distributions(side, edges) for side in (champion, challenger))
    moved = [
        {
            "column": name,
            "stability_index": round(stability_index(before[name], after[name]), _DECIMALS),
            "nulls_champion": before[name].nulls,
            "nulls_challenger": after[name].nulls,
        }
        for name in names
    ]
    return sorted(moved, key=lambda each: -each["stability_index"])


def _edges(rows: PredictedRows, names: Sequence[str], bins: int, total: int) -> dict[str, np.ndarray]:
    """Return the edges of equally full bins, by column."""
    # A row group has at most 100,000 rows.
    step = max(1, total // _EDGE_ROWS)
    found: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for piece in rows.pieces(names, lambda number: number % step == 0):
        for name in names:
            found[name].append(_numbers(piece[name]))
    edges = {}
    for name, values in found.items():
        valued = np.concatenate(values)
        valued = valued[np.isfinite(valued)]
        quantiles = np.quantile(valued, bin_fractions(bins)) if len(valued) else np.empty(0)
        edges[name] = np.array(distinct_edges(quantiles.tolist()))
    return edges


def _distributions(rows: PredictedRows, edges: dict[str, np.ndarray]) -> dict[str, Distribution]:
    below = {name: np.zeros(len(each), np.int64) for name, each in edges.items()}
    valued = dict.fromkeys(edges, 0)
    total = 0
    for piece in rows.pieces(list(edges)):
        total += piece.num_rows
        for name, each in edges.items():
            values = np.sort(_numbers(piece[name]))
            below[name] += np.searchsorted(values, each, side="right")
            valued[name] += len(values)
    return {
        name: Distribution.of_cumulative([int(count) for count in below[name]], valued[name], total)
        for name in edges
    }


def _numbers(column: pa.Array) -> np.ndarray:
    """Return the values as floats, with booleans as 0 and 1, without nulls and NaN."""
    numbers = pc.cast(pc.drop_null(column), pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return numbers[~np.isnan(numbers)]


def compared_metrics(
    metrics: Sequence[Metric],
    schema: PredictionSchema,
    champion: PredictedRows,
    challenger: PredictedRows,
    outcomes: pa.Table,
) -> list[dict[str, Any]]:
    """Return each metric of both models, on the entities whose outcome is known.

    Args:
        metrics: The model's metrics.
        schema: The predictions' schema.
        champion: The batch's rows.
        challenger: The challenger's rows.
        outcomes: The outcomes of the batch's partition, one row per entity.
    """
    if not metrics or not outcomes.num_rows:
        return []
    entities = outcomes[ENTITY].cast(pa.large_string()).combine_chunks()
    names = list(dict.fromkeys(metric.predicted for metric in metrics))
    sides = [_of_entities(side, schema.key, names, entities) for side in (champion, challenger)]
    return [
        _compared(metric, sides, outcomes) for metric in metrics if metric.actual in outcomes.column_names
    ]


def _of_entities(rows: PredictedRows, key: str, names: Sequence[str], entities: pa.Array) -> dict[str, Any]:
    """Return the predicted numbers of entities, in their order; NaN for entities without a prediction."""
    found = {name: np.full(len(entities), np.nan) for name in names}
    for piece in rows.pieces([key, *names]):
        places = pc.index_in(piece[key].cast(pa.large_string()), value_set=entities)
        is_known = places.is_valid().to_numpy(zero_copy_only=False)
        at = places.drop_null().to_numpy()
        for name in names:
            numbers = pc.cast(piece[name], pa.float64(), safe=False).to_numpy(zero_copy_only=False)
            found[name][at] = numbers[is_known]
    return found


def _compared(metric: Metric, sides: Sequence[dict[str, Any]], outcomes: pa.Table) -> dict[str, Any]:
    actual = pc.cast(outcomes[metric.actual], pa.float64(), safe=False).to_numpy()
    predicted = [side[metric.predicted] for side in sides]
    kept = np.isfinite(actual) & np.isfinite(predicted[0]) & np.isfinite(predicted[1])
    shown: dict[str, Any] = {"name": metric.label, "better": "lower" if metric.is_lower_better else "higher"}
    shown["rows"] = int(kept.sum())
    try:
        values = [metric_value(metric, actual[kept], each[kept], np.empty(0)).value for each in predicted]
    except EvaluationError as error:
        return {**shown, "champion": None, "challenger": None, "why": error.what}
    return {**shown, "champion": values[0], "challenger": values[1], "why": None}


def outcomes_of(tables: Iterator[pa.RecordBatch], partition: str) -> pa.Table | None:
    """Return one partition's outcomes, at most `MOST_OUTCOMES`; None if there are none."""
    kept, rows = [], 0
    for table in tables:
        own = table.filter(pc.equal(table[PARTITION].cast(pa.large_string()), partition))
        own = own.slice(0, MOST_OUTCOMES - rows)
        if own.num_rows:
            kept.append(own)
            rows += own.num_rows
    return pa.Table.from_batches(kept) if kept else None
