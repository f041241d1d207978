"""Run the local stack's own commands on a stack of one test."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import snowflake.connector

from infra.local.stack.environment_file import read_environment_file
from infra.local.supervision.processes import stack_processes
from prediction_contract.jobs.job_image import JobImage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PROJECT_ROOT = Path(__file__).resolve().parents[1]
_COMMAND_SECONDS = 240


def base_image(environment: Mapping[str, str]) -> str:
    """Return the address of the image with the platform's packages."""
    lock = (PROJECT_ROOT / "requirements" / "scoring.lock").read_bytes()
    return JobImage.of_lock("base", lock).uri(environment["MLPIPE_SAGEMAKER_IMAGE_REPOSITORY"])


@dataclass(frozen=True)
class LocalStack:
    """A running, provisioned stack.

    Attributes:
        environment: The variables in its environment file.
        state_directory: Where its logs and data are.
    """

    environment: Mapping[str, str]
    state_directory: Path


@dataclass(frozen=True)
class StackRun:
    """One stack, started and stopped as a person would.

    Attributes:
        state_directory: The stack's own state directory.
        only: The components to run, provisioning nothing; empty for all of them, provisioned.
        enforces_iam: Whether its AWS checks permissions.
    """

    state_directory: Path
    only: tuple[str, ...] = ()
    enforces_iam: bool = False

    @property
    def environment_file(self) -> Path:
        """The file that gets its endpoints."""
        return self.state_directory.with_name(f"{self.state_directory.name}.env")

    def command(self, name: str) -> list[str]:
        """Return the argument list of `up`, `down` or `status`."""
        arguments = ["--state-dir", str(self.state_directory), "--env-file", str(self.environment_file)]
        only = [argument for component in self.only for argument in ("--only", component)]
        iam = ["--enforce-iam"] if self.enforces_iam else []
        return [sys.executable, "-m", "infra.local", name, *arguments, *only, *iam]

    def run(self, name: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, with standard error in its output.

        Its output is a pipe: a stack that kept the pipe open would hold the caller until the deadline.
        """
        return subprocess.run(
            self.command(name),
            cwd=PROJECT_ROOT,
            env={**os.environ, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_COMMAND_SECONDS,
            check=False,
        )

    def up(self) -> str:
        """Start it and return the output."""
        done = self.run("up")
        assert done.returncode == 0, done.stdout
        return done.stdout

    def down(self) -> str:
        """Stop it, assert that no process is left, and return the output."""
        done = self.run("down")
        assert done.returncode == 0, done.stdout
        assert stack_processes(self.state_directory) == []
        return done.stdout

    def running(self) -> LocalStack:
        """Return the environment and the state directory of the running, provisioned stack."""
        return LocalStack(read_environment_file(self.environment_file), self.state_directory)

    def components(self) -> dict[str, dict[str, Any]]:
        """Return the status file's components by name."""
        return json.loads((self.state_directory / "status.json").read_text())["components"]

    def supervisor_pid(self) -> int:
        """Return the process id of the supervisor."""
        return json.loads((self.state_directory / "status.json").read_text())["supervisor_pid"]

    def log(self, name: str) -> str:
        """Return the text of a component's log."""
        return (self.state_directory / "logs" / f"{name}.log").read_text()

    def aws(self, service: str) -> Any:
        """Return a boto3 client of the emulator, which needs no provisioning."""
        return aws_client_at(f"http://127.0.0.1:{self.components()['aws']['port']}", service)

    def snowflake(self, **arguments: Any) -> Any:
        """Return a connection by the real Snowflake connector."""
        return snowflake.connector.connect(
            **{
                "host": "127.0.0.1",
                "port": self.components()["snowflake"]["port"],
                "protocol": "http",
                "account": "local",
                "user": "test",
                "password": "test",
                "network_timeout": 20,
                **arguments,
            }
        )


def aws_client_at(endpoint_url: str, service: str, credentials: Mapping[str, str] | None = None) -> Any:
    """Return a boto3 client that takes nothing from the caller's environment.

    Args:
        endpoint_url: The emulator.
        service: The service.
        credentials: Environment variables of an identity; without them the root key is used.
    """
    identity = credentials or {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    return boto3.client(
        service,
        endpoint_url=endpoint_url,
        region_name="us-east-1",
        aws_access_key_id=identity["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=identity["AWS_SECRET_ACCESS_KEY"],
        aws_session_token=identity.get("AWS_SESSION_TOKEN"),
    )


def wait_until(condition: Callable[[], bool], *, seconds: float, what: str) -> float:
    """Wait until the condition holds and return the seconds it took; fail the test after the deadline."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, f"not within {seconds} s: {what}"
        time.sleep(0.05)
    return time.monotonic() - started
