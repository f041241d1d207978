"""The training job: learns from prepared features of past partitions, and is evaluated on later ones.

It runs in SageMaker's script mode; what it leaves in `/opt/ml/model` becomes `model.tar.gz`.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # SageMaker starts this file by its path; the packages lie beside its folder.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import pandas as pd
import sklearn

from prediction_contract.errors import JobArgumentsError
from prediction_contract.job_arguments import TrainArguments
from sagemaker_scripts.container import Container, run_script
from sagemaker_scripts.evaluation import backtest, evaluate, known_outcomes
from sagemaker_scripts.feature_store import (
    FeaturesError,
    FeatureSet,
    feature_set,
    has_features,
    partitions_between,
    with_outcomes,
)
from sagemaker_scripts.model_artifact import EVALUATION_NAME, METRICS_NAME, save_model, training_prefix
from sagemaker_scripts.model_functions import Artifact, ModelFunctions, PreparedFeatures, model_functions
from sagemaker_scripts.object_store import ObjectStore

_LOG = logging.getLogger("train_model")


@dataclass(frozen=True)
class Days:
    """Prepared features of consecutive partitions, and of the one after them if it is prepared.

    Attributes:
        prepared: By partition, in order.
        sets: Where they were read, in order.
        after: What is known when the partition after the last begins; None if nobody prepared it.
    """

    prepared: dict[str, PreparedFeatures]
    sets: list[FeatureSet]
    after: pd.DataFrame | None

    @classmethod
    def read(cls, store: ObjectStore, model: str, first: str, last: str) -> Days:
        """Read them.

        Raises:
            FeaturesError: A partition is not prepared.
        """
        partitions = partitions_between(first, last)
        sets = [feature_set(store, model, partition) for partition in partitions]
        following = partitions[-1].earlier(-1)
        after = None
        if has_features(store, model, following):
            sets_after = feature_set(store, model, following)
            after = sets_after.read_outcomes(store)
        return cls({each.partition: each.read(store) for each in sets}, sets, after)

    @property
    def features(self) -> pd.DataFrame:
        """The features of all partitions."""
        return pd.concat([day.features for day in self.prepared.values()], ignore_index=True)

    @property
    def outcomes(self) -> pd.DataFrame:
        """What had become of them by the beginning of the partition after the last."""
        days = list(self.prepared.values())
        if self.after is not None:
            days.append(PreparedFeatures(days[-1].features, self.after))
        return known_outcomes(days)


def train(arguments: TrainArguments, store: ObjectStore, model_folder: Path) -> dict[str, Any]:
    """Train and save a model, evaluate it if asked, and return its metrics and evaluation.

    Raises:
        ContractError: Features are missing, or their outcomes are.
    """
    functions = model_functions(arguments.model)
    days = Days.read(store, arguments.model, arguments.first_partition, arguments.last_partition)
    examples = with_outcomes(days.features, days.outcomes)
    if examples.empty:
        raise FeaturesError(
            "No outcome of the partitions to learn from is known",
            remedy="Learn from more partitions, or prepare the one after the last",
            model=arguments.model,
        )
    artifact = functions.train(examples)
    metrics = {
        "model": str(arguments.model),
        "first_partition": str(arguments.first_partition),
        "last_partition": str(arguments.last_partition),
        "rows": len(examples),
        "code_version": arguments.code_version,
        "scikit_learn": sklearn.__version__,
        "features": [each.features.sha256 for each in days.sets],
    }
    evaluation = _evaluation(arguments, store, functions, artifact, examples)
    for name, document in ((METRICS_NAME, metrics), (EVALUATION_NAME, evaluation)):
        if document is not None:
            (model_folder / name).write_text(json.dumps(document, indent=1))
    version = save_model(model_folder, arguments.model, artifact, metrics)
    return {"metrics": metrics | {"model_version": version}, "evaluation": evaluation}


def _evaluation(
    arguments: TrainArguments,
    store: ObjectStore,
    functions: ModelFunctions,
    artifact: Artifact,
    examples: pd.DataFrame,
) -> dict[str, Any] | None:
    first, last = arguments.first_evaluated, arguments.last_evaluated
    if first is None and last is None:
        return None
    if first is None or last is None or first <= arguments.last_partition:
        raise JobArgumentsError(
            f"The model cannot be evaluated on {first} to {last}, learning up to {arguments.last_partition}",
            remedy="Pass both first_evaluated and last_evaluated, later than last_partition, or neither",
            model=arguments.model,
        )
    days = Days.read(store, arguments.model, first, last)
    predictions = backtest(functions, artifact, days.prepared)
    return {
        "model": str(arguments.model),
        "trained_on": [str(arguments.first_partition), str(arguments.last_partition)],
        "evaluated_on": [str(first), str(last)],
        "days": len(days.prepared),
        "metrics": evaluate(functions.metrics, predictions, days.outcomes, examples),
    }


def main(argv: Sequence[str], container: Container) -> dict[str, Any]:
    """Train the model that the command line asks for; return where it will lie and how good it is."""
    arguments = TrainArguments.parse(argv)
    store = ObjectStore.of_job(arguments.bucket)
    folder = container.root / "model"
    folder.mkdir(parents=True, exist_ok=True)
    results = train(arguments, store, folder)
    for metric in (results["evaluation"] or {}).get("metrics", ()):
        # The form that MetricDefinitions of the training job reads.
        _LOG.info("%s=%s;", metric["kind"], metric["value"])
    job_name = os.environ.get("TRAINING_JOB_NAME")
    if job_name:
        # Beside the archive, so that nobody unpacks it to read them; the metrics last say it is whole.
        prefix = training_prefix(arguments.model, job_name)
        for name, document in (
            (EVALUATION_NAME, results["evaluation"]),
            (METRICS_NAME, results["metrics"]),
        ):
            if document is not None:
                store.put(f"{prefix}{name}", json.dumps(document, indent=1).encode())
    return results


if __name__ == "__main__":
    sys.exit(run_script(main, failure_file="failure"))
