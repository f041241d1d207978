"""The training job: learns from prepared features of past partitions, and is evaluated on later ones.

What it leaves in `/opt/ml/model` becomes `model.tar.gz`; metrics and evaluation lie beside that too.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # SageMaker starts this file by its path; the packages lie beside its folder.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import pandas as pd

from prediction_contract.errors import JobArgumentsError
from prediction_contract.jobs.job_arguments import TrainArguments
from prediction_contract.jobs.metrics import Metrics
from prediction_contract.naming.batch import Partition
from sagemaker_scripts.batches.schema_frame import read_columns
from sagemaker_scripts.codecs.known_codecs import Codecs
from sagemaker_scripts.container import Container, run_script
from sagemaker_scripts.dagster_report import report_to_dagster
from sagemaker_scripts.features.feature_store import (
    FeaturesError,
    FeatureSet,
    feature_set,
    has_features,
    partitions_between,
)
from sagemaker_scripts.learning.evaluation import backtest, evaluate
from sagemaker_scripts.learning.model_artifact import (
    EVALUATION_NAME,
    METRICS_NAME,
    save_model,
    training_prefix,
)
from sagemaker_scripts.learning.outcomes import newest_outcomes, with_outcomes
from sagemaker_scripts.model_functions import Artifact, ModelFunctions, PreparedFeatures, model_functions
from sagemaker_scripts.object_store import ObjectStore

_LOG = logging.getLogger("train_model")
# Partitions after the last one that may tell its outcomes. When training begins, only the next one is known;
# an evaluation can wait until the last outcomes have come.
_LATER_THAN_TRAINING = 1
_LATER_THAN_EVALUATION = 2


@dataclass(frozen=True)
class PreparedPartitions:
    """Prepared features of consecutive partitions, read one at a time, and the outcomes of their entities.

    Attributes:
        store: The bucket.
        sets: The features of each partition, in order.
        outcomes: As far as they are known when `known_at` begins.
        known_at: The last partition whose features hold outcomes of them.
        sources: SHA-256 of every file that was read.
    """

    store: ObjectStore
    sets: list[FeatureSet]
    outcomes: pd.DataFrame
    known_at: str
    sources: list[str]

    @classmethod
    def find(cls, store: ObjectStore, model: str, first: str, last: str, *, later: int) -> PreparedPartitions:
        """Find the features, and read the outcomes.

        Args:
            store: The bucket.
            model: The model's name.
            first: The first partition.
            last: The last one.
            later: How many partitions after the last one are asked for outcomes, where they are prepared.

        Raises:
            FeaturesError: A partition from the first to the last is not prepared.
        """
        sets = [feature_set(store, model, partition) for partition in partitions_between(first, last)]
        later_partitions = [Partition(last).earlier(-steps) for steps in range(1, later + 1)]
        later_sets = [
            feature_set(store, model, each) for each in later_partitions if has_features(store, model, each)
        ]
        asked = [each.partition for each in sets]
        tables = (each.read_outcomes(store) for each in (*sets, *later_sets))
        sources = [source.sha256 for each in sets for source in each.inputs]
        return cls(
            store,
            sets,
            newest_outcomes(table.loc[table["partition"].isin(asked)] for table in tables),
            known_at=[*sets, *later_sets][-1].partition,
            sources=sources + [each.outcomes.sha256 for each in later_sets],
        )

    def examples(self) -> pd.DataFrame:
        """Return the features whose outcome is known, joined with it."""
        joined = (with_outcomes(each.read_features(self.store), self.outcomes) for each in self.sets)
        return pd.concat(joined, ignore_index=True)

    def partitions(self) -> Iterator[tuple[str, PreparedFeatures]]:
        """Yield each partition and its features, in order."""
        for each in self.sets:
            yield each.partition, each.read(self.store)


def train(arguments: TrainArguments, store: ObjectStore, model_folder: Path) -> dict[str, Any]:
    """Train and save a model, evaluate it if asked, and return its metrics and evaluation.

    Raises:
        ContractError: Features are missing, or their outcomes are.
    """
    _refuse_half_evaluation(arguments)
    functions = model_functions(arguments.functions)
    first, last = arguments.first_partition, arguments.last_partition
    prepared = PreparedPartitions.find(store, arguments.model, first, last, later=_LATER_THAN_TRAINING)
    examples = prepared.examples()
    if examples.empty:
        raise FeaturesError(
            "No outcome of the partitions to learn from is known",
            remedy="Learn from more partitions, or prepare the one after the last",
            model=arguments.model,
        )
    _LOG.info("learns from %d rows of %s to %s", len(examples), first, last)
    artifact = functions.train(examples)
    facts = {
        "model": str(arguments.model),
        "first_partition": str(first),
        "last_partition": str(last),
        "outcomes_known_at": prepared.known_at,
        "rows": len(examples),
        "code_version": arguments.code_version,
        "inputs": prepared.sources,
    }
    evaluation = _evaluation(arguments, store, functions, artifact, examples)
    saved = save_model(model_folder, arguments.model, artifact, facts, Codecs())
    metrics = {**facts, "libraries": saved.libraries, "model_version": saved.version}
    return {"metrics": metrics, "evaluation": evaluation}


def _refuse_half_evaluation(arguments: TrainArguments) -> None:
    first, last, metrics = arguments.first_evaluated, arguments.last_evaluated, arguments.metrics
    if first is last is metrics is None:
        return
    is_whole = None not in {first, last, metrics, arguments.schema_key}
    if not is_whole or str(first) <= arguments.last_partition:
        raise JobArgumentsError(
            f"The model cannot be evaluated on {first} to {last} by {metrics or 'no metrics'}, "
            f"learning up to {arguments.last_partition}, with the schema {arguments.schema_key}",
            remedy="Pass first_evaluated, later than last_partition, last_evaluated, metrics and schema_key, "
            "or none",
            model=arguments.model,
        )


def _evaluation(
    arguments: TrainArguments,
    store: ObjectStore,
    functions: ModelFunctions,
    artifact: Artifact,
    examples: pd.DataFrame,
) -> dict[str, Any] | None:
    first, last, metrics = arguments.first_evaluated, arguments.last_evaluated, arguments.metrics
    if first is None or last is None or metrics is None or arguments.schema_key is None:
        return None
    _LOG.info("is evaluated on %s to %s", first, last)
    prepared = PreparedPartitions.find(store, arguments.model, first, last, later=_LATER_THAN_EVALUATION)
    schema, cleaning = read_columns(store, arguments.schema_key)
    scored, left_out = backtest(functions, artifact, prepared.partitions(), schema, cleaning)
    return {
        "model": str(arguments.model),
        "trained_on": [str(arguments.first_partition), str(arguments.last_partition)],
        "evaluated_on": [str(first), str(last)],
        "outcomes_known_at": prepared.known_at,
        "days": len(prepared.sets),
        "predictions": sum(len(each.predictions) for each in scored),
        "rows_left_out": dict(left_out),
        "metrics": evaluate(Metrics(metrics).each, scored, prepared.outcomes, examples),
    }


def main(argv: Sequence[str], container: Container) -> dict[str, Any]:
    """Train the model that the command line asks for; return where it will lie and how good it is."""
    arguments = TrainArguments.parse(argv)
    store = ObjectStore.of_job(arguments.bucket)
    folder = container.root / "model"
    folder.mkdir(parents=True, exist_ok=True)
    with report_to_dagster(store, _LOG):
        results = train(arguments, store, folder)
    for metric in (results["evaluation"] or {}).get("metrics", ()):
        # The form that MetricDefinitions of the training job reads.
        _LOG.info("%s:%s=%s;", metric["name"], metric["predicted"], metric["value"])
    job_name = os.environ.get("TRAINING_JOB_NAME")
    # The metrics last: beside an archive they say that its training has ended.
    for name, document in ((EVALUATION_NAME, results["evaluation"]), (METRICS_NAME, results["metrics"])):
        if document is not None:
            content = json.dumps(document, indent=1).encode()
            (folder / name).write_bytes(content)
            if job_name:
                store.put(f"{training_prefix(arguments.model, job_name)}{name}", content)
    return results


if __name__ == "__main__":
    sys.exit(run_script(main, failure_file="failure"))
