"""The `mlpipe` command, as a person would type it on the stack."""

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
_TOLD_CHARACTERS = 2000


@dataclass(frozen=True)
class StartedCommand:
    """A command that runs.

    Attributes:
        line: What was typed.
        process: The process.
    """

    line: str
    process: subprocess.Popen[str]

    def answer(self, *, seconds: float = _COMMAND_SECONDS) -> dict[str, Any]:
        """Wait for the end, and return the document that the command printed.

        Raises:
            StackError: It failed, or did not end in time.
        """
        try:
            document, told = self.process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired as error:
            self.process.kill()
            raise StackError(
                f"{self.line} did not end within {seconds:.0f} s", remedy="See `mlpipe status`"
            ) from error
        if self.process.returncode != 0:
            what = f"{told.strip()[-_TOLD_CHARACTERS:]} {document.strip()[-_TOLD_CHARACTERS:]}"
            raise StackError(f"{self.line} failed: {what.strip()}", remedy="See `mlpipe status`")
        return json.loads(document)


@dataclass(frozen=True)
class MlpipeCommands:
    """Runs commands, each in a process of its own.

    Attributes:
        environment: Of the processes.
    """

    environment: Mapping[str, str]

    def start(self, *words: str) -> StartedCommand:
        """Start a command that answers with a document, and go on."""
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
        """Run a command to its end, and return the document that it printed; errors as `answer`."""
        return self.start(*words).answer()
