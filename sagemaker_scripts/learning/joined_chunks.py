"""Chunks of features and what is known of their entities, previous rows and outcomes: a join on disk.

First the three tables are divided into buckets of keys, by any number of processes. Then each bucket is one
chunk, whoever makes it.
"""

# PyArrow makes its compute functions when it is imported, where no type checker sees them.
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
    """What `predictions_of` takes of one bucket.

    Attributes:
        prepared: Features in their own order, and the outcomes of their entities.
        previous: The previous rows of these entities, those of a key that comes twice left out; None if there
            is no previous batch.
        numbers: The number of each row among all features, from 0.
    """

    prepared: PreparedTables
    previous: ScoredPartition | None
    numbers: np.ndarray


@dataclass(frozen=True)
class JoinedChunks:
    """The chunks of one machine; it travels to other processes.

    Attributes:
        buckets: Where they are divided.
        previous: The previous batch; None if there is none, and features alone are divided.
    """

    buckets: KeyBuckets
    previous: PreviousBatch | None

    def spill_features(
        self, schema: pa.Schema, batches: Iterable[pa.RecordBatch], *, first_row: int, writer: str
    ) -> None:
        """Divide consecutive rows of features; arguments as `KeyBuckets.spill`."""
        self.buckets.spill(_FEATURES, schema, batches, key=ENTITY, first_row=first_row, writer=writer)

    def spill_outcomes(
        self, schema: pa.Schema, batches: Iterable[pa.RecordBatch], *, first_row: int, writer: str
    ) -> None:
        """Divide consecutive rows of outcomes, those of other partitions left out; arguments as above."""
        own = self._own_outcomes(batches)
        self.buckets.spill(_OUTCOMES, schema, own, key=ENTITY, first_row=first_row, writer=writer)

    def _own_outcomes(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        own = [] if self.previous is None else [self.previous.manifest.partition]
        for batch in batches:
            yield from of_partitions(pa.Table.from_batches([batch]), own).to_batches()

    def spill_previous(self, store: ObjectStore, file: PreviousFile, *, writer: str) -> ReadRows:
        """Divide a file of the previous batch, and return what was read; errors as `file_rows`."""
        read = ReadRows()
        if self.previous is None:
            return read
        rows = file_rows(store, self.previous, file, read)
        # They are joined in the order of the features, so theirs does not matter.
        schema = arrow_schema(self.previous.manifest.schema)
        self.buckets.spill(_PREVIOUS, schema, rows, key=ENTITY, first_row=0, writer=writer)
        return read

    def forget_previous(self) -> None:
        """Drop what was divided of the previous batch, to divide other files of it."""
        self.buckets.drop(_PREVIOUS)

    def chunk(self, bucket: int) -> JoinedChunk:
        """Return a bucket's chunk once all three tables are divided; it may have no rows.

        Raises:
            BucketsError: A column has types that no type holds all values of.
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
        # A key may come any number of times, so what is left is joined before it is held.
        unique = without_duplicates(self.previous, rows)
        found = unique.filter(pc.is_in(unique[ENTITY], value_set=entities))
        scored = ScoredPartition(self.previous.manifest.partition, frame_of_columns(schema, found))
        return JoinedChunk(prepared, scored, features.numbers)
