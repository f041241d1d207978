"""The training job: learns from prepared features of past partitions, and is evaluated on later ones.

What it leaves in `/opt/ml/model` becomes `model.tar.gz`; metrics and evaluation lie beside that too.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # SageMaker starts this file by its path; the packages lie beside its folder.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import pyarrow as pa

from prediction_batches.object_store import ObjectStore
from prediction_contract.errors import JobArgumentsError
from prediction_contract.jobs.job_arguments import TrainArguments
from prediction_contract.jobs.model_inputs import ModelInputs
from prediction_contract.jobs.retraining_arguments import RetrainingStepArguments
from prediction_contract.naming.s3_layout import candidates_prefix
from sagemaker_scripts.batches.schema_frame import read_columns
from sagemaker_scripts.codecs.known_codecs import Codecs
from sagemaker_scripts.container import Container, run_script
from sagemaker_scripts.dagster_report import report_to_dagster
from sagemaker_scripts.features.feature_store import FeaturesError
from sagemaker_scripts.functions.function_calls import ModelFunctions
from sagemaker_scripts.functions.inputs_reading import read_inputs
from sagemaker_scripts.learning.evaluation import backtest, evaluate
from sagemaker_scripts.learning.model_artifact import (
    EVALUATION_NAME,
    METRICS_NAME,
    save_model,
    training_prefix,
)
from sagemaker_scripts.learning.prepared_partitions import PreparedPartitions
from sagemaker_scripts.retraining.candidate_training import train_candidate

_LOG = logging.getLogger("train_model")
# Partitions after the last one that may tell its outcomes. When training begins, only the next one is known;
# an evaluation can wait until the last outcomes have come.
_LATER_THAN_TRAINING = 1
_LATER_THAN_EVALUATION = 2


def train(arguments: TrainArguments, store: ObjectStore, model_folder: Path) -> dict[str, Any]:
    """Train and save a model, evaluate it if asked, and return its metrics and evaluation.

    Raises:
        ContractError: Features or outcomes are missing, a function of the model's failed, or no codec takes
            what it returned.
    """
    inputs = read_inputs(store, arguments)
    _refuse_half_evaluation(arguments, inputs)
    functions, codecs = ModelFunctions(inputs), Codecs(inputs.codecs)
    first, last = arguments.first_partition, arguments.last_partition
    prepared = PreparedPartitions.find(
        store, arguments.model, first, last, later=_LATER_THAN_TRAINING, has_outcomes=inputs.outcomes
    )
    examples = prepared.examples()
    if not examples.num_rows:
        raise FeaturesError(
            "No outcome of the partitions to learn from is known"
            if inputs.outcomes
            else "The partitions to learn from have no rows of features",
            remedy="Learn from more partitions, or prepare the one after the last",
            model=arguments.model,
        )
    _LOG.info("learns from %d rows of %s to %s", examples.num_rows, first, last)
    trained = functions.train(examples)
    facts = {
        "model": str(arguments.model),
        "first_partition": str(first),
        "last_partition": str(last),
        **({"outcomes_known_at": prepared.known_at} if inputs.outcomes else {}),
        "rows": examples.num_rows,
        "code_version": arguments.code_version,
        "inputs": prepared.sources,
    }
    # What is judged is what will score: the objects as they are read back.
    saved = save_model(model_folder, arguments.model, trained, facts, codecs)
    metrics = {**facts, "libraries": saved.libraries, "model_version": saved.version}
    evaluation = _evaluation(arguments, store, functions, saved.artifact, examples)
    return {"metrics": metrics, "evaluation": evaluation}


def _refuse_half_evaluation(arguments: TrainArguments, inputs: ModelInputs) -> None:
    first, last, metrics = arguments.first_evaluated, arguments.last_evaluated, inputs.metrics
    if first is None and last is None:
        return
    if metrics and not inputs.outcomes:
        raise JobArgumentsError(
            "The model has metrics and no function outcomes, which says what became of its predictions",
            remedy="Write outcomes.py beside the model's defs.yaml, or leave out first_evaluated, "
            "last_evaluated and metrics",
            model=arguments.model,
        )
    is_whole = bool(first and last and metrics and arguments.schema_key)
    if not is_whole or str(first) <= arguments.last_partition:
        raise JobArgumentsError(
            f"The model cannot be evaluated on {first} to {last} by {len(metrics)} metrics, "
            f"learning up to {arguments.last_partition}, with the schema {arguments.schema_key}",
            remedy="Pass first_evaluated, later than last_partition, last_evaluated and schema_key, and "
            "declare metrics, or none of them",
            model=arguments.model,
        )


def _evaluation(
    arguments: TrainArguments,
    store: ObjectStore,
    functions: ModelFunctions,
    artifact: Any,
    examples: pa.Table,
) -> dict[str, Any] | None:
    first, last = arguments.first_evaluated, arguments.last_evaluated
    if first is None or last is None or arguments.schema_key is None:
        return None
    _LOG.info("is evaluated on %s to %s", first, last)
    prepared = PreparedPartitions.find(
        store, arguments.model, first, last, later=_LATER_THAN_EVALUATION, has_outcomes=True
    )
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
        "metrics": evaluate(functions.inputs.metrics, scored, prepared.outcomes, examples),
    }


def main(argv: Sequence[str], container: Container) -> dict[str, Any]:
    """Train the model that the command line asks for; return where it will lie and how good it is."""
    folder = container.root / "model"
    folder.mkdir(parents=True, exist_ok=True)
    if "--execution_id" in argv:
        return _main_of_retraining(RetrainingStepArguments.parse(argv), folder)
    arguments = TrainArguments.parse(argv)
    store = ObjectStore.of_job(arguments.bucket)
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


def _main_of_retraining(arguments: RetrainingStepArguments, folder: Path) -> dict[str, Any]:
    store = ObjectStore.of_job(arguments.bucket)
    metrics = train_candidate(arguments, store, folder)
    content = json.dumps(metrics, indent=1).encode()
    (folder / METRICS_NAME).write_bytes(content)
    if job_name := os.environ.get("TRAINING_JOB_NAME"):
        store.put(f"{candidates_prefix(arguments.model)}{job_name}/{METRICS_NAME}", content)
    return metrics


if __name__ == "__main__":
    sys.exit(run_script(main, failure_file="failure"))
