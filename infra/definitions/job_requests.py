"""Requests that create the jobs of pipeline steps, as plain data.

A value may be a token that is filled in later, or a reference that SageMaker resolves when the step starts.
mlpipe_dagster/job_clients/sagemaker_requests.py builds the requests of jobs that Dagster starts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

_PROCESSING = "/opt/ml/processing"
_PROCESSING_CODE = f"{_PROCESSING}/input/code"
_TRAINING_CODE = "/opt/ml/input/data/code"
# Transient failures, for which a new job may succeed. SageMaker itself retries throttled and failed calls.
# https://docs.aws.amazon.com/sagemaker/latest/dg/pipelines-retry-policy.html
RETRY = {
    "ExceptionType": ["SageMaker.JOB_INTERNAL_ERROR", "SageMaker.CAPACITY_ERROR", "SageMaker.RESOURCE_LIMIT"],
    "IntervalSeconds": 60,
    "BackoffRate": 2.0,
    "MaxAttempts": 5,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSetting:
    """The role, code, machine and environment of a job.

    Attributes:
        role_arn: The job's role.
        image: The image's name.
        code: The S3 address of the code's files.
        instance_type: The type of machine.
        volume_gb: The machine's disk size.
        max_runtime_seconds: The time after which SageMaker stops the job.
        environment: The job's environment variables.
        tags: The job's tags.
    """

    role_arn: Any
    image: Any
    code: Any
    instance_type: Any
    volume_gb: Any
    max_runtime_seconds: Any
    environment: Any
    tags: Any


def processing_request(
    setting: JobSetting,
    script: str,
    arguments: Sequence[Any],
    *,
    instances: Any = 1,
    outputs: Sequence[tuple[str, Any]] = (),
) -> dict[str, Any]:
    """Return a processing job's request without the job's name.

    Args:
        setting: The job's setting.
        script: The file name of the script in `sagemaker_scripts`.
        arguments: The script's arguments.
        instances: How many machines run it.
        outputs: The name and S3 address of each output folder; SageMaker uploads it when the job ends.
    """
    request = {
        "RoleArn": setting.role_arn,
        "AppSpecification": {
            "ImageUri": setting.image,
            "ContainerEntrypoint": ["python3", f"{_PROCESSING_CODE}/sagemaker_scripts/{script}"],
            "ContainerArguments": list(arguments),
        },
        "ProcessingInputs": [
            {
                "InputName": "code",
                "S3Input": {
                    "S3Uri": setting.code,
                    "LocalPath": _PROCESSING_CODE,
                    "S3DataType": "S3Prefix",
                    "S3InputMode": "File",
                },
            }
        ],
        "ProcessingResources": {
            "ClusterConfig": {
                "InstanceCount": instances,
                "InstanceType": setting.instance_type,
                "VolumeSizeInGB": setting.volume_gb,
            }
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": setting.max_runtime_seconds},
        "Environment": setting.environment,
        "Tags": setting.tags,
    }
    if outputs:
        request["ProcessingOutputConfig"] = {
            "Outputs": [
                {
                    "OutputName": name,
                    "S3Output": {
                        "S3Uri": address,
                        "LocalPath": f"{_PROCESSING}/output/{name}",
                        "S3UploadMode": "EndOfJob",
                    },
                }
                for name, address in outputs
            ]
        }
    return request


def training_request(
    setting: JobSetting, script: str, arguments: Sequence[Any], *, output: Any
) -> dict[str, Any]:
    """Return a training job's request without the job's name.

    Args:
        setting: The job's setting.
        script: The file name of the script in `sagemaker_scripts`.
        arguments: The script's arguments.
        output: The S3 address below which `<job>/output/model.tar.gz` is written.
    """
    return {
        "RoleArn": setting.role_arn,
        "AlgorithmSpecification": {
            "TrainingImage": setting.image,
            "TrainingInputMode": "File",
            "ContainerEntrypoint": ["python3", f"{_TRAINING_CODE}/sagemaker_scripts/{script}"],
            "ContainerArguments": list(arguments),
        },
        "InputDataConfig": [
            {
                "ChannelName": "code",
                "DataSource": {
                    "S3DataSource": {
                        "S3DataType": "S3Prefix",
                        "S3Uri": setting.code,
                        "S3DataDistributionType": "FullyReplicated",
                    }
                },
            }
        ],
        "OutputDataConfig": {"S3OutputPath": output},
        "ResourceConfig": {
            "InstanceCount": 1,
            "InstanceType": setting.instance_type,
            "VolumeSizeInGB": setting.volume_gb,
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": setting.max_runtime_seconds},
        "Environment": setting.environment,
        "Tags": setting.tags,
    }
