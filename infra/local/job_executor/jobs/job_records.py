"""What the runner and the three kinds of job agree on: phases, outcomes, workspaces, commands."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path


class JobExecutionError(Exception):
    """A job cannot start or its results cannot be stored; the message becomes its failure reason."""


class Phase(StrEnum):
    """How far the executor is with a job; kept in its record, so that a restart goes on from there."""

    PREPARING = "preparing"
    LAUNCHED = "launched"
    FINISHING = "finishing"
    ENDED = "ended"


class Ending(StrEnum):
    """Why a job was told to end before it ended by itself."""

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
    """The files of one of a job's processes.

    Args:
        home: Directory that belongs to this process alone.
        number: 1 for the first host.
        private_mounts: Whether the process sees `ml` as `/opt/ml`.
    """

    home: Path
    number: int
    private_mounts: bool

    @property
    def ml(self) -> Path:
        """The `/opt/ml` layout, as the executor sees it."""
        return self.home / "ml"

    @property
    def ml_root(self) -> str:
        """The `/opt/ml` layout, as the script sees it."""
        return "/opt/ml" if self.private_mounts else str(self.ml)

    @property
    def work(self) -> Path:
        """The fresh working directory."""
        return self.home / "work"

    @property
    def temporary(self) -> Path:
        """The folder for temporary files, which lies elsewhere: a socket's path has 107 bytes at most."""
        return self._temporary_link.resolve()

    @property
    def _temporary_link(self) -> Path:
        return self.home / "tmp"

    @property
    def stdout(self) -> Path:
        """The script's standard output."""
        return self.home / "stdout"

    @property
    def stderr(self) -> Path:
        """The script's standard error."""
        return self.home / "stderr"

    @property
    def name(self) -> str:
        """SageMaker's name of the host."""
        return f"algo-{self.number}"

    def reset(self) -> None:
        """Make the directories again."""
        self.discard_data()
        shutil.rmtree(self.home, ignore_errors=True)
        for directory in (self.work, self.ml):
            directory.mkdir(parents=True)
        self._temporary_link.symlink_to(tempfile.mkdtemp(prefix="mlpipe-job-"))

    def discard_data(self) -> None:
        """Remove what the job worked on; its output and exit code stay for a look afterwards."""
        for directory in (self.work, self.ml, self.temporary):
            shutil.rmtree(directory, ignore_errors=True)
        self._temporary_link.unlink(missing_ok=True)


@dataclass(frozen=True, kw_only=True)
class HostCommand:
    """What one host runs.

    Args:
        argv: Command line.
        environment: Variables beyond those that every job has.
        directory: Working directory, as the script sees it.
        one_output: Whether standard error joins standard output, as in a container's log.
        private_ml: Whether the host needs `/opt/ml`.
    """

    argv: list[str]
    directory: str
    environment: dict[str, str] = field(default_factory=dict)
    one_output: bool = False
    private_ml: bool = False


@dataclass(frozen=True, kw_only=True)
class LogFile:
    """One output file and the CloudWatch Logs stream that it goes to."""

    path: Path
    group: str
    stream: str
