"""Create a model's retraining pipeline from the real definition, and run and inspect its executions."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from infra.definitions.retraining_definition import DEFINITION, filled
from prediction_contract.jobs.retraining_plan import RetrainingPlan
from prediction_contract.jobs.verdict import Verdict
from prediction_contract.naming.s3_layout import (
    PLAN_NAME,
    VERDICT_NAME,
    candidates_prefix,
    retraining_prefix,
)

if TYPE_CHECKING:
    from tests.sagemaker.retraining.retraining_jobs import RetrainingJobs

_EXECUTION_SECONDS = 240


@dataclass(frozen=True)
class RetrainingPipeline:
    """The retraining pipeline of one model.

    Attributes:
        retraining: Builds the arguments of the pipeline's jobs.
        client: The SageMaker client.
        name: Name of the pipeline and of its model package group.
    """

    retraining: RetrainingJobs
    client: Any
    name: str

    def create(self, image: str) -> None:
        """Create the pipeline and its package group, with the model's values filled in."""
        jobs, model = self.retraining.jobs, self.retraining.model
        words = self.retraining.plan_arguments("any", "2013-02-14").container_arguments()
        arguments = {key.removeprefix("--"): text for key, text in zip(words[::2], words[1::2], strict=True)}
        compute = {"instance_type": "ml.m5.large", "volume_gb": 10, "max_runtime_seconds": 600}
        computes = {
            f"{kind}_{member}": value
            for kind in ("processing", "training")
            for member, value in compute.items()
        }
        values = {
            **arguments,
            **computes,
            "role_arn": jobs.environment["MLPIPE_SAGEMAKER_ROLE_ARN"],
            "image": image,
            "code": jobs.code,
            "environment": {},
            "tags": [],
            "group": self.name,
            "candidates": f"s3://{jobs.bucket}/{candidates_prefix(model)}",
            "retraining_prefix": retraining_prefix(model, "any").removesuffix("any/"),
        }
        self.client.create_model_package_group(ModelPackageGroupName=self.name)
        self.client.create_pipeline(
            PipelineName=self.name,
            RoleArn=jobs.environment["MLPIPE_SAGEMAKER_ROLE_ARN"],
            PipelineDefinition=json.dumps(filled(json.loads(DEFINITION.read_bytes()), values)),
        )

    def start(self, last_partition: str) -> str:
        """Start an execution, and return its ARN."""
        parameters = [{"Name": "LastPartition", "Value": last_partition}]
        answer = self.client.start_pipeline_execution(PipelineName=self.name, PipelineParameters=parameters)
        return answer["PipelineExecutionArn"]

    def status(self, arn: str) -> str:
        """Return the status of an execution."""
        described = self.client.describe_pipeline_execution(PipelineExecutionArn=arn)
        return described["PipelineExecutionStatus"]

    def end(self, arn: str) -> str:
        """Wait until an execution ends, and return its status."""
        deadline = time.monotonic() + _EXECUTION_SECONDS
        while (status := self.status(arn)) == "Executing":
            assert time.monotonic() < deadline, f"{arn} did not end within {_EXECUTION_SECONDS} s"
            time.sleep(0.25)
        return status

    def require_success(self, arn: str) -> None:
        """Wait until an execution ends, and require that it succeeded."""
        status = self.end(arn)
        assert status == "Succeeded", [step.get("FailureReason") for step in self.steps(arn).values()]

    def steps(self, arn: str) -> dict[str, dict[str, Any]]:
        """Return the steps of an execution by name."""
        listed = self.client.list_pipeline_execution_steps(PipelineExecutionArn=arn)
        return {step["StepName"]: step for step in listed["PipelineExecutionSteps"]}

    def plan(self, arn: str) -> RetrainingPlan:
        """Return the plan of an execution."""
        return RetrainingPlan.parse(self._document(arn, PLAN_NAME))

    def verdict(self, arn: str) -> Verdict:
        """Return the verdict of an execution."""
        return Verdict.parse(self._document(arn, VERDICT_NAME))

    def packages(self) -> list[dict[str, Any]]:
        """Return the registered packages by number."""
        listed = self.client.list_model_packages(ModelPackageGroupName=self.name, MaxResults=100)
        described = [
            self.client.describe_model_package(ModelPackageName=each["ModelPackageArn"])
            for each in listed["ModelPackageSummaryList"]
        ]
        return sorted(described, key=lambda package: package["ModelPackageVersion"])

    def _document(self, arn: str, name: str) -> bytes:
        prefix = retraining_prefix(self.retraining.model, execution_id(arn))
        return self.retraining.jobs.content(f"{prefix}{name}")


def execution_id(arn: str) -> str:
    """Return the id of an execution."""
    return arn.rpartition("/")[2]
