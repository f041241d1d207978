"""A stack with raw data, prepared features and trained models, once per session."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from infra.local.sample_data import upload_sample_data
from prediction_contract.jobs.job_arguments import TrainArguments
from tests.projects import EXAMPLE
from tests.sagemaker.declared_models import SCHEMAS, TRAINING
from tests.sagemaker.scoring_jobs import CODE_VERSION, LAST_PREPARED, ScoringJobs

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.stack_runs import LocalStack


@pytest.fixture(scope="session")
def jobs(local_stack: LocalStack, aws_client: Callable[[str], Any]) -> ScoringJobs:
    """Give the jobs of the session's stack, whose S3 holds raw data, code and schemas."""
    jobs = ScoringJobs(local_stack.environment, aws_client)
    upload_sample_data(EXAMPLE, aws_client("s3"), jobs.bucket)
    jobs.upload()
    return jobs


@pytest.fixture(scope="session")
def trained(jobs: ScoringJobs) -> dict[str, dict[str, Any]]:
    """Prepare features, train both models as they declare, let them score, and give their training jobs."""
    for name in [
        jobs.start_features(model, TRAINING[model]["first_partition"], LAST_PREPARED) for model in SCHEMAS
    ]:
        jobs.completed(name)
    names = {}
    for model in SCHEMAS:
        arguments = TrainArguments(
            model=model,
            bucket=jobs.bucket,
            code_version=CODE_VERSION,
            schema_key=jobs.schema_key(model),
            inputs_key=jobs.inputs_key(model),
            **TRAINING[model],
        )
        names[model] = jobs.start_training(arguments)
    completed = {model: jobs.completed(name) for model, name in names.items()}
    for model, name in names.items():
        jobs.promote(model, f"models/{model}/{name}/output/model.tar.gz")
    return completed
