"""Joins features with the previous rows and outcomes of their entities, in chunks on disk.

First, any number of processes divide the rows of the three tables into buckets by key. Then any process makes
one chunk from each bucket.
"""

# PyArrow creates its compute functions when it is imported, where no type checker sees them.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from prediction_batches.object_store import ObjectStore
from sagemaker_scripts.batches.key_buckets import KeyBuckets
from sagemaker_scripts.batches.previous_batch import PreviousBatch
from sagemaker_scripts.batches.previous_rows import (
    PreviousFile,
    ReadRows,
    arrow_schema,
    file_rows,
    without_duplicates,
)
from sagemaker_scripts.batches.schema_frame import frame_of_columns
from sagemaker_scripts.functions.entity_rows import ENTITY
from sagemaker_scripts.learning.outcomes import PreparedTables, ScoredPartition, of_partitions

_FEATURES, _OUTCOMES, _PREVIOUS = "features", "outcomes", "previous"


class JoinedChunk(NamedTuple):
    """The arguments of `predictions_of` for one bucket.

    Attributes:
        prepared: The features in their original order, and the outcomes of their entities.
        previous: The previous rows of these entities, without rows that share a key; None without a previous
            batch.
        numbers: The number of each row among all features, from 0.
    """

    prepared: PreparedTables
    previous: ScoredPartition | None
    numbers: np.ndarray


@dataclass(frozen=True)
class JoinedChunks:
    """Makes the chunks of one machine; every process receives a copy.

    Attributes:
        buckets: The buckets of the three tables.
        previous: The previous batch; None if there is none. Then only features are divided.
    """

    buckets: KeyBuckets
    previous: PreviousBatch | None

    def spill_features(
        self, schema: pa.Schema, batches: Iterable[pa.RecordBatch], *, first_row: int, writer: str
    ) -> None:
        """Write consecutive rows of features to their buckets; arguments as in `KeyBuckets.spill`."""
        self.buckets.spill(_FEATURES, schema, batches, key=ENTITY, first_row=first_row, writer=writer)

    def spill_outcomes(
        self, schema: pa.Schema, batches: Iterable[pa.RecordBatch], *, first_row: int, writer: str
    ) -> None:
        """Write the outcomes of the previous batch's partition to their buckets, and drop all others.

        Arguments are as in `spill_features`.
        """
        own = self._own_outcomes(batches)
        self.buckets.spill(_OUTCOMES, schema, own, key=ENTITY, first_row=first_row, writer=writer)

    def _own_outcomes(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        own = [] if self.previous is None else [self.previous.manifest.partition]
        for batch in batches:
            yield from of_partitions(pa.Table.from_batches([batch]), own).to_batches()

    def spill_previous(self, store: ObjectStore, file: PreviousFile, *, writer: str) -> ReadRows:
        """Write a file's rows to their buckets, and return their counts; errors as in `file_rows`."""
        read = ReadRows()
        if self.previous is None:
            return read
        rows = file_rows(store, self.previous, file, read)
        # Rows are joined in the order of the features, so the order of these rows does not matter.
        schema = arrow_schema(self.previous.manifest.schema)
        self.buckets.spill(_PREVIOUS, schema, rows, key=ENTITY, first_row=0, writer=writer)
        return read

    def drop_previous(self) -> None:
        """Delete the rows of the previous batch, so that its other files can be divided instead."""
        self.buckets.drop(_PREVIOUS)

    def chunk(self, bucket: int) -> JoinedChunk:
        """Return a bucket's chunk, which may have no rows; all three tables must be divided already.

        Raises:
            BucketsError: A column's types in different parts of a table have no common type.
        """
        features = self.buckets.read(_FEATURES, bucket)
        outcomes = self.buckets.read(_OUTCOMES, bucket)
        previous = self.buckets.read(_PREVIOUS, bucket)
        assert features is not None  # noqa: S101  # a partition without features is not scored
        prepared = PreparedTables(features.rows.combine_chunks(), outcomes and outcomes.rows)
        if self.previous is None:
            return JoinedChunk(prepared, None, features.numbers)
        schema = self.previous.manifest.schema
        rows = previous.rows if previous else arrow_schema(schema).empty_table()
        entities = prepared.features[ENTITY].cast(pa.string())
        # A key may occur any number of times, so filter the rows before pandas holds them.
        unique = without_duplicates(self.previous, rows)
        found = unique.filter(pc.is_in(unique[ENTITY], value_set=entities))
        scored = ScoredPartition(self.previous.manifest.partition, frame_of_columns(schema, found))
        return JoinedChunk(prepared, scored, features.numbers)
