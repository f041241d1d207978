"""The processes of one job and their environment: started once, adopted after a restart, ended on request."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra.local.job_executor.jobs.job_records import JobExecutionError

if TYPE_CHECKING:
    from collections.abc import Callable

    from infra.local.job_executor.aws_access import AwsCredentials
    from infra.local.job_executor.executor_settings import ExecutorSettings
    from infra.local.job_executor.jobs.job_records import HostWorkspace

_WRAPPER = Path(__file__).with_name("job_process.py")
_START_SECONDS = 60.0
SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"


def job_environment(
    settings: ExecutorSettings, credentials: AwsCredentials, *, own_url: str, host: HostWorkspace
) -> dict[str, str]:
    """Return the variables that every job has: what AWS would give it, and nothing of the executor's own.

    Args:
        settings: Region and endpoints.
        credentials: The job's role.
        own_url: Address of the executor, the endpoint of Glue and SageMaker.
        host: Its home and temporary directory are the process's own, so that no AWS profile of the person at
            the laptop is ever read.
    """
    environment = {
        "AWS_ACCESS_KEY_ID": credentials.access_key_id,
        "AWS_SECRET_ACCESS_KEY": credentials.secret_access_key,
        "AWS_SESSION_TOKEN": credentials.session_token or "",
        "AWS_REGION": settings.region,
        "AWS_DEFAULT_REGION": settings.region,
        "AWS_ENDPOINT_URL": settings.aws_endpoint_url,
        "AWS_ENDPOINT_URL_GLUE": own_url,
        "AWS_ENDPOINT_URL_SAGEMAKER": own_url,
        "AWS_EC2_METADATA_DISABLED": "true",
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), SYSTEM_PATH]),
        "HOME": str(host.work),
        "TMPDIR": str(host.temporary),
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        # Both services' images set it: output arrives while the script runs.
        "PYTHONUNBUFFERED": "1",
    }
    if "JAVA_HOME" in os.environ:
        environment["JAVA_HOME"] = os.environ["JAVA_HOME"]
    return environment


def cpu_share(number: int, hosts: int) -> list[int] | None:
    """Return the processor cores of a host, which shares the machine with the job's other hosts.

    Args:
        number: 1 for the first host.
        hosts: How many the job has.

    Returns:
        At least one core; None for all of them, and where the system cannot keep a process to some.
    """
    if hosts == 1 or not hasattr(os, "sched_getaffinity"):
        return None
    cores = sorted(os.sched_getaffinity(0))
    return cores[number - 1 :: hosts] or [cores[(number - 1) % len(cores)]]


class HostProcesses:
    """All processes of one job.

    Args:
        hosts: Their workspaces, each with a `spec.json`.
    """

    def __init__(self, hosts: list[HostWorkspace]) -> None:
        self._hosts = hosts
        self._children: dict[int, subprocess.Popen[bytes]] = {}
        self._ended: dict[int, int | None] = {}
        self._terminated_at: float | None = None
        self._killed = False

    def none_started(self) -> bool:
        """Tell whether no process was ever started."""
        return not any(self._started(host) for host in self._hosts)

    def abandon(self) -> None:
        """Make sure that a process still on its way up ends before it runs the script."""
        for host in self._hosts:
            (host.home / "started.json").write_text("{}")

    def launch(self, environment: Callable[[HostWorkspace], dict[str, str]]) -> None:
        """Start every process that has not been started, by this executor or by one before it.

        Args:
            environment: The variables that every job has, per host; those of the spec come on top.

        Raises:
            JobExecutionError: One of them did not start; none is left running.
        """
        try:
            self._launch(environment)
        except Exception as error:
            # Whatever it was, such as credentials that could not be had: no process may run on unwatched.
            self._withdraw()
            raise JobExecutionError(
                f"InternalServerError: the job's processes did not start: {error}"
            ) from error

    def _withdraw(self) -> None:
        """End what was started of a job that cannot be started whole."""
        for host in self._hosts:
            child = self._children.get(host.number)
            if child is not None and not self._started(host):
                # It takes no signals yet.
                child.kill()
                child.wait(timeout=_START_SECONDS)
        self._signal(signal.SIGUSR1)
        self._signal(signal.SIGTERM)

    def _launch(self, environment: Callable[[HostWorkspace], dict[str, str]]) -> None:
        deadline = time.monotonic() + _START_SECONDS
        for host in self._hosts:
            if not self._started(host):
                spec = json.loads((host.home / "spec.json").read_text())
                argv = [sys.executable, "-I", str(_WRAPPER), str(host.home / "spec.json")]
                if spec["mount"]:
                    argv = ["unshare", "--mount", *argv]
                # A session of its own: the job outlives an executor that is killed.
                self._children[host.number] = subprocess.Popen(
                    argv,
                    env={**environment(host), **spec["environment"]},
                    cwd=host.work,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )
        for host in self._hosts:
            while not self._started(host):
                child = self._children[host.number]
                if time.monotonic() > deadline or (child.poll() is not None and not self._alive(host)):
                    raise JobExecutionError(f"{host.name} gave no sign of life")
                time.sleep(0.02)

    def all_ended(self) -> bool:
        """Tell whether every process has ended, and note the exit codes."""
        for host in self._hosts:
            if host.number not in self._ended:
                self._look(host)
        return len(self._ended) == len(self._hosts)

    def any_failed(self) -> bool:
        """Tell whether a process has ended badly while others may still run."""
        return any(code != 0 for code in self._ended.values())

    def returncodes(self) -> list[int | None]:
        """Return the exit codes in host order; nothing for a process that vanished."""
        return [self._ended[host.number] for host in self._hosts]

    def terminate(self) -> None:
        """Ask every process to end; each kills its own group when its grace is over."""
        if self._terminated_at is None:
            self._terminated_at = time.monotonic()
            self._signal(signal.SIGTERM)

    def kill_after(self, seconds: float) -> None:
        """Kill what still runs so long after it was asked to end."""
        overdue = self._terminated_at is not None and time.monotonic() - self._terminated_at > seconds
        if overdue and not self._killed:
            self._killed = True
            self._signal(signal.SIGUSR1)

    def _signal(self, number: signal.Signals) -> None:
        for host in self._hosts:
            # Only a held lock proves that the process id is still the wrapper's.
            if host.number not in self._ended and self._started(host) and self._alive(host):
                try:
                    os.kill(self._read(host, "started.json")["pid"], number)
                except ProcessLookupError:
                    continue

    def _look(self, host: HostWorkspace) -> None:
        if child := self._children.get(host.number):
            child.poll()
        # The order matters: a wrapper writes its exit code before it lets go of the lock.
        alive = self._alive(host)
        if (host.home / "exit.json").exists():
            self._ended[host.number] = self._read(host, "exit.json")["returncode"]
        elif not alive:
            self._ended[host.number] = None

    def _started(self, host: HostWorkspace) -> bool:
        return (host.home / "started.json").exists()

    def _alive(self, host: HostWorkspace) -> bool:
        with (host.home / "lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def _read(self, host: HostWorkspace, name: str) -> dict[str, Any]:
        return json.loads((host.home / name).read_text())
