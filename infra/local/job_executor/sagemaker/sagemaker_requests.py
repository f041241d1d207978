"""Refuses requests that fit the service model but that SageMaker or this executor does not accept."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from infra.local.job_executor.json_protocol import ApiError

if TYPE_CHECKING:
    from infra.local.job_executor.job_api import Request


def _refuse(message: str) -> None:
    raise ApiError("ValidationException", message)


def check_processing(request: Request) -> None:
    """Refuse a processing job that could not run.

    Raises:
        ApiError: `ValidationException` with the fault.
    """
    if not request["AppSpecification"].get("ContainerEntrypoint"):
        _refuse("AppSpecification.ContainerEntrypoint is required: the local job executor runs no images.")
    cluster = request["ProcessingResources"].get("ClusterConfig", {})
    if "InstanceCount" not in cluster or "InstanceType" not in cluster:
        _refuse("ProcessingResources.ClusterConfig must have InstanceCount and InstanceType.")
    inputs = request.get("ProcessingInputs", [])
    outputs = request.get("ProcessingOutputConfig", {}).get("Outputs", [])
    for member, items in (("InputName", inputs), ("OutputName", outputs)):
        names = [item[member] for item in items]
        if len(set(names)) < len(names):
            _refuse(f"{member} must be unique within a processing job: {names}.")
    for item in inputs:
        if "S3Input" not in item:
            _refuse(f"Input {item['InputName']}: the local job executor supports only S3Input.")
        _check_input_source(item["InputName"], item["S3Input"])
    for item in outputs:
        if "S3Output" not in item:
            _refuse(f"Output {item['OutputName']}: the local job executor supports only S3Output.")
        target = item["S3Output"]
        _check_local_path(item["OutputName"], target)
        _check_uri(item["OutputName"], target["S3Uri"])
        if target["S3UploadMode"] != "EndOfJob":
            _refuse(f"Output {item['OutputName']}: the local job executor supports only EndOfJob.")


def check_training(request: Request) -> None:
    """Refuse a training job that could not run.

    Raises:
        ApiError: `ValidationException` with the fault.
    """
    algorithm = request.get("AlgorithmSpecification")
    if algorithm is None or "ResourceConfig" not in request or "StoppingCondition" not in request:
        _refuse("AlgorithmSpecification, ResourceConfig and StoppingCondition are required.")
        return
    _check_algorithm(algorithm)
    parameters = request.get("HyperParameters", {})
    script_mode = {"sagemaker_program", "sagemaker_submit_directory"} <= set(parameters)
    if "ContainerEntrypoint" not in algorithm and not script_mode:
        _refuse(
            "The local job executor runs no container image: set the hyperparameters sagemaker_program "
            "and sagemaker_submit_directory, or AlgorithmSpecification.ContainerEntrypoint."
        )
    if (
        request["ResourceConfig"].get("InstanceCount", 0) < 1
        or "InstanceType" not in request["ResourceConfig"]
    ):
        _refuse("ResourceConfig must have InstanceCount, at least 1, and InstanceType.")
    _check_uri("OutputDataConfig", request["OutputDataConfig"]["S3OutputPath"])
    names = [channel["ChannelName"] for channel in request.get("InputDataConfig", [])]
    if len(set(names)) < len(names):
        _refuse(f"Channel names must be unique: {names}.")
    for channel in request.get("InputDataConfig", []):
        name = channel["ChannelName"]
        source = channel["DataSource"].get("S3DataSource")
        if source is None or name in {".", ".."}:
            _refuse(f"Channel {name}: the local job executor supports only S3DataSource.")
            return
        _check_source(name, source)
        if channel.get("InputMode") == "Pipe" or channel.get("CompressionType", "None") != "None":
            _refuse(f"Channel {name}: pipes and compression are not supported by the local job executor.")


def _check_algorithm(algorithm: Request) -> None:
    if ("TrainingImage" in algorithm) == ("AlgorithmName" in algorithm):
        _refuse("You must specify either an algorithm name or a training image, and not both.")
    if "TrainingImage" not in algorithm:
        _refuse("The local job executor supports only a TrainingImage, not an algorithm's name.")
    if algorithm["TrainingInputMode"] == "Pipe":
        _refuse("The local job executor supports only the input modes File and FastFile.")


def _check_input_source(name: str, source: Request) -> None:
    _check_source(name, source)
    _check_local_path(name, source)
    if source.get("S3InputMode", "File") != "File" or source.get("S3CompressionType", "None") != "None":
        _refuse(f"Input {name}: pipes and compression are not supported by the local job executor.")


def _check_source(name: str, source: Request) -> None:
    _check_uri(name, source["S3Uri"])
    if source["S3DataType"] not in {"S3Prefix", "ManifestFile"}:
        _refuse(f"{name}: S3DataType {source['S3DataType']} is not supported by the local job executor.")


def _check_uri(name: str, uri: str) -> None:
    if not uri.startswith("s3://"):
        _refuse(f"{name}: {uri} must begin with s3://.")


def _check_local_path(name: str, item: Request) -> None:
    path = PurePosixPath(item.get("LocalPath", ""))
    if not path.is_relative_to("/opt/ml/processing") or ".." in path.parts:
        _refuse(f"{name}: LocalPath must be below /opt/ml/processing and contain no '..': {path}.")
