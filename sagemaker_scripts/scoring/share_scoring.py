"""Scores one share: reads its features in chunks, calls `predict` on each, and writes the rows."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Protocol, Self

import numpy as np
import pyarrow as pa

from prediction_batches.delivery.receipts import Receipt
from prediction_batches.errors import PredictionsError
from prediction_batches.object_store import ObjectStore
from prediction_batches.rows.column_encoder import ColumnEncoder
from prediction_batches.rows.encoded_rows import EncodedRows
from prediction_batches.rows.given_rows import given_rows
from prediction_contract.cleaning.cleaning_rules import Cleaning
from prediction_contract.cleaning.row_cleaning import row_parser
from prediction_contract.jobs.job_arguments import ScoreArguments
from prediction_contract.rows.schema import PredictionSchema
from sagemaker_scripts.batches.batch_attempt import BatchAttempt
from sagemaker_scripts.batches.key_buckets import KeyBuckets
from sagemaker_scripts.batches.key_comparison import check_keys
from sagemaker_scripts.batches.previous_batch import PreviousBatch
from sagemaker_scripts.batches.previous_rows import ReadRows, previous_frame
from sagemaker_scripts.codecs.known_codecs import Codecs
from sagemaker_scripts.features.feature_files import FeatureFile, LocalRows, rebatch
from sagemaker_scripts.functions.entity_rows import ENTITY
from sagemaker_scripts.functions.function_calls import ModelFunctions
from sagemaker_scripts.functions.inputs_reading import read_inputs
from sagemaker_scripts.learning.joined_chunks import JoinedChunks
from sagemaker_scripts.learning.model_artifact import load_model
from sagemaker_scripts.learning.outcomes import PreparedTables, ScoredPartition, predictions_of
from sagemaker_scripts.scoring.division import Piece, PreviousPiece
from sagemaker_scripts.scoring.planning import planned_features, planned_previous
from sagemaker_scripts.scoring.row_verdicts import RefusedRows, judge_rows
from sagemaker_scripts.scoring.scoring_plan import ScoringPlan
from sagemaker_scripts.scoring.scoring_processes import CountRows, RunTask
from sagemaker_scripts.scoring.shares import Share


class ShareWriter(Protocol):
    """Writes the rows of one share; a context manager, which writes no receipt after an error."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def write_encoded(self, rows: EncodedRows) -> None:
        """Add rows."""
        ...

    def close(self) -> Receipt:
        """Write the remaining rows, then the receipt."""
        ...


class ScoredOutput(Protocol):
    """The destination of scored shares; every process receives a copy."""

    @property
    def prefix(self) -> str:
        """The prefix of the receipts of complete shares."""
        ...

    def writer(self, share: str, store: ObjectStore) -> ShareWriter:
        """Return the writer of a share."""
        ...


@dataclass(frozen=True)
class ShareWork:
    """The common part of all shares of one attempt; every process receives a copy.

    Attributes:
        arguments: The job's arguments.
        attempt: The attempt.
        output: The destination of the shares: the batch, or a challenger's predictions.
        schema: The predictions' schema.
        cleaning: The load's cleaning rules.
        plan: The attempt's plan.
        kept: The buckets from which this host makes chunks.
        folder: The folder for copies of files and for buckets on this host.
    """

    arguments: ScoreArguments
    attempt: BatchAttempt
    output: ScoredOutput
    schema: PredictionSchema
    cleaning: Cleaning
    plan: ScoringPlan
    kept: frozenset[int]
    folder: Path

    def joined(self, previous: PreviousBatch | None) -> JoinedChunks:
        """Return the source of chunks from this host's buckets, given the plan's previous batch."""
        return JoinedChunks(KeyBuckets(self.folder / "buckets", self.plan.buckets, self.kept), previous)

    def open(self, count_rows: CountRows) -> RunTask:
        """Return a function that scores a share or divides a piece, as `ShareScorer` does."""
        scorer = ShareScorer(self, ObjectStore.of_job(self.arguments.bucket), count_rows)
        return lambda task: scorer.score(task) if isinstance(task, Share) else scorer.divide(task)


class _Chunk(NamedTuple):
    """The arguments of one call of `predict`.

    Attributes:
        prepared: The features, and the outcomes of their entities.
        previous: The previous rows of these entities.
        numbers: The number of each row among all features, from 0; None if the chunk has all rows.
    """

    prepared: PreparedTables
    previous: ScoredPartition | None
    numbers: np.ndarray | None


@contextmanager
def _named_in_errors(number: int, chunk: _Chunk, share: Share) -> Iterator[None]:
    """Add the chunk to any error, because row numbers in the error are counted within the chunk."""
    try:
        yield
    except Exception as error:
        rows = chunk.prepared.features.num_rows
        error.add_note(
            f"This error occurred in chunk {number} of {share}, which has {rows} rows of features."
        )
        raise


class ShareScorer:
    """Scores shares one after another with the same loaded model.

    Args:
        work: The common part of all shares.
        store: The bucket.
        count_rows: Receives the number of scored rows of features.
    """

    def __init__(self, work: ShareWork, store: ObjectStore, count_rows: CountRows) -> None:
        self._work = work
        self._store = store
        self._count_rows = count_rows
        arguments, plan = work.arguments, work.plan
        self._inputs = read_inputs(store, arguments)
        self._functions = ModelFunctions(self._inputs)
        codecs = Codecs(self._inputs.codecs)
        self._features = planned_features(plan, arguments, work.attempt, store)
        self._artifact = load_model(store, arguments.model, plan.model, codecs).artifact
        self._previous = planned_previous(plan, arguments, store)
        self._encoder = ColumnEncoder(work.schema)
        self._parse_row = row_parser(work.schema, work.cleaning) if work.cleaning else None
        self._joined = work.joined(self._previous)

    def score(self, share: Share) -> Receipt:
        """Score a share and return its receipt.

        Raises:
            ContractError: An input is missing or invalid, `predict` returned missing or additional entities,
                or this share alone has more refused rows than the whole batch may have.
        """
        refused, rows, features = RefusedRows(), 0, 0
        with self._work.output.writer(share.name, self._store) as writer:
            for number, chunk in enumerate(self._chunks(share), start=1):
                with _named_in_errors(number, chunk, share):
                    pieces = judge_rows(self._encoded(chunk), self._work.schema.key, self._parse_row)
                for piece in pieces:
                    refused.add(piece, rows)
                    rows += len(piece)
                features += chunk.prepared.features.num_rows
                # An additional row shares its key with another row, so it is counted as refused.
                self._refuse_too_many(share, refused, more_rows=rows - features)
                # Release each piece after writing, so that memory is free for the next chunk.
                pieces.reverse()
                while pieces:
                    writer.write_encoded(pieces.pop())
                self._count_rows(chunk.prepared.features.num_rows)
            return writer.close()

    def divide(self, piece: Piece | PreviousPiece) -> ReadRows:
        """Divide a piece's rows into buckets, and return the counts of rows read from the previous batch."""
        # The process id is unique among this host's running processes.
        writer = str(os.getpid())
        if isinstance(piece, PreviousPiece):
            read = self._joined.spill_previous(self._store, piece.file, writer=writer)
            self._count_rows(piece.file.rows)
            return read
        is_features = piece.table == "features"
        files = self._features.features if is_features else self._features.outcome_files
        rows = self._local(files[piece.file])
        batches = rows.batches(piece.first_group, piece.groups)
        spill = self._joined.spill_features if is_features else self._joined.spill_outcomes
        spill(rows.schema, batches, first_row=piece.first_row, writer=writer)
        self._count_rows(piece.rows)
        return ReadRows()

    def _local(self, file: FeatureFile) -> LocalRows:
        return file.fetched(self._store, self._work.folder)

    def _chunks(self, share: Share) -> Iterator[_Chunk]:
        plan = self._work.plan
        if self._inputs.whole:
            yield self._whole()
        elif plan.buckets:
            for bucket in share.buckets:
                joined = self._joined.chunk(bucket)
                if joined.prepared.features.num_rows:
                    yield _Chunk(*joined)
        else:
            files = self._features.features
            found = (
                batch
                for span in share.spans
                for batch in self._local(files[span.file]).batches(span.first_group, span.groups)
            )
            first_row = share.first_row
            for batch in rebatch(found, share.rows_of_chunk(plan.chunk_rows)):
                numbers = np.arange(first_row, first_row + batch.num_rows)
                yield _Chunk(PreparedTables(pa.Table.from_batches([batch]), None), None, numbers)
                first_row += batch.num_rows

    def _whole(self) -> _Chunk:
        """Return the whole batch as one chunk."""
        outcomes = self._features.read_outcomes(self._store) if self._inputs.outcomes else None
        prepared = PreparedTables(self._features.read_features(self._store), outcomes)
        previous = self._previous
        if previous is None:
            return _Chunk(prepared, None, None)
        scored = ScoredPartition(previous.manifest.partition, previous_frame(self._store, previous))
        return _Chunk(prepared, scored, None)

    def _encoded(self, chunk: _Chunk) -> list[EncodedRows]:
        """Return the predictions for a chunk, after checking their keys against those of the features."""
        predictions = predictions_of(
            self._functions, self._work.attempt.partition, chunk.prepared, self._artifact, chunk.previous
        )
        schema = self._work.schema
        pieces = list(self._encoder.pieces(given_rows(schema, predictions)))
        keys = pa.chunked_array([piece.columns.column(schema.key) for piece in pieces], pa.string())
        check_keys(chunk.prepared.features[ENTITY], keys, chunk.numbers)
        return pieces

    def _refuse_too_many(self, share: Share, refused: RefusedRows, *, more_rows: int) -> None:
        """Raise an error once it is certain that the batch cannot be delivered.

        Args:
            share: The share.
            refused: The share's refused rows up to now.
            more_rows: The number of rows up to now minus the number of rows of features.
        """
        arguments, plan = self._work.arguments, self._work.plan
        fault = arguments.tolerance.fault(plan.rows + more_rows, refused.count)
        if fault is not None:
            where = "" if len(plan.shares) == 1 else f" in {share} alone"
            raise PredictionsError(
                f"{fault}{where}: {refused}",
                remedy="Correct the model's predict function, or the columns or quality in its defs.yaml",
                model=arguments.model,
                batch_id=self._work.attempt.batch_id,
            )
