"""The pipeline that retrains a model: one reviewed definition, filled with each model's values.

`python -m infra.retraining_pipeline` writes the definition with SageMaker's SDK; nothing else needs the SDK.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra.definitions.scoring_pipeline import TICK, job_setting
from model_declaration.inputs_document import inputs_document
from prediction_contract.errors import ContractError
from prediction_contract.jobs.code_digest import code_version
from prediction_contract.jobs.retraining_arguments import PlanRetrainingArguments
from prediction_contract.naming.s3_layout import candidates_prefix, retraining_prefix

if TYPE_CHECKING:
    from collections.abc import Mapping

    from model_declaration.declaration import ModelDeclaration
    from prediction_contract.naming.resource_names import Deployment

DEFINITION = Path(__file__).with_name("retraining_definition.json")
# Stands in for values that only an execution has.
_ANY_RUN = "execution"
_TOKEN = re.compile(r"\$\{([a-z_]+)\}")


class NotRetrainedError(ContractError):
    """The model has no retraining pipeline."""


def pipeline_definition(
    deployment: Deployment, model: ModelDeclaration, *, code_digest: str
) -> dict[str, Any]:
    """Return the definition of a model's pipeline.

    Args:
        deployment: The names and ARNs of the stage in its region.
        model: The declaration of a model with `training`.
        code_digest: SHA-256 of the code that jobs run.

    Raises:
        NotRetrainedError: The model's declaration has no `training`.
        RequirementsError: The model's family of requirements is not locked, or its lock file is outdated.
    """
    return filled(json.loads(DEFINITION.read_bytes()), _values(deployment, model, code_digest))


def start_request(pipeline: str) -> dict[str, Any]:
    """Return the request that a schedule sends; a tick that is delivered twice starts one execution."""
    parameters = {"ScheduledAt": TICK, "Cause": "schedule"}
    return {
        "PipelineName": pipeline,
        # At least 32 characters. Not the invocation's id, which may differ at each attempt.
        "ClientRequestToken": f"scheduled-retraining-{pipeline}-{TICK}",
        "PipelineExecutionDescription": f"Scheduled at {TICK}",
        "PipelineParameters": [{"Name": name, "Value": value} for name, value in parameters.items()],
    }


def filled(document: Any, values: Mapping[str, Any]) -> Any:
    """Return a document with its tokens replaced.

    A string that is exactly one token becomes the value itself, of any type. In a longer string the token is
    replaced by the value as text.

    Raises:
        KeyError: A token has no value.
    """
    if isinstance(document, dict):
        return {name: filled(value, values) for name, value in document.items()}
    if isinstance(document, list):
        return [filled(value, values) for value in document]
    if not isinstance(document, str):
        return document
    if (whole := _TOKEN.fullmatch(document)) is not None:
        return values[whole[1]]
    return _TOKEN.sub(lambda found: str(values[found[1]]), document)


def _values(deployment: Deployment, model: ModelDeclaration, code_digest: str) -> dict[str, Any]:
    training = model.retraining
    if training is None:
        raise NotRetrainedError(
            f"{model.name} is not retrained: its declaration has no `training`",
            remedy="Declare `training: {window: 60}`, or register versions by `mlpipe models register`",
            model=model.name,
        )
    arguments = PlanRetrainingArguments(
        model=model.name,
        bucket=deployment.data_bucket,
        execution_id=_ANY_RUN,
        code_version=code_version(code_digest),
        inputs_key=inputs_document(model)[0],
        schema_key=model.schema_document[0],
        window=training.window,
        held_out=training.held_out,
        gap=training.gap,
        registry_table=deployment.registry_table,
        schedule=str(model.partition_schedule),
    )
    words = arguments.container_arguments()
    options = {name.removeprefix("--"): word for name, word in zip(words[::2], words[1::2], strict=True)}
    computes = {"processing": model.processing, "training": model.training_compute}
    setting = job_setting(deployment, model, model.processing, code_digest)
    return {
        **options,
        **{
            f"{name}_{member}": getattr(compute, member)
            for name, compute in computes.items()
            for member in ("instance_type", "volume_gb", "max_runtime_seconds")
        },
        "role_arn": setting.role_arn,
        "image": setting.image,
        "code": setting.code,
        "environment": setting.environment,
        "tags": setting.tags,
        "group": deployment.model_package_group(model.name),
        "candidates": f"s3://{deployment.data_bucket}/{candidates_prefix(model.name)}",
        "retraining_prefix": retraining_prefix(model.name, _ANY_RUN).removesuffix(f"{_ANY_RUN}/"),
    }
