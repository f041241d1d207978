"""Runs one step in its own process, which a test kills while the step waits for its job.

`killable_step.py dagster-aws JOB` or `killable_step.py ours JOB MODEL BATCH_ID`, with Dagster's environment.
"""

from __future__ import annotations

import sys

from mlpipe_dagster.resources.platform import Platform
from tests.dagster.job_clients.dagster_aws_client import run_by_dagster_aws
from tests.dagster.job_steps import in_step
from tests.dagster.load_job_on_glue import Job, load_coordinator
from tests.dagster.small_model import SmallModel, declaration


def main(client: str, job_name: str, *named: str) -> None:
    """Start a job run and wait for its end."""
    job = Job(Platform())
    assert job.name == job_name
    if client == "dagster-aws":
        run_by_dagster_aws(job)
        return
    model, batch_id = named
    small = SmallModel(job.platform, declaration(model))
    coordinator, record = load_coordinator(job, small), small.record(batch_id)
    in_step(lambda context: coordinator.run(context, record))


if __name__ == "__main__":
    main(*sys.argv[1:])
