"""Runs the CDK's command line against the emulator."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from infra.environments.environment_cache import cache_folder
from infra.environments.platform_environments import import_variables
from infra.local.supervision.components import aws_environment
from infra.local.supervision.stack_state import StackError
from infra.packaging import PLATFORM

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from infra.environments.platform_environments import CdkTools

_COMMAND_SECONDS = 300
_SHOWN = 3000
# The inherited variables: no credentials or proxies of the caller.
_KEPT = ("HOME", "LANG", "TMPDIR")


class CdkCommandError(StackError):
    """A command of the CDK failed. The message ends with the command's output."""


@dataclass(frozen=True)
class CdkCommand:
    """Runs the CDK's commands on one app.

    Attributes:
        port: The emulator's port.
        app: The folder with the synthesised app.
        log: The file for the commands' output.
        tools: The CDK's tools.
    """

    port: int
    app: Path
    log: Path
    tools: CdkTools

    def synthesise(self, *arguments: str) -> None:
        """Write the app's templates.

        Args:
            arguments: Arguments of `infra.local.cdk.emulated_stage` other than address and folder.

        Raises:
            CdkCommandError: The synthesis failed.
        """
        place = ("--endpoint-url", f"http://127.0.0.1:{self.port}", "--out", str(self.app))
        python = str(self.tools.environment.python)
        # Installing the function's packages may need the caller's settings of the package index.
        known = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "CDK_"))}
        path = import_variables(cache_folder(os.environ))
        self._run([python, "-m", "infra.local.cdk.emulated_stage", *place, *arguments], {**known, **path})

    def run(self, *arguments: str) -> str:
        """Run a command such as `deploy --all`, and return its output.

        Raises:
            CdkCommandError: The command failed, or did not end in time.
        """
        program = str(self.tools.program)
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        return self._run([program, "--app", str(self.app), "--no-notices", "--ci", *arguments], kept)

    def _run(self, command: list[str], kept: Mapping[str, str]) -> str:
        environment = {
            **kept,
            **aws_environment(self.port, None),
            "PATH": f"{self.tools.node}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "AWS_EC2_METADATA_DISABLED": "true",
            "CDK_DISABLE_CLI_TELEMETRY": "true",
        }
        name = " ".join(command[1:])
        try:
            done = subprocess.run(
                command,
                cwd=PLATFORM,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=_COMMAND_SECONDS,
                check=False,
            )
        except FileNotFoundError as error:
            raise CdkCommandError(
                f"{command[0]} does not exist", remedy="Run `mlpipe deploy-local`, which installs it"
            ) from error
        except subprocess.TimeoutExpired as error:
            raise CdkCommandError(
                f"{name} took longer than {_COMMAND_SECONDS} s", remedy=f"See {self.log}"
            ) from error
        with self.log.open("a", encoding="utf-8") as log:
            log.write(f"$ {name}\n{done.stdout}\n")
        if done.returncode != 0:
            raise CdkCommandError(
                f"{name} failed with status {done.returncode}:\n{done.stdout[-_SHOWN:]}",
                remedy=f"See {self.log}",
            )
        return done.stdout
