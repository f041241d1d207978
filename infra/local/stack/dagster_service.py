"""Dagster's web server and daemon on the local stack: `dagster dev` on the stack's own instance."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from infra.local.supervision.processes import DAGSTER_ROLE, clean_environment, end_processes, stack_processes
from infra.local.supervision.stack_state import (
    StackError,
    locked,
    log_tail,
    port_is_free,
    write_atomically,
)
from model_declaration.project import VARIABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from infra.local.supervision.stack_state import StackDirectory
    from model_declaration.project import Project

_USUAL_PORT = 3000
_READY_SECONDS = 240
_ANSWER_SECONDS = 10
# The processes need time to end their children in order and to record running runs as ended.
_GRACE_SECONDS = 30


@dataclass(frozen=True)
class DagsterService:
    """A running Dagster.

    Attributes:
        url: The address of the web server, without a slash at the end.
        log: The log file.
        process: The process, if this program started it; None if it was already running.
        started_at: When this program started it or found it running, in seconds since 1970.
    """

    url: str
    log: Path
    process: subprocess.Popen[bytes] | None
    started_at: float = field(default_factory=time.time)

    def require_running(self) -> None:
        """Raise if the process that this program started has ended.

        Raises:
            StackError: The process has ended.
        """
        if self.process is not None and self.process.poll() is not None:
            raise StackError(
                f"Dagster stopped unexpectedly with status {self.process.returncode}; its log ends:\n"
                f"{log_tail(self.log)}\n",
                remedy=f"See {self.log}",
            )

    def is_ready(self) -> bool:
        """Return whether the web server answers."""
        return answers(f"{self.url}/server_info")


def prepared_home(directory: StackDirectory) -> Path:
    """Return the folder of the stack's Dagster instance, and configure the instance if needed."""
    home = directory.root / "dagster"
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not (home / "dagster.yaml").is_file():
        _configure(home, _instance_file())
    return home


def _configure(home: Path, instance_file: Path) -> None:
    write_atomically(home / "dagster.yaml", instance_file.read_text(encoding="utf-8"))


def _instance_file() -> Path:
    # Located without importing it, since that would import Dagster.
    spec = importlib.util.find_spec("mlpipe_dagster")
    if spec is None or spec.origin is None:
        raise StackError("The package mlpipe_dagster is not installed", remedy="Install mlpipe again")
    return Path(spec.origin).parent / "instances" / "local.yaml"


def dagster_environment(
    directory: StackDirectory, project: Project, variables: Mapping[str, str]
) -> dict[str, str]:
    """Return the environment of Dagster and of the `mlpipe` command: the stack's variables and few others.

    It has the variables that mark the stack's processes, so `mlpipe down` finds all processes of Dagster.

    Args:
        directory: The stack's state directory.
        project: The project of the code location.
        variables: The variables that `mlpipe up` wrote.
    """
    return {
        **clean_environment(directory.root, DAGSTER_ROLE),
        **variables,
        VARIABLE: str(project.root),
        "DAGSTER_HOME": str(directory.root / "dagster"),
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
    }


@contextmanager
def running_dagster(
    directory: StackDirectory,
    project: Project,
    variables: Mapping[str, str],
    *,
    say: Callable[[str], None],
    instance_file: Path | None = None,
    port: int | None = None,
) -> Iterator[DagsterService]:
    """Yield the Dagster of this stack; start it if it does not run, and end it afterwards if it was started.

    It may still be starting: see `await_ready`.

    Args:
        directory: The stack's state directory.
        project: The project of the code location.
        variables: The variables that `mlpipe up` wrote.
        say: Receives the lines of output.
        instance_file: The instance's configuration; None for the platform's own.
        port: The web server's port; None for the usual port if it is free, else any.

    Raises:
        StackError: Another Dagster runs at an unknown address, or the port is in use.
    """
    home = prepared_home(directory)
    address, log = home / "address", directory.log("dagster")
    try:
        with locked(home / "lock", wait_seconds=0, on_wait=lambda: None):
            address.unlink(missing_ok=True)
            _end_leftovers(directory)
            _configure(home, instance_file or _instance_file())
            workspace = _write_workspace(home, project)
            with _chosen_port(port) as chosen:
                environment = dagster_environment(directory, project, variables)
                service = _start(environment, workspace, log, chosen)
                write_atomically(address, service.url)
                try:
                    yield service
                finally:
                    _stop(directory, service)
                    address.unlink(missing_ok=True)
            return
    except StackError:
        if not address.is_file():
            raise
    url = address.read_text(encoding="utf-8")
    say(f"Using the Dagster that already runs on this stack, at {url}. It keeps running afterwards.")
    yield DagsterService(url, log, None)


def await_ready(service: DagsterService) -> None:
    """Wait until the web server answers.

    Raises:
        StackError: Dagster ended, or did not answer in time.
    """
    deadline = time.monotonic() + _READY_SECONDS
    while not service.is_ready():
        service.require_running()
        if time.monotonic() > deadline:
            raise StackError(
                f"Dagster did not answer at {service.url} within {_READY_SECONDS} s; its log ends:\n"
                f"{log_tail(service.log)}\n",
                remedy=f"See {service.log}",
            )
        time.sleep(0.5)


def answers(url: str) -> bool:
    """Return whether a loopback address answers with status 200."""
    # A configured proxy cannot reach this machine's loopback interface.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=_ANSWER_SECONDS) as answer:
            return answer.status == 200  # noqa: PLR2004  # the status named success
    except OSError:
        return False


@contextmanager
def _chosen_port(wanted: int | None) -> Iterator[int]:
    """Yield the wanted port, else the usual one if it is free, else any.

    Many seconds pass between the choice and its use. A lock prevents another stack of the same user from
    choosing the usual port in that time.

    Raises:
        StackError: Something listens on the wanted port.
    """
    if wanted is not None:
        if not port_is_free(wanted):
            raise StackError(f"Port {wanted} is taken", remedy="Choose another, or stop what listens there")
        yield wanted
        return
    with ExitStack() as held:
        usual = port_is_free(_USUAL_PORT)
        try:
            lock = Path(tempfile.gettempdir()) / f"mlpipe-dagster-{_USUAL_PORT}-{os.getuid()}.lock"
            held.enter_context(locked(lock, wait_seconds=0, on_wait=lambda: None))
        except (StackError, PermissionError):
            usual = False
        yield _USUAL_PORT if usual else _free_port()


def _write_workspace(home: Path, project: Project) -> Path:
    """Write the workspace file with the project's code location, and return its path."""
    location = {
        "module_name": f"{project.package}.definitions",
        # Because the package may not be installed.
        "working_directory": str(project.source_folder),
        "location_name": project.location_name,
    }
    path = home / "workspace.yaml"
    # JSON is also YAML.
    write_atomically(path, json.dumps({"load_from": [{"python_module": location}]}, indent=2) + "\n")
    return path


def _start(environment: Mapping[str, str], workspace: Path, log: Path, port: int) -> DagsterService:
    started_at = time.time()
    command = [sys.executable, "-m", "dagster", "dev", "--host", "127.0.0.1", "--port", str(port)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--log-format", "colored", "--workspace", str(workspace)],
            # Dagster prefers the .env of its working directory, which may belong to another stack.
            cwd=workspace.parent,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # Ctrl-C goes to this program only, which then ends Dagster in order.
            start_new_session=True,
            # Background jobs of a shell ignore the interrupt, and their descendants inherit that.
            preexec_fn=_restore_interrupt_handler,  # noqa: PLW1509  # no thread runs before it
        )
    return DagsterService(f"http://127.0.0.1:{port}", log, process, started_at)


def _restore_interrupt_handler() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _stop(directory: StackDirectory, service: DagsterService) -> None:
    """End `dagster dev`, which ends its servers, and then all remaining processes."""
    process = service.process
    if process is not None and process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(_GRACE_SECONDS)
    _end_leftovers(directory)


def _end_leftovers(directory: StackDirectory) -> None:
    own = {os.getpid()}
    left = [found for found in stack_processes(directory.root, role=DAGSTER_ROLE) if found.pid not in own]
    end_processes(left, grace_seconds=_GRACE_SECONDS)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
