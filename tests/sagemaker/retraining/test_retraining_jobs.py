"""Executions of the retraining pipeline with the example's model: its real definition, by its real jobs."""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from infra.definitions.retraining_definition import DEFINITION, filled
from prediction_contract.jobs.retraining_plan import RetrainingPlan
from prediction_contract.jobs.verdict import Verdict
from prediction_contract.naming.s3_layout import (
    PLAN_NAME,
    VERDICT_NAME,
    candidates_prefix,
    retraining_prefix,
)
from tests.sagemaker.retraining.retraining_jobs import RetrainingJobs, retraining_jobs
from tests.stack_runs import base_image

if TYPE_CHECKING:
    from tests.sagemaker.scoring_jobs import ScoringJobs

pytestmark = pytest.mark.stack
EXECUTION_SECONDS = 240


@dataclass(frozen=True)
class RetrainingPipeline:
    """The retraining pipeline of one model.

    Attributes:
        retraining: Names the arguments of its jobs.
        client: Of SageMaker.
        name: The pipeline's, and its model package group's.
    """

    retraining: RetrainingJobs
    client: Any
    name: str

    @classmethod
    def created(cls, retraining: RetrainingJobs) -> RetrainingPipeline:
        """Create pipeline and group, with the model's values in the definition."""
        jobs, model = retraining.jobs, retraining.model
        client, name = jobs.client("sagemaker"), f"retraining-{uuid.uuid4().hex}"
        words = retraining.plan_arguments("any", "2013-02-14").container_arguments()
        told = {key.removeprefix("--"): text for key, text in zip(words[::2], words[1::2], strict=True)}
        compute = {"instance_type": "ml.m5.large", "volume_gb": 10, "max_runtime_seconds": 600}
        computes = {
            f"{kind}_{member}": value
            for kind in ("processing", "training")
            for member, value in compute.items()
        }
        values = {
            **told,
            **computes,
            "role_arn": jobs.environment["MLPIPE_SAGEMAKER_ROLE_ARN"],
            "image": base_image(jobs.environment),
            "code": jobs.code,
            "environment": {},
            "tags": [],
            "group": name,
            "candidates": f"s3://{jobs.bucket}/{candidates_prefix(model)}",
            "retraining_prefix": retraining_prefix(model, "any").removesuffix("any/"),
        }
        client.create_model_package_group(ModelPackageGroupName=name)
        client.create_pipeline(
            PipelineName=name,
            RoleArn=jobs.environment["MLPIPE_SAGEMAKER_ROLE_ARN"],
            PipelineDefinition=json.dumps(filled(json.loads(DEFINITION.read_bytes()), values)),
        )
        return cls(retraining, client, name)

    def succeeded(self, last_partition: str) -> tuple[RetrainingPlan, Verdict | None, dict[str, Any]]:
        """Run an execution that must succeed; return its plan, its verdict if it has one, and its steps."""
        parameters = [{"Name": "LastPartition", "Value": last_partition}]
        arn = self.client.start_pipeline_execution(PipelineName=self.name, PipelineParameters=parameters)[
            "PipelineExecutionArn"
        ]
        deadline = time.monotonic() + EXECUTION_SECONDS
        while (ended := self._described(arn))["PipelineExecutionStatus"] == "Executing":
            assert time.monotonic() < deadline, f"{arn} did not end within {EXECUTION_SECONDS} s"
            time.sleep(0.25)
        listed = self.client.list_pipeline_execution_steps(PipelineExecutionArn=arn)["PipelineExecutionSteps"]
        assert ended["PipelineExecutionStatus"] == "Succeeded", [each.get("FailureReason") for each in listed]
        steps = {step["StepName"]: step for step in listed}
        prefix = retraining_prefix(self.retraining.model, arn.rpartition("/")[2])
        content = self.retraining.jobs.content
        plan = RetrainingPlan.parse(content(f"{prefix}{PLAN_NAME}"))
        verdict = Verdict.parse(content(f"{prefix}{VERDICT_NAME}")) if "JudgeModels" in steps else None
        return plan, verdict, steps

    def packages(self) -> list[dict[str, Any]]:
        """Return the registered packages by number."""
        listed = self.client.list_model_packages(ModelPackageGroupName=self.name)["ModelPackageSummaryList"]
        described = [
            self.client.describe_model_package(ModelPackageName=each["ModelPackageArn"]) for each in listed
        ]
        return sorted(described, key=lambda package: package["ModelPackageVersion"])

    def _described(self, arn: str) -> dict[str, Any]:
        return self.client.describe_pipeline_execution(PipelineExecutionArn=arn)


def test_a_model_is_retrained_and_judged_beside_its_champion(jobs: ScoringJobs) -> None:
    """A first version, and a second one a week later; a third execution finds the second one's claim."""
    retraining = retraining_jobs(jobs)
    pipeline = RetrainingPipeline.created(retraining)
    plan, verdict, _ = pipeline.succeeded("2013-02-14")
    assert (plan.first_partition, plan.last_partition, plan.first_held_out) == (
        "2013-02-06",
        "2013-02-10",
        "2013-02-12",
    )
    assert plan.features[-1].partition == "2013-02-15"
    assert verdict is not None
    assert (verdict.better, verdict.approval, verdict.champion_version) == (1, "Approved", 0)
    retraining.crown(verdict)
    plan, compared, _ = pipeline.succeeded("2013-02-21")
    assert plan.champion is not None
    assert (plan.champion.version, plan.champion.digest) == (1, verdict.candidate_digest)
    assert compared is not None
    assert compared.candidate_digest != verdict.candidate_digest
    assert [each.name for each in compared.metrics] == [
        "mae:expected_delay_minutes",
        "roc_auc:delay_probability",
    ]
    assert all(each.champion is not None and each.gain_low is not None for each in compared.metrics)
    assert [each.column for each in compared.slices] == ["origin"] * 3
    assert min(each.rows for each in compared.slices) > 200
    third, none, steps = pipeline.succeeded("2013-02-21")
    assert (third.claimed_by, third.features, none) == (plan.execution_id, (), None)
    assert "TrainModel" not in steps
    packages = pipeline.packages()
    assert [each["ModelApprovalStatus"] for each in packages] == ["Approved", compared.approval]
    for package, judged, champion in zip(packages, (verdict, compared), ("0", "1"), strict=True):
        told = package["CustomerMetadataProperties"]
        assert (told["digest"], told["sha256"]) == (judged.candidate_digest, judged.candidate_sha256)
        assert (told["judged_against"], told["trained_until"]) == (champion, judged.trained_until)
        address = package["InferenceSpecification"]["Containers"][0]["ModelDataUrl"]
        assert address == f"s3://{jobs.bucket}/{judged.candidate_key}"
