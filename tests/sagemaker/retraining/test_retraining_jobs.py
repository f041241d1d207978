"""Test the retraining pipeline of the example model on the local stack."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from tests.sagemaker.retraining.retraining_jobs import retraining_jobs
from tests.sagemaker.retraining.retraining_pipeline import RetrainingPipeline
from tests.stack_runs import base_image

if TYPE_CHECKING:
    from tests.sagemaker.scoring_jobs import ScoringJobs

pytestmark = pytest.mark.stack


def test_pipeline_retrains_and_compares_with_champion(jobs: ScoringJobs) -> None:
    """Two executions register packages, the second compared with the champion; a duplicate does nothing."""
    retraining = retraining_jobs(jobs)
    name = f"retraining-{uuid.uuid4().hex}"
    pipeline = RetrainingPipeline(retraining, jobs.client("sagemaker"), name)
    pipeline.create(base_image(jobs.environment))
    pipeline.require_success(first := pipeline.start("2013-02-14"))
    plan, verdict = pipeline.plan(first), pipeline.verdict(first)
    assert (plan.first_partition, plan.last_partition, plan.first_held_out) == (
        "2013-02-06",
        "2013-02-10",
        "2013-02-12",
    )
    assert plan.features[-1].partition == "2013-02-15"
    assert (verdict.better, verdict.approval, verdict.champion_version) == (1, "Approved", 0)
    retraining.crown(verdict)
    pipeline.require_success(second := pipeline.start("2013-02-21"))
    plan, compared = pipeline.plan(second), pipeline.verdict(second)
    assert plan.champion is not None
    assert (plan.champion.version, plan.champion.digest) == (1, verdict.candidate_digest)
    assert compared.candidate_digest != verdict.candidate_digest
    assert [each.name for each in compared.metrics] == [
        "mae:expected_delay_minutes",
        "roc_auc:delay_probability",
    ]
    assert all(each.champion is not None and each.gain_low is not None for each in compared.metrics)
    assert [each.column for each in compared.slices] == ["origin"] * 3
    assert min(each.rows for each in compared.slices) > 200
    pipeline.require_success(third := pipeline.start("2013-02-21"))
    assert (pipeline.plan(third).claimed_by, pipeline.plan(third).features) == (plan.execution_id, ())
    assert "TrainModel" not in pipeline.steps(third)
    packages = pipeline.packages()
    assert [each["ModelApprovalStatus"] for each in packages] == ["Approved", compared.approval]
    for package, judged, champion in zip(packages, (verdict, compared), ("0", "1"), strict=True):
        metadata = package["CustomerMetadataProperties"]
        assert (metadata["digest"], metadata["sha256"]) == (judged.candidate_digest, judged.candidate_sha256)
        assert (metadata["judged_against"], metadata["trained_until"]) == (champion, judged.trained_until)
        address = package["InferenceSpecification"]["Containers"][0]["ModelDataUrl"]
        assert address == f"s3://{jobs.bucket}/{judged.candidate_key}"
