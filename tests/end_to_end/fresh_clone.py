"""A fresh clone of the last commit, in which a newcomer types the README's commands."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from tests.stack_runs import PROJECT_ROOT, StackRun, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

# The first command installs some 170 packages, perhaps over a slow connection.
_COMMAND_SECONDS = 1200
_CONSOLE_BLOCK = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
# Variables that make, pytest and Python set for the test, and the addresses of a developer's stack.
_NOT_A_NEWCOMERS = re.compile(
    r"PYTHON.*|VIRTUAL_ENV.*|CONDA_.*|MAKE.*|MFLAGS|PYTEST.*|COVERAGE.*|GIT_(?!SSL).*|DAGSTER_.*|UV_.*"
    r"|MLPIPE_.*|SNOWFLAKE_.*|AWS_(?!CA_BUNDLE).*|PWD|OLDPWD"
)


def newcomers_environment() -> dict[str, str]:
    """Return the environment of a new shell, with what installing packages needs."""
    return {name: value for name, value in os.environ.items() if not _NOT_A_NEWCOMERS.fullmatch(name)}


@dataclass(frozen=True)
class CloneStack(StackRun):
    """The local stack of the example project, as the make targets start it."""

    @property
    def environment_file(self) -> Path:
        """The `.env` of the project."""
        return self.state_directory.parents[1] / ".env"


@dataclass(frozen=True)
class FreshClone:
    """A clone of this repository at its last commit.

    Attributes:
        directory: Its folder.
    """

    directory: Path

    @staticmethod
    def made_in(folder: Path) -> FreshClone:
        """Clone the last commit."""
        directory = folder / "clone"
        subprocess.run(
            ["git", "clone", "--quiet", str(PROJECT_ROOT), str(directory)],
            env=newcomers_environment(),
            timeout=300,
            check=True,
        )
        return FreshClone(directory)

    @property
    def stack(self) -> StackRun:
        """The stack that its commands start."""
        return CloneStack(self.directory / "examples" / "flights" / ".mlpipe" / "stack")

    def readme_commands(self) -> list[str]:
        """Return the commands of the first console block of the README."""
        block = _CONSOLE_BLOCK.search((self.directory / "README.md").read_text(encoding="utf-8"))
        assert block is not None
        return [line.removeprefix("$ ") for line in block[1].splitlines() if line.strip()]

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run a command; its output is a pipe, so that a process keeping it open is noticed."""
        return subprocess.run(
            ["bash", "-c", command],
            cwd=self.directory,
            env=newcomers_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_COMMAND_SECONDS,
            check=False,
        )

    @contextmanager
    def running(self, command: str, *, ready: str) -> Iterator[Path]:
        """Run a command until Ctrl-C, and yield its output file once the output has `ready`.

        Ctrl-C ends the command.
        """
        output = self.directory.with_name("output.log")
        with output.open("wb") as stream:
            process = subprocess.Popen(
                ["bash", "-c", command],
                cwd=self.directory,
                env=newcomers_environment(),
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                # A terminal's Ctrl-C reaches make and all it has started.
                process_group=0,
            )
        wait_until(
            lambda: ready in output.read_text() or process.poll() is not None,
            seconds=_COMMAND_SECONDS,
            what=f"{command} says {ready}",
        )
        assert process.poll() is None, output.read_text()
        yield output
        os.killpg(process.pid, signal.SIGINT)
        process.wait(60)

    def processes(self) -> dict[int, str]:
        """Return the command lines of the clone's processes by process id."""
        return {process.pid: " ".join(process.cmdline()) for process in self._processes()}

    def kill_processes(self) -> None:
        """Kill the processes that a failed test left."""
        for process in self._processes():
            # The process may have ended meanwhile.
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    def _processes(self) -> list[psutil.Process]:
        """Return processes with the clone in their working folder, command line or environment."""
        found = []
        mark = str(self.directory)
        for process in psutil.process_iter():
            try:
                texts = [process.cwd(), *process.cmdline(), *process.environ().values()]
            except (psutil.Error, OSError):
                continue  # Another user's, or just ended.
            if any(mark in text for text in texts) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        return found
