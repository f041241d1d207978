"""dagster-aws's own Glue client, run on the same jobs for comparison."""

from __future__ import annotations

from typing import Any

import dagster as dg
from dagster_aws.pipes import PipesGlueClient, PipesS3ContextInjector, PipesS3MessageReader

from tests.dagster.job_steps import in_step
from tests.dagster.load_job_on_glue import Job


def dagster_aws_client(job: Job, **changes: Any) -> PipesGlueClient:
    """Return the client set up as its documentation recommends."""
    s3, bucket = job.platform.client("s3"), job.platform.settings.data_bucket
    parts: dict[str, Any] = {
        "client": job.glue,
        "context_injector": PipesS3ContextInjector(client=s3, bucket=bucket),
        "message_reader": PipesS3MessageReader(client=s3, bucket=bucket, interval=0.2),
    }
    return PipesGlueClient(**{**parts, **changes})


def run_by_dagster_aws(
    job: Job,
    client: PipesGlueClient | None = None,
    params: dict[str, Any] | None = None,
    instance: dg.DagsterInstance | None = None,
) -> Any:
    """Run the job inside a Dagster step as the client's documentation shows."""
    used = client or dagster_aws_client(job)
    given: Any = params or {"JobName": job.name}
    return in_step(
        lambda context: used.run(context=context, start_job_run_params=given, extras={"rows": 7}), instance
    )
