"""Measures the accuracy of a batch: joins its rows with the known outcomes, bucket by bucket."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa

from prediction_batches.object_store import ObjectStore
from prediction_contract.errors import ContractError
from prediction_contract.jobs.job_arguments import AccuracyArguments
from prediction_contract.jobs.model_inputs import Judging, ModelInputs
from prediction_contract.manifests.measured_accuracy import MeasuredAccuracy, MeasuredMetric
from prediction_contract.naming.batch import Partition
from sagemaker_scripts.accuracy.metric_tallies import MetricTally, SliceTallies, measured_columns
from sagemaker_scripts.batches.key_buckets import KeyBuckets, bucket_count
from sagemaker_scripts.batches.previous_batch import PreviousBatch
from sagemaker_scripts.batches.previous_rows import (
    PreviousFile,
    ReadRows,
    arrow_schema,
    file_rows,
    is_whole,
    previous_files,
    report_left_out,
    without_duplicates,
)
from sagemaker_scripts.batches.schema_frame import frame_of_columns
from sagemaker_scripts.features.feature_store import FeatureSet, newest_features
from sagemaker_scripts.functions.entity_rows import ENTITY
from sagemaker_scripts.learning.outcomes import (
    ScoredPartition,
    newest_outcomes,
    of_partitions,
    with_known_outcomes,
)

_LOG = logging.getLogger(__name__)
# The number of later partitions whose outcomes are read. Later outcomes need another measurement.
LATER_PARTITIONS = 7
_CHUNK_ROWS = 100_000
_BATCH, _OUTCOMES = "batch", "outcomes"


class MeasuringError(ContractError):
    """The accuracy of a batch cannot be measured."""


def measured_accuracy(
    arguments: AccuracyArguments, store: ObjectStore, inputs: ModelInputs, batch: PreviousBatch
) -> MeasuredAccuracy:
    """Return the accuracy of a batch from the outcomes that are known now.

    Rows without a known outcome are counted but not measured.

    Args:
        arguments: The job's arguments.
        store: The data bucket.
        inputs: The model's inputs.
        batch: The batch, with the cleaning rules of its load.

    Raises:
        ContractError: The model has no metrics or outcomes, no partition after the batch's is prepared, a
            file is missing or altered, or a metric is undefined for the values.
    """
    manifest = batch.manifest
    if not (inputs.metrics and inputs.outcomes):
        raise MeasuringError(
            "The model declares no metrics, or has no outcomes function",
            remedy="Declare metrics in its defs.yaml, and write outcomes.py beside it",
            model=manifest.model,
        )
    later = _later_features(store, manifest.model, manifest.partition)
    tallies = [MetricTally(metric) for metric in inputs.metrics]
    slices = SliceTallies(inputs.metrics[0], (inputs.judging or Judging()).slices)
    rows = known_rows = 0
    with tempfile.TemporaryDirectory(prefix="accuracy-") as folder:
        joined = _JoinedBatch(store, batch, later, Path(folder))
        for own, known in joined.chunks():
            rows, known_rows = rows + own, known_rows + len(known)
            if known.empty:
                continue
            _require_columns(inputs, known, manifest.model)
            for tally in tallies:
                _, actual, predicted = measured_columns(tally.metric, known)
                tally.add(actual, predicted)
            slices.add(known)
    _LOG.info("%d of %d rows of %s have an outcome", known_rows, rows, manifest.batch_id)
    package = manifest.model_package
    return MeasuredAccuracy(
        model=manifest.model,
        partition=manifest.partition,
        batch_id=manifest.batch_id,
        model_version=manifest.model_version,
        version_number=None if package is None else package.version,
        known_at=later[-1].partition,
        rows=rows,
        known_rows=known_rows,
        metrics=tuple(
            MeasuredMetric(
                name=tally.metric.label,
                better="lower" if tally.metric.is_lower_better else "higher",
                rows=tally.rows,
                value=tally.value(),
            )
            for tally in tallies
        ),
        slices=tuple(slices.slices()),
        slices_left_out=tuple(slices.left_out),
        code_version=arguments.code_version,
    )


def _later_features(store: ObjectStore, model: str, partition: str) -> list[FeatureSet]:
    """Return the features of later partitions, in order; they hold this partition's outcomes."""
    named = [Partition(partition).later(steps) for steps in range(1, LATER_PARTITIONS + 1)]
    features = (newest_features(store, model, each) for each in named)
    found = [each for each in features if each is not None and each.outcomes is not None]
    if not found:
        raise MeasuringError(
            f"No outcomes of {partition} are known: none of the next {LATER_PARTITIONS} partitions is "
            "prepared",
            remedy=f"Prepare the features of {named[0]}",
            model=model,
        )
    return found


def _require_columns(inputs: ModelInputs, known: pd.DataFrame, model: str) -> None:
    """Refuse metrics and slices of columns that the batch and its outcomes do not have."""
    named = [name for metric in inputs.metrics for name in (metric.predicted, metric.actual)]
    named += (inputs.judging or Judging()).slices
    missing = sorted(set(named) - set(known.columns))
    if missing:
        raise MeasuringError(
            f"Neither the batch nor its outcomes have column {', '.join(missing)}, which a metric or slice "
            "names",
            remedy="Correct the model's defs.yaml, or measure a batch that has the column",
            model=model,
        )


class _JoinedBatch:
    """Joins a batch with its outcomes, both divided on disk by their keys."""

    def __init__(
        self, store: ObjectStore, batch: PreviousBatch, later: list[FeatureSet], folder: Path
    ) -> None:
        self._store = store
        self._batch = batch
        self._folder = folder
        self._schema = arrow_schema(batch.manifest.schema)
        count = bucket_count(batch.manifest.row_count, _CHUNK_ROWS)
        self._buckets = KeyBuckets(folder / "buckets", count, frozenset(range(count)))
        self._spill_batch()
        self._outcomes = [self._spill_outcomes(number, each) for number, each in enumerate(later)]

    def chunks(self) -> Iterator[tuple[int, pd.DataFrame]]:
        """Yield for each bucket its number of rows of the batch, and the rows whose outcome is known."""
        schema, partition = self._batch.manifest.schema, self._batch.manifest.partition
        for bucket in range(self._buckets.count):
            found = self._buckets.read(_BATCH, bucket)
            rows = found.rows if found else self._schema.empty_table()
            unique = without_duplicates(self._batch, rows)
            spilled = [each for name in self._outcomes if (each := self._buckets.read(name, bucket))]
            outcomes = newest_outcomes(each.rows for each in spilled)
            scored = ScoredPartition(partition, frame_of_columns(schema, unique))
            yield unique.num_rows, with_known_outcomes(scored, outcomes)

    def _spill_batch(self) -> None:
        files: list[PreviousFile] = list(previous_files(self._batch))
        read = self._spilled(files)
        if not is_whole(self._batch, files, read):
            self._buckets.drop(_BATCH)
            read = self._spilled(list(self._batch.manifest.json_parts))
        report_left_out(self._batch, read.left_out)

    def _spilled(self, files: list[PreviousFile]) -> ReadRows:
        read = ReadRows()
        for number, file in enumerate(files):
            rows = file_rows(self._store, self._batch, file, read)
            self._buckets.spill(_BATCH, self._schema, rows, key=ENTITY, first_row=number, writer=str(number))
        return read

    def _spill_outcomes(self, number: int, features: FeatureSet) -> str:
        """Divide the batch's outcomes in one later partition, and return the table's name."""
        name, first_row = f"{_OUTCOMES}-{number}", 0
        for place, file in enumerate(features.outcome_files):
            local = file.fetched(self._store, self._folder)
            self._buckets.spill(
                name,
                local.schema,
                self._own(local.batches()),
                key=ENTITY,
                first_row=first_row,
                writer=str(place),
            )
            first_row += file.rows
            file.drop_copy(self._folder)
        return name

    def _own(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield from of_partitions(
                pa.Table.from_batches([batch]), [self._batch.manifest.partition]
            ).to_batches()
