"""A script's SageMaker container: its files, its job, and its messages for Describe calls."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prediction_contract.errors import ContractError
from prediction_contract.jobs.job_image import require_needed_packages
from prediction_contract.limits import MAX_EXIT_MESSAGE_CHARACTERS
from prediction_contract.printable_text import escape_unprintable


class JobSetupError(ContractError):
    """The script cannot run the way the job was started."""


@dataclass(frozen=True)
class Container:
    """The files of a SageMaker container.

    Attributes:
        root: `/opt/ml`, or the value of `MLPIPE_ML_ROOT`.
    """

    root: Path

    @classmethod
    def of_process(cls) -> Container:
        """Return this process's container."""
        return cls(Path(os.environ.get("MLPIPE_ML_ROOT", "/opt/ml")))

    def processing_job(self) -> ProcessingJob | None:
        """Return the processing job, or None outside of a job.

        Raises:
            JobSetupError: The job has several hosts, and this host is not among them.
        """
        path = self.root / "config" / "processingjobconfig.json"
        if not path.is_file():
            return None
        described = json.loads(path.read_text())
        resources = json.loads((self.root / "config" / "resourceconfig.json").read_text())
        hosts = tuple(sorted(map(str, resources["hosts"])))
        host = str(resources.get("current_host", hosts[0] if len(hosts) == 1 else ""))
        if host not in hosts:
            raise JobSetupError(
                f"The container's configuration names {host!r} as its host, but the job's hosts are "
                f"{', '.join(hosts)}",
                remedy="Start the job again",
            )
        # Each host has its own file, which is written once when the host starts.
        created_at = datetime.fromtimestamp(path.stat().st_mtime, tz=UTC)
        return ProcessingJob(
            described.get("ProcessingJobName"), described.get("ProcessingJobArn"), created_at, host, hosts
        )

    def require_one_host(self) -> None:
        """Refuse a processing job with several instances, because each would write the whole output.

        Raises:
            JobSetupError: The job has several instances.
        """
        job = self.processing_job()
        if job is not None and len(job.hosts) != 1:
            raise JobSetupError(
                f"The processing job has {len(job.hosts)} instances, each of which would write the whole "
                "output",
                remedy="Start it with InstanceCount 1",
            )

    def write_output(self, output: str, name: str, content: bytes) -> None:
        """Write a file to an output of a processing job. SageMaker uploads it after the job."""
        folder = self.root / "processing" / "output" / output
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)

    def write_message(self, name: str, text: str) -> None:
        """Write a text for DescribeProcessingJob (`message`) or DescribeTrainingJob (`failure`)."""
        folder = self.root / "output"
        if self.root.is_dir():
            folder.mkdir(exist_ok=True)
            (folder / name).write_text(text[:MAX_EXIT_MESSAGE_CHARACTERS], encoding="utf-8")


@dataclass(frozen=True)
class ProcessingJob:
    """A processing job, as described in its container.

    Attributes:
        name: The job's name.
        arn: The job's ARN.
        created_at: When the container's configuration was written on this host.
        host: The name of this host.
        hosts: The names of all hosts, sorted; the first plans and commits.
    """

    name: str | None
    arn: str | None
    created_at: datetime
    host: str
    hosts: tuple[str, ...]

    @property
    def identity(self) -> str:
        """The job's unique id: its ARN or name.

        Raises:
            JobSetupError: The container's configuration has neither ARN nor name.
        """
        identity = self.arn or self.name
        if not identity:
            raise JobSetupError(
                "The container's configuration names no job", remedy="Pass --batch_id to the script"
            )
        return identity


class _PrintableLine(logging.Formatter):
    """Writes each message as one line, whatever it quotes; tracebacks keep their own lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's name
        return escape_unprintable(super().formatMessage(record))


def log_to_stdout() -> None:
    """Write this process's log to standard output, one printable line for each message."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_PrintableLine("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def run_script(
    main: Callable[[Sequence[str], Container], Mapping[str, Any]], *, failure_file: str = "message"
) -> int:
    """Run a script's main function and return the process's exit code.

    The result of main is printed and written as JSON of at most 1,024 characters for the ExitMessage of
    DescribeProcessingJob. An error's text and notes are written to the failure file, and the error is raised.
    """
    log_to_stdout()
    container = Container.of_process()
    try:
        require_needed_packages(os.environ)
        result = main(sys.argv[1:], container)
    except Exception as error:
        lines = [f"{type(error).__name__}: {error}", *getattr(error, "__notes__", ())]
        container.write_message(failure_file, "\n".join(lines))
        raise
    text = json.dumps(result)
    print(text)  # noqa: T201  # the last line of the job's log is its result
    if failure_file == "message":
        container.write_message("message", text)
    return 0
