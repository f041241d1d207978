"""Runs the `mlpipe` command on the stack, as a person would type it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from infra.local.supervision.stack_state import StackError
from infra.packaging import PLATFORM

if TYPE_CHECKING:
    from collections.abc import Mapping

_COMMAND_SECONDS = 120
_SHOWN_CHARACTERS = 2000


@dataclass(frozen=True)
class StartedCommand:
    """A running command.

    Attributes:
        line: The command line.
        process: The process.
    """

    line: str
    process: subprocess.Popen[str]

    def answer(self, *, seconds: float = _COMMAND_SECONDS) -> dict[str, Any]:
        """Wait for the command's end, and return the JSON document that it printed.

        Raises:
            StackError: The command failed, or did not end in time.
        """
        try:
            document, errors = self.process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired as error:
            self.process.kill()
            raise StackError(
                f"{self.line} took longer than {seconds:.0f} s", remedy="See `mlpipe status`"
            ) from error
        if self.process.returncode != 0:
            what = f"{errors.strip()[-_SHOWN_CHARACTERS:]} {document.strip()[-_SHOWN_CHARACTERS:]}"
            raise StackError(f"{self.line} failed: {what.strip()}", remedy="See `mlpipe status`")
        return json.loads(document)


@dataclass(frozen=True)
class MlpipeCommands:
    """Runs each command in a new process.

    Attributes:
        environment: Environment variables of the processes.
    """

    environment: Mapping[str, str]

    def start(self, *words: str) -> StartedCommand:
        """Start a command that prints a JSON document, without waiting for it."""
        process = subprocess.Popen(
            [sys.executable, "-m", "mlpipe_dagster.cli", *words, "--json"],
            cwd=PLATFORM,
            env=dict(self.environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        return StartedCommand(" ".join(("mlpipe", *words)), process)

    def run(self, *words: str) -> dict[str, Any]:
        """Run a command, and return the document that it printed; raises like `StartedCommand.answer`."""
        return self.start(*words).answer()
