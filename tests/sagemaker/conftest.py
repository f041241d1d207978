"""Session fixtures: raw data, prepared features and trained models on the local stack."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from infra.local.sample_data import upload_sample_data
from tests.projects import EXAMPLE
from tests.sagemaker.declared_models import INPUTS, SCHEMAS, TRAINING
from tests.sagemaker.retraining.retraining_jobs import RetrainingJobs
from tests.sagemaker.scoring_jobs import FIRST_PREPARED, LAST_JUDGED, LAST_PREPARED, ScoringJobs

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.sagemaker.retraining.retraining_jobs import Retrained
    from tests.stack_runs import LocalStack


@pytest.fixture(scope="session")
def jobs(local_stack: LocalStack, aws_client: Callable[[str], Any]) -> ScoringJobs:
    """Give the jobs of the session's stack, whose S3 holds raw data, code, schemas and inputs."""
    jobs = ScoringJobs(local_stack.environment, aws_client)
    upload_sample_data(EXAMPLE, aws_client("s3"), jobs.bucket)
    jobs.upload()
    return jobs


@pytest.fixture(scope="session")
def trained(jobs: ScoringJobs) -> dict[str, Retrained]:
    """Prepare features, train both models and make them champions; give their retrainings."""

    def retrained(model: str) -> Retrained:
        jobs.completed(jobs.start_features(model, FIRST_PREPARED, LAST_PREPARED))
        retraining = RetrainingJobs(jobs, INPUTS[model], jobs.schema_key(model), TRAINING[model])
        found = retraining.retrained("first", LAST_JUDGED)
        retraining.crown(found.verdict)
        return found

    with ThreadPoolExecutor() as models:
        return dict(zip(SCHEMAS, models.map(retrained, SCHEMAS), strict=True))
