"""What a job is told of its model: the document of its inputs on S3."""

from __future__ import annotations

from prediction_contract.jobs.job_arguments import FeatureArguments, ScoreArguments, TrainArguments
from prediction_contract.jobs.model_inputs import InvalidInputsError, ModelInputs
from sagemaker_scripts.object_store import ObjectStore


def read_inputs(
    store: ObjectStore, arguments: FeatureArguments | ScoreArguments | TrainArguments
) -> ModelInputs:
    """Return the inputs of a job's model.

    Raises:
        InputMissingError: There is no document.
        InvalidInputsError: It has another form, or is another model's.
    """
    model, key = arguments.model, arguments.inputs_key
    inputs = ModelInputs.parse(store.get(key))
    if inputs.model != model:
        raise InvalidInputsError(
            f"s3://{store.bucket}/{key} is of {inputs.model}, and the job of {model}",
            remedy="Pass the inputs_key of this model",
        )
    return inputs
