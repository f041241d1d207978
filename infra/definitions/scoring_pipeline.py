"""The pipeline of a model that SageMaker scores: two processing jobs, as Dagster would start them.

The schema of definitions:

    https://aws-sagemaker-mlops.github.io/sagemaker-model-building-pipeline-definition-JSON-schema/

Unlike in Dagster, the schedule's tick determines the partition, and the execution determines the batch id. A
repeated step is therefore another attempt at the same batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from infra.definitions.job_requests import RETRY, JobSetting, processing_request
from infra.packaging import PLATFORM
from model_declaration.inputs_document import inputs_document
from model_declaration.job_requirements import job_image
from prediction_contract.jobs.code_digest import code_version
from prediction_contract.jobs.job_arguments import FeatureArguments, PartitionArguments, ScoreArguments

if TYPE_CHECKING:
    from model_declaration.declaration import ModelDeclaration
    from model_declaration.lifecycle import Compute
    from prediction_contract.naming.resource_names import Deployment

FEATURES_STEP, SCORE_STEP = "PrepareFeatures", "ScoreBatch"
SCHEDULED_AT = "ScheduledAt"
# EventBridge Scheduler replaces this with the tick's time, which is the same for all of its attempts.
# https://docs.aws.amazon.com/scheduler/latest/UserGuide/managing-schedule-context-attributes.html
TICK = "<aws.scheduler.scheduled-time>"
# Stand in for values that only an execution has, until references replace them.
_ANY_MOMENT, _ANY_RUN = "2000-01-01T00:00:00Z", "execution"
_FILLED_IN = {
    "--scheduled_at": {"Get": f"Parameters.{SCHEDULED_AT}"},
    "--run_id": {"Get": "Execution.PipelineExecutionId"},
}


def pipeline_definition(
    deployment: Deployment, model: ModelDeclaration, *, code_digest: str
) -> dict[str, Any]:
    """Return the definition; an execution receives the time of a tick as its parameter.

    Args:
        deployment: The names and ARNs of the stage in its region.
        model: The declaration of a model that SageMaker scores.
        code_digest: SHA-256 of the code that jobs run.

    Raises:
        RequirementsError: The model's family of requirements is not locked, or its lock file is outdated.
    """
    tick: dict[str, Any] = {
        "model": model.name,
        "scheduled_at": _ANY_MOMENT,
        "schedule": str(model.partition_schedule),
        "bucket": deployment.data_bucket,
        "run_id": _ANY_RUN,
        "code_version": code_version(code_digest),
        "inputs_key": inputs_document(model)[0],
    }
    key, _ = model.schema_document
    tolerance = model.quality.tolerance
    features = FeatureArguments(**tick)
    score = ScoreArguments(
        **tick,
        lookback=model.lookback,
        chunk_rows=model.scoring.chunk_rows,
        schema_key=key,
        registry_table=deployment.registry_table,
        quarantine_rows=tolerance.rows,
        quarantine_rate=tolerance.rate,
    )

    setting = job_setting(deployment, model, model.processing, code_digest)

    def step(
        name: str, script: str, arguments: PartitionArguments, *after: str, instances: int = 1
    ) -> dict[str, Any]:
        words = arguments.container_arguments()
        filled = [_FILLED_IN.get(before, word) for before, word in zip(["", *words], words, strict=False)]
        request = processing_request(setting, script, filled, instances=instances)
        found = {"Name": name, "Type": "Processing", "Arguments": request, "RetryPolicies": [RETRY]}
        return {**found, "DependsOn": list(after)} if after else found

    return {
        "Version": "2020-12-01",
        "Metadata": {},
        # Without a default, so that nobody scores an unintended partition.
        "Parameters": [{"Name": SCHEDULED_AT, "Type": "String"}],
        "Steps": [
            step(FEATURES_STEP, "prepare_features.py", features),
            step(
                SCORE_STEP,
                "score_batch.py",
                score,
                FEATURES_STEP,
                instances=model.processing.instances,
            ),
        ],
    }


def start_request(pipeline: str) -> dict[str, Any]:
    """Return the request that a schedule sends; a tick that is delivered twice starts one execution."""
    return {
        "PipelineName": pipeline,
        # At least 32 characters. Not the invocation's id, which may differ at each attempt.
        "ClientRequestToken": f"scheduled-scoring-{pipeline}-{TICK}",
        "PipelineExecutionDescription": f"Scheduled at {TICK}",
        "PipelineParameters": [{"Name": SCHEDULED_AT, "Value": TICK}],
    }


def job_setting(
    deployment: Deployment, model: ModelDeclaration, compute: Compute, code_digest: str
) -> JobSetting:
    """Return the setting of a model's jobs.

    Args:
        deployment: The names and ARNs of the stage in its region.
        model: The model's declaration.
        compute: The declared machine.
        code_digest: SHA-256 of the code that jobs run.

    Raises:
        RequirementsError: The model's family of requirements is not locked, or its lock file is outdated.
    """
    image = job_image(model, PLATFORM)
    prefix = deployment.code_tree_prefix("sagemaker_scripts", code_digest)
    return JobSetting(
        role_arn=deployment.role_arn(deployment.sagemaker_role),
        image=image.uri(deployment.job_image_address),
        code=f"s3://{deployment.data_bucket}/{prefix}",
        instance_type=compute.instance_type,
        volume_gb=compute.volume_gb,
        max_runtime_seconds=compute.max_runtime_seconds,
        environment={"AWS_DEFAULT_REGION": deployment.region, **image.job_environment},
        tags=deployment.job_tags(model.name),
    )
