"""Shared parts of processing and training jobs: the `/opt/ml` layout, hosts, the container's log and end."""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra.local.job_executor.image_store import StoredImage
from infra.local.job_executor.jobs.host_processes import SYSTEM_PATH
from infra.local.job_executor.jobs.job_records import HostCommand, JobExecutionError, LogFile
from prediction_contract.jobs.job_image import HELD_VARIABLE
from prediction_contract.limits import MAX_EXIT_MESSAGE_CHARACTERS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infra.local.job_executor.jobs.job_records import HostWorkspace
    from infra.local.job_executor.jobs.job_store import Record
    from infra.local.job_executor.jobs.s3_transfer import S3Transfer

_LOG = logging.getLogger(__name__)
ML = "/opt/ml"


def private_mounts_work(scratch: Path) -> bool:
    """Return whether each process can have a private `/opt/ml`, which needs root on Linux.

    Args:
        scratch: A directory to mount for the test.
    """
    unshare = shutil.which("unshare")
    if os.geteuid() != 0 or unshare is None or shutil.which("mount") is None:
        return False
    try:
        Path(ML).mkdir(parents=True, exist_ok=True)
        scratch.mkdir(parents=True, exist_ok=True)
        trial = [unshare, "--mount", "mount", "--bind", str(scratch), ML]
        subprocess.run(trial, check=True, capture_output=True, timeout=30)
    except (OSError, subprocess.SubprocessError) as error:
        _LOG.info(
            "private mounts are not possible here (%s); scripts find their files by MLPIPE_ML_ROOT", error
        )
        return False
    return True


class ContainerJobKind:
    """The base of processing and training jobs."""

    principal = "sagemaker.amazonaws.com"
    session_name = "SageMaker"
    log_group: str

    def grace_seconds(self, stop_grace_seconds: float) -> float:
        """Return SageMaker's grace period, 120 s by default."""
        return stop_grace_seconds

    def log_files(self, record: Record, host: HostWorkspace) -> list[LogFile]:
        """Return the only log stream of a host, named after job, host and the job's creation time."""
        stream = f"{record['name']}/{host.name}-{int(record['created_at'])}"
        return [LogFile(path=host.stdout, group=self.log_group, stream=stream)]


def container_command(
    record: Record, host: HostWorkspace, argv: list[str], variables: Mapping[str, str]
) -> HostCommand:
    """Return a host's command: a container's command in the environment that replaces the job's image.

    Args:
        record: The job's record.
        host: The host.
        argv: The container's command line.
        variables: The job's own variables, in addition to those that every container has.

    Raises:
        JobExecutionError: The environment was removed after the job was created.
    """
    image = StoredImage(**record["image"])
    if not image.python.exists():
        raise JobExecutionError(
            f"ClientError: the environment {image.environment} of the job's image was removed. Run "
            "`mlpipe up` to create it again, then start the job again."
        )
    return HostCommand(
        argv=_script_paths(host, _image_python(argv, image)),
        directory=str(host.work),
        environment={
            HELD_VARIABLE: image.packages,
            "PATH": os.pathsep.join([str(image.python.parent), SYSTEM_PATH]),
            **variables,
            "MLPIPE_ML_ROOT": host.ml_root,
        },
        one_output=True,
        private_ml=host.private_mounts,
    )


def host_path(host: HostWorkspace, container_path: str) -> Path:
    """Return the executor's path for a container's path `/opt/ml/...`."""
    return host.ml / Path(container_path).relative_to(ML)


def _script_paths(host: HostWorkspace, argv: list[str]) -> list[str]:
    """Replace `/opt/ml` paths in a command line by the layout's path if the process has no private one."""
    if host.private_mounts:
        return argv
    return [
        host.ml_root + word[len(ML) :] if word == ML or word.startswith(f"{ML}/") else word for word in argv
    ]


def _image_python(argv: list[str], image: StoredImage) -> list[str]:
    """Return a container's command with the environment's Python instead of the container's."""
    if argv and Path(argv[0]).name in {"python", "python3"}:
        return [str(image.python), *argv[1:]]
    return argv


def write_config(host: HostWorkspace, name: str, document: Any) -> None:
    """Write one of the JSON files that SageMaker provides to the container."""
    path = host.ml / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))


def host_names(hosts: list[HostWorkspace]) -> list[str]:
    """Return the names of a job's hosts in SageMaker's order: `algo-10` before `algo-2`."""
    return sorted(host.name for host in hosts)


def shard(objects: list[Any], distribution: str | None, host: HostWorkspace, hosts: int) -> list[Any]:
    """Return a host's share of the objects of an input."""
    return objects[host.number - 1 :: hosts] if distribution == "ShardedByS3Key" else objects


def fetch_input(source: dict[str, Any], directory: str, hosts: list[HostWorkspace], s3: S3Transfer) -> None:
    """Download an S3 input to every host's layout.

    Args:
        source: The source with `S3Uri`, `S3DataType` and optionally `S3DataDistributionType`.
        directory: The container's path for the input.
        hosts: All hosts of the job.
        s3: Transfers under the job's role.
    """
    objects = s3.keys(source["S3Uri"], source["S3DataType"])
    for host in hosts:
        share = shard(objects, source.get("S3DataDistributionType"), host, len(hosts))
        s3.download(share, host_path(host, directory))


def read_message(host: HostWorkspace, name: str) -> str | None:
    """Return a script's message from `/opt/ml/output`, cut to SageMaker's 1,024 characters."""
    path = host.ml / "output" / name
    if not path.is_file():
        return None
    with path.open(encoding="utf-8", errors="replace") as file:
        return file.read(MAX_EXIT_MESSAGE_CHARACTERS)


def failed_host(record: Record, hosts: list[HostWorkspace]) -> tuple[HostWorkspace, int | None]:
    """Return the host that failed first, and its exit code."""
    ended = list(zip(hosts, record["returncodes"], strict=True))
    failed = [(host, code) for host, code in ended if code != 0]
    return min(failed, key=lambda pair: _ended_at(pair[0]), default=ended[0])


def _ended_at(host: HostWorkspace) -> float:
    path = host.home / "exit.json"
    # A process that vanished has no end time; any other failure is more informative.
    return json.loads(path.read_text())["ended_at"] if path.exists() else math.inf


def failure_reason(message: str | None, code: int | None) -> str:
    """Return SageMaker's failure reason, from the script's message and exit code."""
    shown = message or "See job logs for more information"
    return f"AlgorithmError: {shown}, {_describe_exit(code)}"[:MAX_EXIT_MESSAGE_CHARACTERS]


def _describe_exit(code: int | None) -> str:
    """Return in words how a process ended; signals are 128 plus their number, as in a container."""
    if code is None:
        return "the process was killed from outside without an exit code"
    return f"exit code: {code if code >= 0 else 128 - code}"
