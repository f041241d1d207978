"""Build pipeline definitions, run them on the executor and inspect their executions."""

from __future__ import annotations

import copy
import json
import uuid
from typing import TYPE_CHECKING, Any

from tests.infra.job_executor.job_stack import BUCKET, IMAGE, Aws, Executor, eventually, processing_request

if TYPE_CHECKING:
    from collections.abc import Mapping

ENDED = {"Succeeded", "Failed", "Stopped", "CompletedWithFailures"}
GROUP = "candidates"
OUTPUT = "/opt/ml/processing/output/verdict"

# Writes its first argument as the step's property file.
JUDGE = """
    import json, os, pathlib, sys
    root = pathlib.Path(os.environ["MLPIPE_ML_ROOT"])
    (root / "processing/output/verdict/verdict.json").write_text(sys.argv[1])
"""
TRAIN = """
    import os, pathlib, sys
    (pathlib.Path(os.environ["SM_MODEL_DIR"]) / "model.json").write_text(" ".join(sys.argv[1:]))
"""


def get(reference: str) -> dict[str, str]:
    """Return a `Get` reference."""
    return {"Get": reference}


def join(*values: Any, on: str = "") -> dict[str, Any]:
    """Return a `Std:Join` of values."""
    return {"Std:Join": {"On": on, "Values": list(values)}}


def verdict(path: str) -> dict[str, Any]:
    """Return a `Std:JsonGet` that reads a path of the judge's property file."""
    return {"Std:JsonGet": {"PropertyFile": get("Steps.JudgeModels.PropertyFiles.Verdict"), "Path": path}}


def compare(kind: str, left: Any, right: Any) -> dict[str, Any]:
    """Return a condition that compares two values."""
    return {"Type": kind, "LeftValue": left, "RightValue": right}


def processing_step(aws: Aws, name: str, script: str, *words: Any, **changes: Any) -> dict[str, Any]:
    """Return a step whose processing job runs a script with `words` as its arguments."""
    request = processing_request(aws, "unnamed", script, **changes.pop("request", {}))
    del request["ProcessingJobName"]
    if words:
        request["AppSpecification"]["ContainerArguments"] = list(words)
    return {"Name": name, "Type": "Processing", "Arguments": request, **changes}


def judge_step(aws: Aws, prefix: str, *words: Any, **changes: Any) -> dict[str, Any]:
    """Return a step that writes its first argument as a property file below the execution's prefix."""
    uri = join(f"s3://{BUCKET}/{prefix}", get("Execution.PipelineExecutionId"), on="/")
    output = {"S3Uri": uri, "LocalPath": OUTPUT, "S3UploadMode": "EndOfJob"}
    outputs = {"Outputs": [{"OutputName": "verdict", "S3Output": output}]}
    file = {"PropertyFileName": "Verdict", "OutputName": "verdict", "FilePath": "verdict.json"}
    return processing_step(
        aws,
        "JudgeModels",
        changes.pop("script", JUDGE),
        *words,
        request={"ProcessingOutputConfig": outputs},
        PropertyFiles=[file],
        **changes,
    )


def training_step(aws: Aws, prefix: str, **changes: Any) -> dict[str, Any]:
    """Return a training step that finishes at once."""
    code = {"S3DataType": "S3Prefix", "S3Uri": aws.upload(TRAIN, "train.py")}
    request = {
        "RoleArn": aws.sagemaker_role,
        "AlgorithmSpecification": {
            "TrainingImage": IMAGE,
            "TrainingInputMode": "File",
            "ContainerEntrypoint": ["python3", "/opt/ml/input/data/code/train.py"],
            "ContainerArguments": [get("Execution.PipelineExecutionId")],
        },
        "InputDataConfig": [{"ChannelName": "code", "DataSource": {"S3DataSource": code}}],
        "OutputDataConfig": {"S3OutputPath": f"s3://{BUCKET}/{prefix}/candidates"},
        "ResourceConfig": {"InstanceCount": 1, "InstanceType": "ml.m5.large", "VolumeSizeInGB": 10},
        "StoppingCondition": {"MaxRuntimeInSeconds": 600},
    }
    return {"Name": "TrainModel", "Type": "Training", "Arguments": request, **changes}


def register_step(status: Any, name: str = "RegisterModel", **changes: Any) -> dict[str, Any]:
    """Return a step that registers the trained model with an approval status."""
    container = {"Image": IMAGE, "ModelDataUrl": get("Steps.TrainModel.ModelArtifacts.S3ModelArtifacts")}
    specification = {
        "Containers": [container],
        "SupportedContentTypes": ["application/json"],
        "SupportedResponseMIMETypes": ["application/json"],
    }
    request = {
        "ModelPackageGroupName": GROUP,
        "ModelApprovalStatus": status,
        "InferenceSpecification": specification,
        "CustomerMetadataProperties": {"execution": get("Execution.PipelineExecutionId")},
    }
    return {"Name": name, "Type": "RegisterModel", "Arguments": request, **changes}


def condition_step(name: str, conditions: list[Any], then: list[Any], other: list[Any]) -> dict[str, Any]:
    """Return a step that runs one of two lists of steps, depending on conditions."""
    arguments = {"Conditions": conditions, "IfSteps": then, "ElseSteps": other}
    return {"Name": name, "Type": "Condition", "Arguments": arguments}


def fail_step(message: Any, name: str = "NeedsPerson") -> dict[str, Any]:
    """Return a step that fails the execution with a message."""
    return {"Name": name, "Type": "Fail", "Arguments": {"ErrorMessage": message}}


def retraining(aws: Aws, prefix: str) -> list[dict[str, Any]]:
    """Return the steps of a small retraining: train, judge, and register as the verdict says."""
    better = [compare("Equals", verdict("better"), 1), compare("Equals", verdict("worse_slices"), 0)]
    register = register_step(verdict("approval"))
    refused = register_step("Rejected", "RegisterRefused")
    person = compare("Equals", verdict("needs_person"), 1)
    return [
        training_step(aws, prefix),
        judge_step(aws, prefix, get("Parameters.Verdict"), DependsOn=["TrainModel"]),
        condition_step(
            "IsJudged",
            [person],
            [fail_step(join("A person must look: ", verdict("reason")))],
            [condition_step("IsBetter", better, [register], [refused])],
        ),
    ]


VERDICT_PARAMETER = {"Name": "Verdict", "Type": "String"}
GOOD = {"needs_person": 0, "better": 1, "worse_slices": 0, "approval": "Approved", "reason": "more gain"}


def definition(steps: list[Any], parameters: list[Any] | None = None) -> dict[str, Any]:
    """Return a pipeline definition with the members that the SDK writes."""
    return {
        "Version": "2020-12-01",
        "Metadata": {},
        "Parameters": parameters or [],
        "PipelineExperimentConfig": None,
        "MlflowConfig": None,
        "Steps": copy.deepcopy(steps),
    }


class Pipelines:
    """Create and run pipelines with unique names on one executor.

    Args:
        executor: Runs the pipelines.
        aws: Provides the pipelines' role.
    """

    def __init__(self, executor: Executor, aws: Aws) -> None:
        self.executor = executor
        self.aws = aws
        self.client = executor.client("sagemaker", retries={"total_max_attempts": 1})

    def create_group(self) -> None:
        """Create the model package group in which executions register."""
        self.client.create_model_package_group(ModelPackageGroupName=GROUP)

    def create(self, steps: list[Any], parameters: list[Any] | None = None, **request: Any) -> str:
        """Create a pipeline and return its name."""
        name = f"mlpipe-test-{uuid.uuid4().hex[:12]}"
        body = json.dumps(definition(steps, parameters))
        request = {"PipelineDefinition": body, "RoleArn": self.aws.sagemaker_role} | request
        self.client.create_pipeline(PipelineName=name, **request)
        return name

    def start(self, name: str, parameters: Mapping[str, str] | None = None, **request: Any) -> str:
        """Start an execution and return its ARN.

        Args:
            name: The pipeline's name.
            parameters: Values by name, as text.
            **request: Further members of the request.
        """
        given = [{"Name": key, "Value": value} for key, value in (parameters or {}).items()]
        answer = self.client.start_pipeline_execution(PipelineName=name, PipelineParameters=given, **request)
        return answer["PipelineExecutionArn"]

    def describe(self, arn: str) -> dict[str, Any]:
        """Describe an execution."""
        return self.client.describe_pipeline_execution(PipelineExecutionArn=arn)

    def end(self, arn: str) -> dict[str, Any]:
        """Wait until an execution ends, and describe it."""

        def look() -> dict[str, Any] | None:
            found = self.describe(arn)
            return found if found["PipelineExecutionStatus"] in ENDED else None

        return eventually(look, what=f"{arn} ends")

    def steps(self, arn: str) -> dict[str, dict[str, Any]]:
        """Return the steps that have begun, by name, oldest first."""
        answer = self.client.list_pipeline_execution_steps(PipelineExecutionArn=arn, SortOrder="Ascending")
        return {step["StepName"]: step for step in answer["PipelineExecutionSteps"]}

    def statuses(self, arn: str) -> dict[str, str]:
        """Return the status of each step that has begun."""
        return {name: step["StepStatus"] for name, step in self.steps(arn).items()}

    def await_step(self, arn: str, name: str, status: str = "Executing") -> dict[str, Any]:
        """Wait until a step has a status, and return the step."""

        def look() -> dict[str, Any] | None:
            step = self.steps(arn).get(name)
            return step if step is not None and step["StepStatus"] == status else None

        return eventually(look, what=f"{name} of {arn} is {status}")

    def job(self, arn: str, step: str) -> str:
        """Return the name of a step's job."""
        metadata = self.steps(arn)[step]["Metadata"]
        (made,) = (metadata[kind]["Arn"] for kind in ("ProcessingJob", "TrainingJob") if kind in metadata)
        return made.rsplit("/", 1)[-1]

    def jobs(self, arn: str, step: str) -> list[str]:
        """Return the names of all processing jobs that were created for a step."""
        begins = f"pipelines-{arn.rsplit('/', 1)[-1]}-{step}"
        answer = self.client.list_processing_jobs(NameContains=begins, SortOrder="Ascending")
        return [job["ProcessingJobName"] for job in answer["ProcessingJobSummaries"]]

    def packages(self, execution_arn: str) -> list[dict[str, Any]]:
        """Return the model packages that an execution registered."""
        found = []
        pages = self.client.get_paginator("list_model_packages").paginate(ModelPackageGroupName=GROUP)
        for page in pages:
            for summary in page["ModelPackageSummaryList"]:
                package = self.client.describe_model_package(ModelPackageName=summary["ModelPackageArn"])
                if package["MetadataProperties"]["GeneratedBy"] == execution_arn:
                    found.append(package)
        return found
