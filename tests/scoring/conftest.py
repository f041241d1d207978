"""A stack with raw data, prepared features and trained models, once per session."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from infra.local.raw_data import upload_days
from prediction_contract.job_arguments import TrainArguments
from tests.scoring.prediction_schemas import SCHEMAS
from tests.scoring.scoring_jobs import CODE_VERSION, ScoringJobs

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.stack_runs import LocalStack

LAST_EVALUATED = "2013-02-14"


@pytest.fixture(scope="session")
def jobs(local_stack: LocalStack, aws_client: Callable[[str], Any]) -> ScoringJobs:
    """Give the jobs of the session's stack, whose S3 holds raw data, code and schemas."""
    jobs = ScoringJobs(local_stack.environment, aws_client)
    upload_days(aws_client("s3"), jobs.bucket)
    jobs.upload()
    return jobs


@pytest.fixture(scope="session")
def trained(jobs: ScoringJobs) -> dict[str, dict[str, Any]]:
    """Prepare features, train both models on January, and give their training jobs by model."""
    for name in [jobs.start_features(model, "2013-01-01", "2013-02-15") for model in SCHEMAS]:
        jobs.completed(name)
    names = {}
    for model in SCHEMAS:
        arguments = TrainArguments(
            model=model,
            bucket=jobs.bucket,
            first_partition="2013-01-01",
            last_partition="2013-01-31",
            first_evaluated="2013-02-01",
            last_evaluated=LAST_EVALUATED,
            code_version=CODE_VERSION,
        )
        names[model] = jobs.start_training(arguments)
    return {model: jobs.completed(name) for model, name in names.items()}
