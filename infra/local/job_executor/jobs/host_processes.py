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
    """Return the variables that every job has: those that AWS would set, and none of the executor's.

    Args:
        settings: The region and endpoints.
        credentials: The credentials of the job's role.
        own_url: The executor's address, the endpoint of Glue and SageMaker.
        host: The host. Its own home and temporary folder hide the user's AWS profile.
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
        # Both services' images set this, so that output arrives while the script runs.
        "PYTHONUNBUFFERED": "1",
    }
    if "JAVA_HOME" in os.environ:
        environment["JAVA_HOME"] = os.environ["JAVA_HOME"]
    return environment


def cpu_share(number: int, hosts: int) -> list[int] | None:
    """Return a host's share of the machine's processor cores.

    Args:
        number: 1 for the first host.
        hosts: The job's number of hosts.

    Returns:
        At least one core; None for all cores, or if the system does not support CPU affinity.
    """
    if hosts == 1 or not hasattr(os, "sched_getaffinity"):
        return None
    cores = sorted(os.sched_getaffinity(0))
    return cores[number - 1 :: hosts] or [cores[(number - 1) % len(cores)]]


class HostProcesses:
    """All processes of one job.

    Args:
        hosts: The processes' workspaces, each with a `spec.json`.
    """

    def __init__(self, hosts: list[HostWorkspace]) -> None:
        self._hosts = hosts
        self._children: dict[int, subprocess.Popen[bytes]] = {}
        self._ended: dict[int, int | None] = {}
        self._terminated_at: float | None = None
        self._killed = False

    def none_started(self) -> bool:
        """Return whether no process was ever started."""
        return not any(self._started(host) for host in self._hosts)

    def abandon(self) -> None:
        """Make processes that are still starting end before they run the script."""
        for host in self._hosts:
            (host.home / "started.json").write_text("{}")

    def launch(self, environment: Callable[[HostWorkspace], dict[str, str]]) -> None:
        """Start every process that neither this executor nor an earlier one has started.

        Args:
            environment: Returns a host's variables that every job has; the spec's variables override them.

        Raises:
            JobExecutionError: A process did not start. No process is left running.
        """
        try:
            self._launch(environment)
        except Exception as error:
            # After any error, such as missing credentials, no process may continue unwatched.
            self._kill_unstarted()
            raise JobExecutionError(
                f"InternalServerError: the job's processes did not start: {error}"
            ) from error

    def _kill_unstarted(self) -> None:
        """End the started processes of a job that cannot be started completely."""
        for host in self._hosts:
            child = self._children.get(host.number)
            if child is not None and not self._started(host):
                # It does not handle signals yet.
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
                # In a new session, so that the job survives if the executor is killed.
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
                    raise JobExecutionError(f"{host.name} did not start in time")
                time.sleep(0.02)

    def all_ended(self) -> bool:
        """Return whether every process has ended, and record the exit codes."""
        for host in self._hosts:
            if host.number not in self._ended:
                self._look(host)
        return len(self._ended) == len(self._hosts)

    def any_failed(self) -> bool:
        """Return whether a process has failed, while others may still run."""
        return any(code != 0 for code in self._ended.values())

    def returncodes(self) -> list[int | None]:
        """Return the exit codes in host order; None for a process that vanished."""
        return [self._ended[host.number] for host in self._hosts]

    def terminate(self) -> None:
        """Ask every process to end; each kills its process group after its grace period."""
        if self._terminated_at is None:
            self._terminated_at = time.monotonic()
            self._signal(signal.SIGTERM)

    def kill_after(self, seconds: float) -> None:
        """Kill processes that still run this long after they were asked to end."""
        overdue = self._terminated_at is not None and time.monotonic() - self._terminated_at > seconds
        if overdue and not self._killed:
            self._killed = True
            self._signal(signal.SIGUSR1)

    def _signal(self, number: signal.Signals) -> None:
        for host in self._hosts:
            # Only a held lock proves that the process id still belongs to the wrapper.
            if host.number not in self._ended and self._started(host) and self._alive(host):
                try:
                    os.kill(self._read(host, "started.json")["pid"], number)
                except ProcessLookupError:
                    continue

    def _look(self, host: HostWorkspace) -> None:
        if child := self._children.get(host.number):
            child.poll()
        # In this order, because a wrapper writes its exit code before it releases the lock.
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
