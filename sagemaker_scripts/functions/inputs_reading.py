"""Reads the document of a model's inputs from S3."""

from __future__ import annotations

from prediction_batches.object_store import ObjectStore
from prediction_contract.jobs.job_arguments import AccuracyArguments, FeatureArguments, ScoreArguments
from prediction_contract.jobs.model_inputs import InvalidInputsError, ModelInputs, document_key
from prediction_contract.jobs.retraining_arguments import RetrainingStepArguments


def read_inputs(
    store: ObjectStore,
    arguments: FeatureArguments | ScoreArguments | RetrainingStepArguments | AccuracyArguments,
) -> ModelInputs:
    """Return the inputs of a job's model.

    Raises:
        InputMissingError: The document does not exist.
        InvalidInputsError: The document was altered, is malformed, or belongs to another model.
    """
    model, key = arguments.model, arguments.inputs_key
    content = store.get(key)
    inputs = ModelInputs.parse(content)
    if inputs.model != model:
        raise InvalidInputsError(
            f"s3://{store.bucket}/{key} holds the inputs of {inputs.model}, but the job is for {model}",
            remedy="Pass the inputs_key of this model",
        )
    if key != document_key(model, content):
        # The document names the modules that a job imports and calls, so it must be unaltered.
        raise InvalidInputsError(
            f"s3://{store.bucket}/{key} was altered: its content does not match the digest in its name",
            remedy="Start the step again in Dagster, or run `mlpipe upload-code`: both write it again",
        )
    return inputs
