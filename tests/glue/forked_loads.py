"""Runs the load script in forks of a process that has already imported its dependencies.

So a run costs what it does, and not two seconds of imports before. For each line of standard input, a JSON
list of the script's arguments, it writes the fork's process id; for the line after it, the exit status of the
fork once it has ended. Until then its id is nobody else's.
"""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
import traceback
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, NoReturn

import boto3

from glue_scripts import load_predictions

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SCRIPT = Path(load_predictions.__file__)


def _run(argv: list[str]) -> NoReturn:
    """Run the script to its end, in place of this process."""
    sys.argv = [str(SCRIPT), *argv]
    try:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    except BaseException:  # noqa: BLE001  # an interpreter would print it and end likewise
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def serve() -> None:
    """Fork for each line of standard input."""
    # Standard output is the script's log.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for service in ("dynamodb", "s3", "secretsmanager"):
        # Loads the service's description once, not in each fork.
        boto3.client(service)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _run(json.loads(line))
        _tell(answers, pid)
        sys.stdin.readline()
        _, status = os.waitpid(pid, 0)
        _tell(answers, os.waitstatus_to_exitcode(status))


def _tell(answers: IO[str], number: int) -> None:
    answers.write(f"{number}\n")
    answers.flush()


class Forker:
    """The client of a forking process."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self._process = process
        self._log = log

    def start(self, argv: list[str]) -> int:
        """Start the script; return its process id."""
        self._send(json.dumps(argv))
        return int(self._answer())

    def ended(self) -> int:
        """Wait until the started script has ended; return its exit status, negative if it was killed."""
        self._send("")
        return int(self._answer())

    def said(self) -> str:
        """Return the output of all runs."""
        return self._log.read_text()

    def _send(self, line: str) -> None:
        stdin: IO[str] | None = self._process.stdin
        assert stdin is not None
        stdin.write(f"{line}\n")
        stdin.flush()

    def _answer(self) -> str:
        stdout: IO[str] | None = self._process.stdout
        assert stdout is not None
        answer = stdout.readline()
        assert answer, self.said()
        return answer


@contextmanager
def forker(environment: Mapping[str, str], log: Path) -> Iterator[Forker]:
    """Run a forking process; it ends when its standard input is closed."""
    with (
        log.open("w") as errors,
        subprocess.Popen(
            [sys.executable, "-m", "tests.glue.forked_loads"],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        yield Forker(process, log)


if __name__ == "__main__":
    serve()
