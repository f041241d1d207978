"""Runs Glue jobs: script from S3, arguments in argv, Glue's logs and states."""

from __future__ import annotations

import hashlib
import sys
from typing import TYPE_CHECKING, Any

from infra.local.job_executor.glue.glue_modules import check_installer, check_zip_of_wheels
from infra.local.job_executor.jobs.job_records import (
    HostCommand,
    JobExecutionError,
    JobOutcome,
    LogFile,
    Phase,
)
from infra.local.job_executor.jobs.s3_transfer import S3Location, inside

if TYPE_CHECKING:
    from pathlib import Path

    from infra.local.job_executor.jobs.job_records import HostWorkspace
    from infra.local.job_executor.jobs.job_store import Record
    from infra.local.job_executor.jobs.s3_transfer import S3Transfer

# https://docs.aws.amazon.com/glue/latest/dg/monitor-continuous-logging.html
_LOG_GROUP_ARGUMENT, _LOG_GROUP_PREFIX = "--custom-logGroup-prefix", "/aws-glue/jobs"
_TAIL_BYTES = 64 * 1024
_MESSAGE_CHARACTERS = 2000

_STATES = {
    JobOutcome.SUCCEEDED: "SUCCEEDED",
    JobOutcome.FAILED: "FAILED",
    JobOutcome.TIMED_OUT: "TIMEOUT",
    JobOutcome.STOPPED: "STOPPED",
    JobOutcome.EXPIRED: "EXPIRED",
    JobOutcome.ERROR: "ERROR",
}


def merged_arguments(record: Record) -> dict[str, str]:
    """Return a run's arguments: defaults, overridden by the run's own and then by non-overridable ones."""
    return {**record["default_arguments"], **record["arguments"], **record["fixed_arguments"]}


def log_group_prefix(record: Record) -> str:
    """Return the prefix of a run's log groups."""
    return merged_arguments(record).get(_LOG_GROUP_ARGUMENT, _LOG_GROUP_PREFIX)


def error_message(stderr: bytes, returncode: int | None) -> str:
    """Return Glue's message for a failed script: its last exception, else its last line.

    Args:
        stderr: The end of the script's standard error.
        returncode: The exit code, negative for a signal, None if the process vanished.
    """
    lines = [line.rstrip() for line in stderr.decode(errors="replace").splitlines() if line.strip()]
    traces = [
        index for index, line in enumerate(lines) if line.startswith("Traceback (most recent call last)")
    ]
    for index in range(traces[-1] + 1 if traces else len(lines), len(lines)):
        if not lines[index].startswith(" "):
            return "\n".join(lines[index:])[:_MESSAGE_CHARACTERS]
    if returncode is None:
        return "The job's process was killed from outside without an exit code."
    if returncode < 0:
        return f"The job's process was killed by signal {-returncode}."
    return lines[-1][:_MESSAGE_CHARACTERS] if lines else f"SystemExit: {returncode}"


class GlueJobKind:
    """Job runs of Glue, with one process each.

    `--extra-py-files` and `--extra-files` act as on Glue. All arguments, defaults and special ones included,
    are in argv as on Glue. The wheels of `--additional-python-modules` are checked but not installed, since
    the product's environment has the modules. Spark settings are passed on but have no effect.
    """

    record_kind = "glue_run"
    principal = "glue.amazonaws.com"
    session_name = "GlueJobRunnerSession"

    def grace_seconds(self, stop_grace_seconds: float) -> float:
        """Return a short grace period, because Glue documents none."""
        return min(stop_grace_seconds, 10.0)

    def prepare(self, record: Record, hosts: list[HostWorkspace], s3: S3Transfer) -> list[HostCommand]:
        """Download script, modules and files.

        Raises:
            JobExecutionError: A file is missing, or a module would be installed from a package index.
        """
        host = hosts[0]
        arguments = merged_arguments(record)
        script_default: str = record["script"]
        script_uri = arguments.get("--scriptLocation", script_default)
        script = inside(host.home / "script", S3Location.parse(script_uri).key.rsplit("/", 1)[-1] or "script")
        s3.download_object(script_uri, script)
        modules = self._download_listed(arguments.get("--extra-py-files", ""), host.home / "modules", s3)
        self._download_listed(arguments.get("--extra-files", ""), host.work, s3)
        if installed := check_installer(arguments):
            for archive in self._download_listed(installed, host.home / "wheels", s3):
                check_zip_of_wheels(archive)
        job_id = hashlib.sha256(record["job_name"].encode()).hexdigest()
        argv = [sys.executable, str(script), "--JOB_NAME", record["job_name"]]
        argv += ["--JOB_RUN_ID", record["id"], "--JOB_ID", f"j_{job_id}"]
        for key, value in arguments.items():
            argv += [key, value]
        # Python finds a single module through its folder, an archive by its own path.
        paths = dict.fromkeys(str(path.parent if path.suffix == ".py" else path) for path in modules)
        return [
            HostCommand(
                argv=argv,
                directory=str(host.work),
                environment={
                    "PYTHONPATH": ":".join(paths),
                    # Spark is configured outside the script, as on Glue.
                    "PYSPARK_SUBMIT_ARGS": "--master local[2] pyspark-shell",
                    "PYSPARK_PYTHON": sys.executable,
                    "SPARK_LOCAL_IP": "127.0.0.1",
                },
            )
        ]

    def _download_listed(self, uris: str, directory: Path, s3: S3Transfer) -> list[Path]:
        targets = []
        for uri in (part.strip() for part in uris.split(",") if part.strip()):
            name = S3Location.parse(uri).key.rsplit("/", 1)[-1]
            target = inside(directory, name)
            if target in targets:
                raise JobExecutionError(f"Two files of the job have the name {name}; the second is {uri}.")
            s3.download_object(uri, target)
            targets.append(target)
        return targets

    def log_files(self, record: Record, host: HostWorkspace) -> list[LogFile]:
        """Return Glue's two log streams, named after the job run."""
        prefix = log_group_prefix(record)
        return [
            LogFile(path=host.stdout, group=f"{prefix}/output", stream=record["id"]),
            LogFile(path=host.stderr, group=f"{prefix}/error", stream=record["id"]),
        ]

    def collect(
        self, record: Record, hosts: list[HostWorkspace], s3: S3Transfer, outcome: JobOutcome
    ) -> None:
        """Do nothing: a Glue script writes to S3 itself."""

    def describe_end(self, record: Record, hosts: list[HostWorkspace]) -> dict[str, Any]:
        """Take the error message from standard error."""
        path = hosts[0].stderr
        tail = b""
        if path.exists():
            with path.open("rb") as file:
                file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
                tail = file.read()
        return {"failure": error_message(tail, record["returncodes"][0])}

    def enter(self, record: Record, phase: Phase, outcome: JobOutcome | None, now: float) -> None:
        """Set Glue's state for a phase."""
        if phase is Phase.LAUNCHED:
            record["state"] = "RUNNING" if record["state"] == "STARTING" else record["state"]
        if phase is Phase.ENDED and outcome is not None:
            record["state"] = _STATES[outcome]
            record["completed_at"] = now
