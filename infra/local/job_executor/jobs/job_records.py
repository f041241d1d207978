"""Types shared by the runner and the three kinds of job: phases, outcomes, workspaces, commands."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path


class JobExecutionError(Exception):
    """A job cannot start, or its results cannot be stored. The message becomes the job's failure reason."""


class Phase(StrEnum):
    """The executor's progress with a job; stored in its record, so that a restart continues from there."""

    PREPARING = "preparing"
    LAUNCHED = "launched"
    FINISHING = "finishing"
    ENDED = "ended"


class Ending(StrEnum):
    """The reason why a job was asked to end."""

    STOP = "stop"
    TIMEOUT = "timeout"
    SHUTDOWN = "shutdown"
    EXPIRY = "expiry"
    ERROR = "error"


class JobOutcome(StrEnum):
    """How a job ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    STOPPED = "stopped"
    EXPIRED = "expired"
    ERROR = "error"


@dataclass(frozen=True)
class HostWorkspace:
    """The files of one process of a job.

    Args:
        home: The process's own folder.
        number: 1 for the first host.
        private_mounts: Whether the process has `ml` mounted as `/opt/ml`.
    """

    home: Path
    number: int
    private_mounts: bool

    @property
    def ml(self) -> Path:
        """The path of the `/opt/ml` layout as the executor sees it."""
        return self.home / "ml"

    @property
    def ml_root(self) -> str:
        """The path of the `/opt/ml` layout as the script sees it."""
        return "/opt/ml" if self.private_mounts else str(self.ml)

    @property
    def work(self) -> Path:
        """The working folder, empty at the start."""
        return self.home / "work"

    @property
    def temporary(self) -> Path:
        """The folder for temporary files, outside `home` because a socket's path has at most 107 bytes."""
        return self._temporary_link.resolve()

    @property
    def _temporary_link(self) -> Path:
        return self.home / "tmp"

    @property
    def stdout(self) -> Path:
        """The file with the script's standard output."""
        return self.home / "stdout"

    @property
    def stderr(self) -> Path:
        """The file with the script's standard error."""
        return self.home / "stderr"

    @property
    def name(self) -> str:
        """SageMaker's name for the host."""
        return f"algo-{self.number}"

    def reset(self) -> None:
        """Remove the folders and create them again."""
        self.discard_data()
        shutil.rmtree(self.home, ignore_errors=True)
        for directory in (self.work, self.ml):
            directory.mkdir(parents=True)
        self._temporary_link.symlink_to(tempfile.mkdtemp(prefix="mlpipe-job-"))

    def discard_data(self) -> None:
        """Remove the job's data; its output and exit code stay for inspection."""
        for directory in (self.work, self.ml, self.temporary):
            shutil.rmtree(directory, ignore_errors=True)
        self._temporary_link.unlink(missing_ok=True)


@dataclass(frozen=True, kw_only=True)
class HostCommand:
    """The command of one host.

    Args:
        argv: The command line.
        environment: Variables in addition to those that every job has.
        directory: The working folder as the script sees it.
        one_output: Whether standard error goes to standard output, as in a container's log.
        private_ml: Whether the host needs `/opt/ml`.
    """

    argv: list[str]
    directory: str
    environment: dict[str, str] = field(default_factory=dict)
    one_output: bool = False
    private_ml: bool = False


@dataclass(frozen=True, kw_only=True)
class LogFile:
    """An output file and its CloudWatch Logs stream."""

    path: Path
    group: str
    stream: str
