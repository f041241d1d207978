"""Tries a model in this process: features, training on a few partitions, predictions, metrics."""

from __future__ import annotations

import io
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from prediction_contract.jobs.sample_queries import QUERIES, with_sample_queries
from prediction_contract.jobs.source_keys import SourceKeys
from prediction_contract.naming.batch import Partition
from prediction_contract.naming.partition_kind import kind_of_text
from sagemaker_scripts.batches.schema_frame import entity_frame
from sagemaker_scripts.codecs.known_codecs import Codecs
from sagemaker_scripts.features.preparation import secret_text
from sagemaker_scripts.functions.entity_rows import ENTITY
from sagemaker_scripts.functions.function_calls import ModelFunctions
from sagemaker_scripts.learning.evaluation import evaluate
from sagemaker_scripts.learning.metric_values import EvaluationError
from sagemaker_scripts.learning.model_artifact import (
    TrainedModel,
    declared_model,
    found_model,
    load_model,
    save_model,
)
from sagemaker_scripts.learning.outcomes import ScoredPartition, predictions_of
from sagemaker_scripts.trials.folder_client import FolderClient, FolderStore
from sagemaker_scripts.trials.prepared_trial import (
    PreparedTrial,
    TrialError,
    no_secret,
    prepare,
)
from sagemaker_scripts.trials.stored_rows import StoredRows, stored_rows
from sagemaker_scripts.trials.trial_request import TrialRequest

# A trial should take seconds, so it trains on little data, and its metrics are not an evaluation.
_TRAINED_PARTITIONS = 5
_EVALUATED_PARTITIONS = 2
_TRAINED_ROWS = 20_000
_ARCHIVE = "/model.tar.gz"
# The number of later partitions whose features are read for a partition's outcomes.
_LATER = 2


class ModelTrial:
    """One trial.

    Args:
        request: The request.

    Attributes:
        inputs: The model's inputs, with queries answered by sample data.
    """

    def __init__(self, request: TrialRequest) -> None:
        self._request = request
        self._store = request.store()
        is_folder, self.inputs = request.folder is not None, request.inputs
        if is_folder:
            answers = [entry.key for entry in self._store.listing(QUERIES)]
            self.inputs = with_sample_queries(request.inputs, answers)
        # A folder represents all buckets. Data in another bucket is not listed but found when it is read.
        known = [each for each in self.inputs.sources if each.path and (is_folder or each.bucket is None)]
        keys = [entry.key for source in known for entry in self._store.listing(source.beginning)]
        self._keys = SourceKeys(known, keys, Partition(request.first).kind)
        self._functions = ModelFunctions(self.inputs)
        self._seconds: dict[str, float] = {}

    def run(self) -> dict[str, Any]:
        """Return the results of the trial.

        Raises:
            ContractError: Data is missing or invalid, a function failed, or its result is invalid.
        """
        request, partition = self._request, self.partition()
        trained, evaluated = self._chosen(partition)
        before = [str(Partition(partition).earlier(1))] if request.looks_back else []
        later = [
            str(Partition(each).earlier(-step))
            for each in (*trained, *evaluated)
            for step in range(1, _LATER + 1)
        ]
        with self._timed("features"):
            prepared = prepare(
                self.inputs,
                self._store,
                [*trained, *evaluated, *later, *before, partition],
                needed=partition,
                secret_text=secret_text if request.folder is None else no_secret,
            )
            trained = [each for each in trained if each in prepared.partitions]
        with self._timed("train"):
            examples = prepared.examples(trained, _TRAINED_ROWS) if trained else None
            model, facts = self._model(trained, examples)
        with self._timed("predict"):
            previous = self._previous(prepared, before, model)
            rows = self._predicted(prepared, partition, model, previous)
            metrics = self._metrics(prepared, evaluated, model, examples)
        features = prepared.features(partition)
        return {
            "model": self.inputs.model,
            "partition": partition,
            "features": {
                "rows": features.num_rows,
                "columns": [{"name": field.name, "type": str(field.type)} for field in features.schema],
            },
            **facts,
            "previous_partition": None if previous is None else previous.partition,
            "metrics": metrics,
            "evaluated_on": evaluated if metrics else [],
            **rows.document,
            "without_data": prepared.missing,
            "seconds": self._seconds,
        }

    def partition(self) -> str:
        """Return the partition to try.

        Raises:
            TrialError: The requested partition is not one of the model's; or none was requested, and no
                partition has data from all sources.
        """
        request = self._request
        if request.partition is not None:
            self._require_own(request.partition)
        newest = request.partition or self._keys.newest(first=request.first, end=request.end)
        if newest is not None:
            return newest
        if not self._keys.missing_sources(request.first):
            # No path of a source has a partition.
            return request.first
        raise TrialError(
            "No partition has data of all sources; the first one lacks "
            f"{', '.join(self._keys.missing_sources(request.first))}",
            remedy="Name one by --partition, or add the missing files to the sample data",
            model=self.inputs.model,
        )

    def _require_own(self, partition: str) -> None:
        first, end = self._request.first, self._request.end
        is_own = kind_of_text(partition) == kind_of_text(first) and first <= partition
        if not is_own or (end is not None and partition >= end):
            until = f" and end before {end}" if end is not None else ""
            raise TrialError(
                f"{partition} is not a partition of {self.inputs.model}: `partitions` in its defs.yaml "
                f"begin with {first}{until}",
                remedy="Name another one by --partition, or correct `partitions` in defs.yaml",
                model=self.inputs.model,
            )

    def _chosen(self, partition: str) -> tuple[list[str], list[str]]:
        """Return the partitions for training, and the later ones for evaluation."""
        if not self._request.is_trained_here:
            return [], []
        evaluated_most = _EVALUATED_PARTITIONS if self.inputs.metrics else 0
        most = _TRAINED_PARTITIONS + evaluated_most
        own = Partition(partition)
        before = self._with_data(self._request.first, own.earlier(1), most)
        if not before:
            # Without data of earlier partitions, train on the tried one and those after it.
            return self._with_data(own, own.later(_TRAINED_PARTITIONS - 1), most), []
        evaluated = before[1:][-evaluated_most:] if evaluated_most else []
        return before[: len(before) - len(evaluated)], evaluated

    def _with_data(self, first: str, last: Partition, most: int) -> list[str]:
        """Return the last partitions of a range that have data, in order."""
        found: list[str] = []
        each = last
        while each >= first and len(found) < most:
            if not self._keys.missing_sources(each):
                found.append(str(each))
            each = each.earlier(1)
        return found[::-1]

    def _model(self, trained: list[str], examples: pa.Table | None) -> tuple[TrainedModel, dict[str, Any]]:
        codecs, inputs = Codecs(self.inputs.codecs), self.inputs
        elsewhere = inputs.trained_elsewhere
        if not self._request.is_trained_here:
            pinned = (
                found_model(self._store, inputs.model, self._newest_archive())
                if elsewhere is None
                else declared_model(elsewhere)
            )
            model = load_model(self._store, inputs.model, pinned, codecs)
            return model, {"training": None, "model_version": model.version}
        if examples is None or not examples.num_rows:
            raise TrialError(
                f"No outcomes of {', '.join(trained)} are known",
                remedy="Return outcomes of earlier partitions from the outcomes function, and add later "
                "partitions to the sample data",
                model=inputs.model,
            )
        model = self._read_back(self._functions.train(examples), codecs)
        training = {"partitions": trained, "rows": examples.num_rows}
        return model, {"training": training, "model_version": model.version}

    def _newest_archive(self) -> str:
        """Return the key of a registered model's newest archive, because a trial has no registry."""
        prefix = f"models/{self.inputs.model}/"
        found = [entry for entry in self._store.listing(prefix) if entry.key.endswith(_ARCHIVE)]
        if not found:
            raise TrialError(
                f"{self._store.address(prefix)} holds no {_ARCHIVE[1:]} to try the model's functions with",
                remedy="Copy the archive of one of the model's versions there",
                model=self.inputs.model,
            )
        return max(found, key=lambda entry: (entry.modified, entry.key)).key

    def _read_back(self, artifact: Any, codecs: Codecs) -> TrainedModel:
        """Return the model after writing and reading it with its codecs, like scoring."""
        name = self.inputs.model
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            (root / "model").mkdir()
            save_model(root / "model", name, artifact, {}, codecs)
            packed = io.BytesIO()
            with tarfile.open(fileobj=packed, mode="w:gz") as archive:
                archive.add(root / "model", arcname=".")
            (root / "model.tar.gz").write_bytes(packed.getvalue())
            store = FolderStore(FolderClient(root), "trial")
            return load_model(store, name, found_model(store, name, "model.tar.gz"), codecs)

    def _predicted(
        self, prepared: PreparedTrial, partition: str, model: TrainedModel, previous: ScoredPartition | None
    ) -> StoredRows:
        tables, request = prepared.at(partition), self._request
        predictions = predictions_of(self._functions, partition, tables, model.artifact, previous)
        return stored_rows(
            request.schema,
            request.cleaning,
            predictions,
            tables.features[ENTITY],
            tolerance=request.tolerance,
            sensitive=request.sensitive,
            most=request.rows,
        )

    def _previous(
        self, prepared: PreparedTrial, before: list[str], model: TrainedModel
    ) -> ScoredPartition | None:
        """Return the batch of the partition before, scored without a previous batch."""
        for partition in before:
            if partition in prepared.partitions:
                return self._scored(prepared, partition, model, None)
        return None

    def _scored(
        self, prepared: PreparedTrial, partition: str, model: TrainedModel, previous: ScoredPartition | None
    ) -> ScoredPartition:
        rows = self._predicted(prepared, partition, model, previous)
        request = self._request
        return ScoredPartition(partition, entity_frame(request.schema, request.cleaning, rows.accepted))

    def _metrics(
        self, prepared: PreparedTrial, evaluated: list[str], model: TrainedModel, examples: pa.Table | None
    ) -> list[dict[str, Any]]:
        partitions = [each for each in evaluated if each in prepared.partitions]
        if not partitions or examples is None:
            return []
        scored: list[ScoredPartition] = []
        for partition in partitions:
            scored.append(self._scored(prepared, partition, model, scored[-1] if scored else None))
        try:
            return evaluate(self.inputs.metrics, scored, prepared.known_outcomes(), examples)
        except EvaluationError as error:
            # With so few rows, all outcomes may be equal, which does not mean that the model is bad.
            return [{"name": "none", "why": str(error)}]

    @contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        begun = time.monotonic()
        yield
        self._seconds[step] = round(time.monotonic() - begun, 2)
