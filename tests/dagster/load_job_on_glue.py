"""The load job of a test's stage, with a script that the test chooses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from infra.code_upload import upload_wheels
from infra.definitions import resource_definitions
from infra.local.provisioning.provisioned_stack import stand_in_wheels
from mlpipe_dagster.job_clients.glue_client import GlueInvocation, PipesGlueJobClient
from mlpipe_dagster.loading.load_coordinator import LoadCoordinator
from mlpipe_dagster.resources.platform import Platform
from tests.dagster.job_steps import ensure_roles, in_step, pipes, single_attempt_client, upload
from tests.dagster.small_model import SmallModel

_LOAD_SCRIPT = (Path(__file__).parent / "load_job.py").read_text(encoding="utf-8")


class Job:
    """The load job of a test's stage, with a script that the test chooses."""

    def __init__(self, platform: Platform) -> None:
        ensure_roles(platform)
        self.platform = platform
        self.glue = single_attempt_client(platform, "glue")
        self.name = platform.settings.deployment.load_job

    def define(self, script: str, **changes: Any) -> None:
        """Make the job run a script, with changes of its definition if given."""
        definition = resource_definitions.load_job(self.platform.settings.deployment)
        script_location = upload(self.platform, script)
        upload_wheels(self.platform.client("s3"), self.platform.settings.deployment, stand_in_wheels)
        update = replace(definition, script_location=script_location, **changes).job_update()
        try:
            self.glue.create_job(Name=self.name, **update)
        except self.glue.exceptions.AlreadyExistsException:
            self.glue.update_job(JobName=self.name, JobUpdate=update)

    def client(self, glue: Any = None, **changes: Any) -> PipesGlueJobClient:
        """Return a client of the job."""
        parts = {
            "log_group_prefix": self.platform.settings.deployment.load_log_prefix,
            **pipes(self.platform),
        }
        return PipesGlueJobClient(client=glue or self.glue, **{**parts, **changes})

    def run(self, client: PipesGlueJobClient, **params: Any) -> GlueInvocation:
        """Run the job inside a Dagster step."""
        return in_step(
            lambda context: client.run(
                context=context,
                start_job_run_params={"JobName": self.name, **params},
                extras={"rows": 7},
                start_within_seconds=60,
            )
        )

    def runs(self) -> list[str]:
        """Return the states of all job runs, newest first."""
        return [run["JobRunState"] for run in self.glue.get_job_runs(JobName=self.name)["JobRuns"]]


def load_script(wanted: str) -> str:
    """Return the script of a load that ends in the given way."""
    return f'{_LOAD_SCRIPT}\n\nmain("{wanted}")\n'


def load_script_in_turn(first: str, later: str) -> str:
    """Return the script of a load whose first attempt and later attempts end in different ways."""
    is_first = "LoadArguments.parse(sys.argv[1:]).load_attempt == 1"
    return f'{_LOAD_SCRIPT}\n\nmain("{first}" if {is_first} else "{later}")\n'


def load_coordinator(job: Job, small: SmallModel, **changes: Any) -> LoadCoordinator:
    """Return the coordinator that loads the small model's batches with the job."""
    platform = job.platform
    return LoadCoordinator(
        declaration=small.declaration,
        settings=platform.settings,
        registry=platform.registry,
        glue=job.client(**changes),
    )
