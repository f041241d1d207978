"""What a job is told of its model: the document of its inputs on S3."""

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
        InputMissingError: There is no document.
        InvalidInputsError: It was altered, has another form, or is another model's.
    """
    model, key = arguments.model, arguments.inputs_key
    content = store.get(key)
    inputs = ModelInputs.parse(content)
    if inputs.model != model:
        raise InvalidInputsError(
            f"s3://{store.bucket}/{key} is of {inputs.model}, and the job of {model}",
            remedy="Pass the inputs_key of this model",
        )
    if key != document_key(model, content):
        # It names what a job imports and calls.
        raise InvalidInputsError(
            f"s3://{store.bucket}/{key} was altered: its name is made of other content",
            remedy="Start the step again in Dagster, or run `mlpipe upload-code`: both write it anew",
        )
    return inputs
