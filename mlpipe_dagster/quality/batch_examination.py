"""Examines a batch in the warehouse: column rules, comparison with the live batch, and drift."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mlpipe_dagster.quality import batch_statistics as statistics
from mlpipe_dagster.quality.quality_rules import (
    BatchFacts,
    ColumnFacts,
    DriftedColumn,
    Level,
    QualityFinding,
    column_findings,
    comparison_findings,
    drift_findings,
    drift_levels,
)
from model_declaration.declaration import ModelDeclaration
from prediction_contract.cleaning.cleaning_rules import NO_CLEANING, Cleaning
from prediction_contract.rows.drift import (
    Distribution,
    bin_fractions,
    bins_for,
    distinct_edges,
    stability_index,
)
from prediction_contract.rows.schema import Column, Kind, PredictionSchema
from prediction_contract.stores.warehouse_table import WarehouseTable

Query = Callable[[str], list[tuple[Any, ...]]]

_PICTURE_BARS = 20
_PICTURE_ENDS = (0.01, 0.99)


@dataclass(frozen=True, slots=True)
class ColumnPicture:
    """One column's distributions in the batch and in the live batch; `ends` labels the outer bars."""

    column: str
    ends: tuple[str, str] | None
    batch: Distribution
    live: Distribution | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """The result of examining a batch.

    Attributes:
        facts: The counts.
        live_batch_id: The batch that it was compared with, if any.
        by_column: Violations of the rules of single columns.
        against_live: Violations of the rules on rows and entities compared with the live batch.
        drift: The drift of each column; empty without a live batch, or with too few rows.
        live_model_version: The model version in the live batch's manifest if it differs from the batch's own,
            else None.
        of_version: Findings on earlier batches of the version that scored the batch.
        pictures: The distributions of each measured column.
        visible_columns: The columns whose values people may see.
    """

    facts: BatchFacts
    live_batch_id: str | None
    by_column: list[QualityFinding]
    against_live: list[QualityFinding]
    drift: list[DriftedColumn]
    live_model_version: str | None = None
    of_version: list[QualityFinding] = field(default_factory=list)
    pictures: list[ColumnPicture] = field(default_factory=list)
    visible_columns: frozenset[str] = frozenset()

    @property
    def blocking(self) -> list[str]:
        """The reasons why the batch must not be published automatically."""
        found = (*self.by_column, *self.against_live, *drift_findings(self.drift), *self.of_version)
        return [finding.text for finding in found if finding.level is Level.BLOCK]


@dataclass(frozen=True, slots=True, kw_only=True)
class Examiner:
    """Examines batches of one model.

    Attributes:
        query: Runs a statement in the warehouse and returns its rows.
        declaration: The model's declaration.
        written: The batch's columns as the model wrote them.
        cleaning: The batch's cleaning rules.
    """

    query: Query
    declaration: ModelDeclaration
    written: PredictionSchema
    cleaning: Cleaning = NO_CLEANING

    @property
    def schema(self) -> PredictionSchema:
        """The batch's columns as the stores hold them."""
        return self.cleaning.stored_schema(self.written)

    @property
    def visible_columns(self) -> frozenset[str]:
        """The stored names of the columns whose values people may see."""
        visible = {column.name for column in self.declaration.columns if not column.sensitive}
        return self.cleaning.stored_names(self.written, visible)

    @property
    def table(self) -> WarehouseTable:
        """The model's table."""
        return WarehouseTable(self.declaration.name, self.schema)

    def examine(
        self, batch_id: str, live_batch_id: str | None, *, live_model_version: str | None = None
    ) -> Examination:
        """Examine a batch, and compare it with the live one if there is one.

        Args:
            batch_id: The batch.
            live_batch_id: The batch to compare it with, or None.
            live_model_version: See `Examination`.
        """
        quality = self.declaration.quality
        facts = self._facts(batch_id, live_batch_id)
        live = live_batch_id if facts.live_rows else None
        indices, pictures = self._distributions(batch_id, live, facts)
        return Examination(
            facts=facts,
            live_batch_id=live,
            by_column=column_findings(quality.columns, facts),
            against_live=comparison_findings(quality, facts),
            drift=drift_levels(quality, indices, of_other_version=live_model_version is not None),
            live_model_version=live_model_version,
            pictures=pictures,
            visible_columns=self.visible_columns,
        )

    def sample(self, batch_id: str, columns: Sequence[str], rows: int) -> list[tuple[Any, ...]]:
        """Return some columns of a batch's first rows."""
        return self.query(statistics.sample_rows(self.table, batch_id, columns, rows))

    def _facts(self, batch_id: str, live_batch_id: str | None) -> BatchFacts:
        rules = [rule for rule in self.declaration.quality.columns if rule.column in self.schema.names]
        (counted,) = self.query(statistics.rule_counts(self.table, batch_id, rules))
        rows, *numbers = counted
        columns = {}
        for number, rule in enumerate(rules):
            nulls, outside, distinct = numbers[3 * number : 3 * number + 3]
            columns[rule.column] = ColumnFacts(
                int(nulls), int(outside), None if distinct is None else int(distinct)
            )
        live_rows = shared = None
        if live_batch_id is not None:
            ((live, both),) = self.query(statistics.shared_entities(self.table, batch_id, live_batch_id))
            # A batch that has left the warehouse is not compared.
            live_rows, shared = (int(live), int(both)) if live else (None, None)
        return BatchFacts(rows=int(rows), columns=columns, live_rows=live_rows, shared_entities=shared)

    def _distributions(
        self, batch_id: str, live_batch_id: str | None, facts: BatchFacts
    ) -> tuple[dict[str, float], list[ColumnPicture]]:
        """Return each measured column's stability index and distributions; bins come from the live batch."""
        if not facts.rows:
            return {}, []
        batches = [batch_id] if live_batch_id is None else [batch_id, live_batch_id]
        bins = bins_for(min(facts.rows, facts.live_rows or 0))
        indices: dict[str, float] = {}
        pictures = []
        measured = statistics.measured_columns(self.schema.columns, self.schema.key)
        for columns in _chunks(measured, statistics.MAX_AGGREGATES // (bins + _PICTURE_BARS + 2)):
            drift_edges, picture_edges = self._edges(live_batch_id or batch_id, columns, bins)
            edges = {
                column.name: (*drift_edges[column.name], *picture_edges[column.name]) for column in columns
            }
            counted = {
                str(row[0]): [int(value) for value in row[1:]]
                for row in self.query(statistics.binned(self.table, batches, columns, edges))
            }
            start = 1
            for column in columns:
                name, edge_count = column.name, len(drift_edges[column.name])
                end = start + 1 + len(edges[name])
                of_batch = {
                    batch: _bins_and_bars(values[0], values[start:end], edge_count)
                    for batch, values in counted.items()
                }
                start = end
                batch, live = of_batch[batch_id], of_batch.get(live_batch_id or "")
                if live is not None and bins:
                    indices[name] = stability_index(live[0], batch[0])
                ends = _ends(column, picture_edges[name])
                pictures.append(ColumnPicture(name, ends, batch[1], None if live is None else live[1]))
        return indices, pictures

    def _edges(
        self, batch_id: str, columns: Sequence[Column], bins: int
    ) -> tuple[Mapping[str, tuple[float, ...]], Mapping[str, tuple[float, ...]]]:
        """Return the edges of equally filled bins, and of bars of equal width, by column."""
        fractions = (*_PICTURE_ENDS, *(bin_fractions(bins) if bins else ()))
        (found,) = self.query(statistics.quantiles(self.table, batch_id, columns, fractions))
        drift, picture = {}, {}
        for number, column in enumerate(columns):
            first = number * len(fractions)
            low, high, *inner = found[first : first + len(fractions)]
            if column.type.kind is Kind.BOOLEAN:
                drift[column.name] = picture[column.name] = (0.5,)
                continue
            drift[column.name] = distinct_edges([None if edge is None else float(edge) for edge in inner])
            picture[column.name] = _even_edges(low, high)
        return drift, picture


def _bins_and_bars(rows: int, values: Sequence[int], drift_edges: int) -> tuple[Distribution, Distribution]:
    """Return a column's distributions over its bins and over its bars."""
    valued, *below = values
    return (
        Distribution.of_cumulative(below[:drift_edges], valued, rows),
        Distribution.of_cumulative(below[drift_edges:], valued, rows),
    )


def _even_edges(low: Any, high: Any) -> tuple[float, ...]:
    if low is None or high is None:
        return ()
    width = (float(high) - float(low)) / (_PICTURE_BARS - 2)
    return distinct_edges([float(low) + width * number for number in range(_PICTURE_BARS - 1)])


def _ends(column: Column, edges: Sequence[float]) -> tuple[str, str] | None:
    if column.type.kind is Kind.BOOLEAN:
        return "false", "true"
    return (f"{edges[0]:.4g}", f"{edges[-1]:.4g}") if edges else None


def _chunks(columns: Sequence[Column], size: int) -> Iterator[Sequence[Column]]:
    for first in range(0, len(columns), size):
        yield columns[first : first + size]
