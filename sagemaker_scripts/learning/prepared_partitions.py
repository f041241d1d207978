"""Prepared features of consecutive partitions, for training or evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from prediction_batches.object_store import ObjectStore
from sagemaker_scripts.features.feature_store import FeatureSet
from sagemaker_scripts.functions.entity_rows import ENTITY, PARTITION
from sagemaker_scripts.learning.outcomes import (
    PreparedTables,
    joined_tables,
    newest_outcomes,
    of_partitions,
    with_outcomes,
)


@dataclass(frozen=True)
class PreparedPartitions:
    """Reads prepared features, one partition at a time, and the outcomes of their entities.

    Attributes:
        store: The bucket.
        sets: The features of each partition, in order.
        outcomes: The outcomes that are known when `known_at` begins; None for a model without outcomes.
        known_at: The last partition whose prepared outcomes were read.
        sources: The SHA-256 of every file that was read.
    """

    store: ObjectStore
    sets: list[FeatureSet]
    outcomes: pa.Table | None
    known_at: str
    sources: list[str]

    @classmethod
    def of_sets(
        cls, store: ObjectStore, sets: list[FeatureSet], later: list[FeatureSet], *, has_outcomes: bool
    ) -> PreparedPartitions:
        """Read the outcomes of prepared features.

        Args:
            store: The bucket.
            sets: The features of each partition, in order.
            later: The features of later partitions, read only for their outcomes.
            has_outcomes: Whether the model has outcomes.

        Raises:
            FeaturesError: Some of the features were prepared when the model had no outcomes.
        """
        if not has_outcomes:
            sources = [file.object.sha256 for each in sets for file in each.features]
            return cls(store, sets, None, known_at=sets[-1].partition, sources=sources)
        asked = [each.partition for each in sets]
        tables = (each.read_outcomes(store) for each in (*sets, *later))
        sources = [source.sha256 for each in sets for source in each.inputs]
        return cls(
            store,
            sets,
            newest_outcomes(of_partitions(table, asked) for table in tables),
            known_at=[*sets, *later][-1].partition,
            sources=sources + [file.object.sha256 for each in later for file in each.outcomes or ()],
        )

    def examples(self) -> pa.Table:
        """Return the features whose outcome is known, joined with it; all features if there are no outcomes.

        Raises:
            OutcomesError: Features and outcomes share a column, or partitions differ in a column's type.
        """
        return joined_tables(map(self._examples_of, self.sets), "The features")

    def known_values(self) -> pa.Table:
        """Return the outcome columns of `examples`, for a model with outcomes.

        Memory holds the features of one partition at a time.
        """
        assert self.outcomes is not None  # noqa: S101  # asked of models with outcomes alone
        names = [name for name in self.outcomes.column_names if name not in {PARTITION, ENTITY}]
        return joined_tables((self._examples_of(each).select(names) for each in self.sets), "The outcomes")

    def _examples_of(self, prepared: FeatureSet) -> pa.Table:
        rows = prepared.read_features(self.store)
        return rows if self.outcomes is None else with_outcomes(rows, self.outcomes, prepared.partition)

    def partitions(self) -> Iterator[tuple[str, PreparedTables]]:
        """Yield each partition and its prepared data, in order."""
        for each in self.sets:
            outcomes = None if self.outcomes is None else each.read_outcomes(self.store)
            yield each.partition, PreparedTables(each.read_features(self.store), outcomes)
