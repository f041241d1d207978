"""The pipeline of a model that SageMaker scores: two processing jobs, as Dagster would start them.

    https://aws-sagemaker-mlops.github.io/sagemaker-model-building-pipeline-definition-JSON-schema/

What differs is whence partition and batch come: from the moment that the schedule started the execution at,
and from the execution itself, so that a step that is repeated is one more attempt at the same batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from infra.packaging import PLATFORM
from model_declaration.inputs_document import inputs_document
from model_declaration.job_requirements import job_image
from prediction_contract.jobs.code_digest import code_version
from prediction_contract.jobs.job_arguments import FeatureArguments, PartitionArguments, ScoreArguments

if TYPE_CHECKING:
    from model_declaration.declaration import ModelDeclaration
    from model_declaration.lifecycle import Compute
    from prediction_contract.jobs.job_image import JobImage
    from prediction_contract.naming.resource_names import Deployment

FEATURES_STEP, SCORE_STEP = "PrepareFeatures", "ScoreBatch"
SCHEDULED_AT = "ScheduledAt"
# What EventBridge Scheduler puts there: the moment of the tick, the same however often it tries.
# https://docs.aws.amazon.com/scheduler/latest/UserGuide/managing-schedule-context-attributes.html
_TICK = "<aws.scheduler.scheduled-time>"
_CODE = "/opt/ml/processing/input/code"
# Stand in for what only an execution knows, until they are taken out again.
_ANY_MOMENT, _ANY_RUN = "2000-01-01T00:00:00Z", "execution"
_FILLED_IN = {
    "--scheduled_at": {"Get": f"Parameters.{SCHEDULED_AT}"},
    "--run_id": {"Get": "Execution.PipelineExecutionId"},
}
# Of what a new job may not meet again; throttled and failed calls SageMaker repeats by itself.
# https://docs.aws.amazon.com/sagemaker/latest/dg/pipelines-retry-policy.html
_RETRY = {
    "ExceptionType": ["SageMaker.JOB_INTERNAL_ERROR", "SageMaker.CAPACITY_ERROR", "SageMaker.RESOURCE_LIMIT"],
    "IntervalSeconds": 60,
    "BackoffRate": 2.0,
    "MaxAttempts": 5,
}


def pipeline_definition(
    deployment: Deployment, model: ModelDeclaration, *, code_digest: str
) -> dict[str, Any]:
    """Return the definition; an execution of it is told the moment of a tick.

    Args:
        deployment: Where.
        model: Of one that SageMaker scores.
        code_digest: SHA-256 of the code that jobs run.

    Raises:
        RequirementsError: The model's family of requirements is not locked, or no longer as it is declared.
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

    image = job_image(model, PLATFORM)

    def step(
        name: str, script: str, arguments: PartitionArguments, *after: str, instances: int = 1
    ) -> dict[str, Any]:
        code = f"{deployment.data_bucket}/{deployment.code_tree_prefix('sagemaker_scripts', code_digest)}"
        request = _request(
            deployment,
            model.processing,
            arguments,
            script=script,
            code=code,
            image=image,
            instances=instances,
        )
        found = {"Name": name, "Type": "Processing", "Arguments": request, "RetryPolicies": [_RETRY]}
        return {**found, "DependsOn": list(after)} if after else found

    return {
        "Version": "2020-12-01",
        "Metadata": {},
        # Without a default: nobody scores a partition that was not meant.
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
    """Return what a schedule sends to SageMaker; a tick that is delivered again starts nothing again."""
    return {
        "PipelineName": pipeline,
        # Of at least 32 characters. Not the invocation's id, which may be another at each attempt.
        "ClientRequestToken": f"scheduled-scoring-{pipeline}-{_TICK}",
        "PipelineExecutionDescription": f"Scheduled at {_TICK}",
        "PipelineParameters": [{"Name": SCHEDULED_AT, "Value": _TICK}],
    }


def _request(
    deployment: Deployment,
    compute: Compute,
    arguments: PartitionArguments,
    *,
    script: str,
    code: str,
    image: JobImage,
    instances: int,
) -> dict[str, Any]:
    """Return a processing job's request, as mlpipe_dagster/job_clients/sagemaker_requests.py makes it."""
    tree = {
        "S3Uri": f"s3://{code}",
        "LocalPath": _CODE,
        "S3DataType": "S3Prefix",
        "S3InputMode": "File",
    }
    words = arguments.container_arguments()
    filled = [_FILLED_IN.get(before, word) for before, word in zip(["", *words], words, strict=False)]
    return {
        "RoleArn": deployment.role_arn(deployment.sagemaker_role),
        "AppSpecification": {
            "ImageUri": image.uri(deployment.job_image_address),
            "ContainerEntrypoint": ["python3", f"{_CODE}/sagemaker_scripts/{script}"],
            "ContainerArguments": filled,
        },
        "ProcessingInputs": [{"InputName": "code", "S3Input": tree}],
        "ProcessingResources": {
            "ClusterConfig": {
                "InstanceCount": instances,
                "InstanceType": compute.instance_type,
                "VolumeSizeInGB": compute.volume_gb,
            }
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": compute.max_runtime_seconds},
        "Environment": {"AWS_DEFAULT_REGION": deployment.region, **image.job_environment},
        "Tags": deployment.job_tags(arguments.model),
    }
