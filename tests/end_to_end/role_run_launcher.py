"""A run launcher that gives each run's process its own role, as ECS does for tasks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Self

from dagster import Field, StringSource
from dagster._core.launcher.base import LaunchRunContext, RunLauncher
from dagster._grpc.types import ExecuteRunArgs
from dagster._serdes import ConfigurableClass

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dagster._serdes.config_class import ConfigurableClassData

CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


class RoleRunLauncher(RunLauncher, ConfigurableClass):
    """Runs `dagster api execute_run` next to the daemon, with credentials from the instance's file."""

    def __init__(self, credentials: dict[str, str], inst_data: ConfigurableClassData | None = None) -> None:
        self._credentials = credentials
        self._inst_data = inst_data
        self._workers: dict[str, subprocess.Popen[bytes]] = {}
        super().__init__()

    @property
    def inst_data(self) -> ConfigurableClassData | None:
        """The configuration in the instance's file."""
        return self._inst_data

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """The schema of the credentials."""
        return {name: Field(StringSource) for name in CREDENTIALS}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData, config_value: Mapping[str, Any]) -> Self:
        """Create the launcher from the instance's configuration."""
        return cls(dict(config_value), inst_data)

    def launch_run(self, context: LaunchRunContext) -> None:
        """Start the run's process."""
        run = context.dagster_run
        assert context.job_code_origin is not None
        arguments = ExecuteRunArgs(
            job_origin=context.job_code_origin,
            run_id=run.run_id,
            instance_ref=self._instance.get_ref(),
            set_exit_code_on_failure=True,
        )
        program, *words = arguments.get_command_args()
        self._workers[run.run_id] = subprocess.Popen(
            [sys.executable, "-m", program, *words], env={**os.environ, **self._credentials}
        )

    def terminate(self, run_id: str) -> bool:
        """Interrupt a run's process."""
        worker = self._workers.get(run_id)
        if worker is None or worker.poll() is not None:
            return False
        worker.send_signal(signal.SIGINT)
        return True
