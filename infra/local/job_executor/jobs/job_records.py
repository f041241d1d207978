"""What the runner and the three kinds of job agree on: records, workspaces, commands, outcomes."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from infra.local.job_executor.jobs.job_store import Record
    from infra.local.job_executor.jobs.s3_transfer import S3Transfer


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
        shutil.rmtree(self.home, ignore_errors=True)
        for directory in (self.work, self.ml, self.home / "tmp"):
            directory.mkdir(parents=True)

    def discard_data(self) -> None:
        """Remove what the job worked on; its output and exit code stay for a look afterwards."""
        for directory in (self.work, self.ml, self.home / "tmp"):
            shutil.rmtree(directory, ignore_errors=True)


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


class JobKind(Protocol):
    """One kind of job: how it is prepared, where it logs, what is kept of it and how its end is told."""

    record_kind: str
    principal: str
    session_name: str

    def grace_seconds(self, stop_grace_seconds: float) -> float:
        """Return the time between SIGTERM and SIGKILL."""
        ...

    def prepare(self, record: Record, hosts: list[HostWorkspace], s3: S3Transfer) -> list[HostCommand]:
        """Bring the script and its inputs, and return one command per host."""
        ...

    def log_files(self, record: Record, host: HostWorkspace) -> list[LogFile]:
        """Return a host's output files and their streams."""
        ...

    def collect(
        self, record: Record, hosts: list[HostWorkspace], s3: S3Transfer, outcome: JobOutcome
    ) -> None:
        """Upload what is left of a job; safe to repeat."""
        ...

    def describe_end(self, record: Record, hosts: list[HostWorkspace]) -> dict[str, Any]:
        """Return what the files say of the end: `failure` of a failed job, `exit_message`, `metrics`."""
        ...

    def enter(self, record: Record, phase: Phase, outcome: JobOutcome | None, now: float) -> None:
        """Set the record's service-facing state for a new phase."""
        ...


def product_python(argv: list[str]) -> list[str]:
    """Return a container's command with this Python in place of the container's."""
    if argv and Path(argv[0]).name in {"python", "python3"}:
        return [sys.executable, *argv[1:]]
    return argv
