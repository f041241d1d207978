"""Trains the candidate of a retraining on the planned features."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from prediction_batches.object_store import ObjectStore
from prediction_contract.jobs.retraining_arguments import RetrainingStepArguments
from sagemaker_scripts.codecs.known_codecs import Codecs
from sagemaker_scripts.features.feature_files import FeaturesError
from sagemaker_scripts.functions.function_calls import ModelFunctions
from sagemaker_scripts.functions.inputs_reading import read_inputs
from sagemaker_scripts.learning.model_artifact import save_model
from sagemaker_scripts.retraining.planned_partitions import partitions_to_learn_from
from sagemaker_scripts.retraining.retraining_planning import found_plan

_LOG = logging.getLogger(__name__)


def train_candidate(
    arguments: RetrainingStepArguments, store: ObjectStore, model_folder: Path
) -> dict[str, Any]:
    """Train and save the candidate of an execution, and return a summary of it.

    Args:
        arguments: The job's arguments.
        store: The data bucket.
        model_folder: The folder that SageMaker packs into the archive.

    Raises:
        ContractError: The plan's features are missing or were prepared again, no outcome is known, a function
            of the model failed, or no codec accepts the trained object.
    """
    plan, inputs = found_plan(arguments, store), read_inputs(store, arguments)
    functions = ModelFunctions(inputs)
    prepared = partitions_to_learn_from(plan, store, has_outcomes=inputs.outcomes)
    examples = prepared.examples()
    if not examples.num_rows:
        raise FeaturesError(
            "No outcomes of the training partitions are known"
            if inputs.outcomes
            else "The training partitions have no rows of features",
            remedy="Train on more partitions, or prepare the partition after the last one",
            model=arguments.model,
        )
    _LOG.info("learns from %d rows of %s to %s", examples.num_rows, plan.first_partition, plan.last_partition)
    facts = {
        "model": plan.model,
        "execution_id": plan.execution_id,
        "first_partition": plan.first_partition,
        "last_partition": plan.last_partition,
        **({"outcomes_known_at": prepared.known_at} if inputs.outcomes else {}),
        "rows": examples.num_rows,
        "code_version": arguments.code_version,
        "inputs": prepared.sources,
    }
    saved = save_model(model_folder, arguments.model, functions.train(examples), facts, Codecs(inputs.codecs))
    return {**facts, "libraries": saved.libraries, "model_version": saved.version}
