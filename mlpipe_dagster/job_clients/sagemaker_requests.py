"""The Create requests of SageMaker jobs, made from the model's declaration and the settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlpipe_dagster.installed_platform import PLATFORM
from model_declaration.job_requirements import job_image

if TYPE_CHECKING:
    from mlpipe_dagster.settings import Settings
    from model_declaration.declaration import ModelDeclaration
    from prediction_contract.jobs.job_arguments import AccuracyArguments, FeatureArguments, ScoreArguments

_PROCESSING_CODE = "/opt/ml/processing/input/code"


def processing_request(
    settings: Settings,
    declaration: ModelDeclaration,
    script: str,
    arguments: FeatureArguments | ScoreArguments | AccuracyArguments,
    *,
    instances: int = 1,
) -> dict[str, Any]:
    """Return the request of a processing job without its name; the job gets its code as plain files.

    Args:
        settings: The settings, with role, bucket and image repository.
        declaration: The model's declaration, with machine and image.
        script: The script's file name in `sagemaker_scripts`.
        arguments: The script's arguments.
        instances: The number of machines that run the script.

    Raises:
        RequirementsError: The lock file of the model's requirements is missing or out of date.
    """
    compute, image = declaration.processing, job_image(declaration, PLATFORM)
    code = {
        "S3Uri": f"s3://{settings.data_bucket}/{settings.code_prefix}",
        "LocalPath": _PROCESSING_CODE,
        "S3DataType": "S3Prefix",
        "S3InputMode": "File",
    }
    return {
        "RoleArn": settings.sagemaker_role_arn,
        "AppSpecification": {
            "ImageUri": image.uri(settings.sagemaker_image_repository),
            "ContainerEntrypoint": ["python3", f"{_PROCESSING_CODE}/sagemaker_scripts/{script}"],
            "ContainerArguments": arguments.container_arguments(),
        },
        "ProcessingInputs": [{"InputName": "code", "S3Input": code}],
        "ProcessingResources": {
            "ClusterConfig": {
                "InstanceCount": instances,
                "InstanceType": compute.instance_type,
                "VolumeSizeInGB": compute.volume_gb,
            }
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": compute.max_runtime_seconds},
        "Environment": {"AWS_DEFAULT_REGION": settings.deployment.region, **image.job_environment},
        "Tags": settings.deployment.job_tags(arguments.model),
    }
