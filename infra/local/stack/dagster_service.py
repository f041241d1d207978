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
# The processes end their children in order; a run under way is recorded as ended.
_GRACE_SECONDS = 30


@dataclass(frozen=True)
class DagsterService:
    """Where Dagster runs.

    Attributes:
        url: The address of the web server, without a slash at the end.
        log: Its log.
        process: The process, if this program started it; None if it was found running.
        started_at: When this program started or found it, in seconds since 1970.
    """

    url: str
    log: Path
    process: subprocess.Popen[bytes] | None
    started_at: float = field(default_factory=time.time)

    def require_running(self) -> None:
        """Raise if the process that this program started has ended.

        Raises:
            StackError: It has.
        """
        if self.process is not None and self.process.poll() is not None:
            raise StackError(
                f"Dagster ended by itself with status {self.process.returncode}; its log ends:\n"
                f"{log_tail(self.log)}\n",
                remedy=f"See {self.log}",
            )

    def is_ready(self) -> bool:
        """Tell whether the web server answers."""
        return answers(f"{self.url}/server_info")


def prepared_home(directory: StackDirectory) -> Path:
    """Return the folder of the stack's Dagster instance, configured if it was not yet."""
    home = directory.root / "dagster"
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not (home / "dagster.yaml").is_file():
        _configure(home, _instance_file())
    return home


def _configure(home: Path, instance_file: Path) -> None:
    write_atomically(home / "dagster.yaml", instance_file.read_text(encoding="utf-8"))


def _instance_file() -> Path:
    # Found without its import, which would bring Dagster.
    spec = importlib.util.find_spec("mlpipe_dagster")
    if spec is None or spec.origin is None:
        raise StackError("The package mlpipe_dagster is not installed", remedy="Install mlpipe again")
    return Path(spec.origin).parent / "instances" / "local.yaml"


def dagster_environment(
    directory: StackDirectory, project: Project, variables: Mapping[str, str]
) -> dict[str, str]:
    """Return the environment of Dagster and of the `mlpipe` command: the stack's variables, little else.

    The marks among them are the stack's, so that `mlpipe down` finds whatever Dagster has started.

    Args:
        directory: The stack's state directory.
        project: Whose code location it is.
        variables: What `mlpipe up` wrote.
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
    """Start Dagster, or take the one that runs on this stack already; end what was started.

    It is returned while it starts: see `await_ready`.

    Args:
        directory: The stack's state directory.
        project: Whose code location it serves.
        variables: What `mlpipe up` wrote.
        say: Receives lines for the reader.
        instance_file: How the instance is configured; None as the platform does it.
        port: Of the web server; None for the usual one if it is free, and any otherwise.

    Raises:
        StackError: Another one runs and does not say where, or something else listens on the port.
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
    say(f"Dagster runs on this stack already, at {url}; it is used, and goes on afterwards.")
    yield DagsterService(url, log, None)


def await_ready(service: DagsterService) -> None:
    """Wait until the web server answers.

    Raises:
        StackError: It ended, or did not answer in time.
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
    """Tell whether a loopback address answers with success."""
    # A proxy of the machine cannot reach this machine's loopback.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=_ANSWER_SECONDS) as answer:
            return answer.status == 200  # noqa: PLR2004  # the status named success
    except OSError:
        return False


@contextmanager
def _chosen_port(wanted: int | None) -> Iterator[int]:
    """Choose the wanted port, else the usual one if it is free, else any.

    Many seconds lie between the choice and its use. The lock keeps another stack of the same user, which
    starts just then, from the same choice of the usual one.

    Raises:
        StackError: Something listens on the wanted port.
    """
    if wanted is not None:
        if not port_is_free(wanted):
            raise StackError(f"Port {wanted} is taken", remedy="Name another, or end what listens there")
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
    """Write what tells Dagster where the project's code location is, and return the file."""
    location = {
        "module_name": f"{project.package}.definitions",
        # The package need not be installed.
        "working_directory": str(project.source_folder),
        "location_name": project.location_name,
    }
    path = home / "workspace.yaml"
    # JSON is YAML, too.
    write_atomically(path, json.dumps({"load_from": [{"python_module": location}]}, indent=2) + "\n")
    return path


def _start(environment: Mapping[str, str], workspace: Path, log: Path, port: int) -> DagsterService:
    started_at = time.time()
    command = [sys.executable, "-m", "dagster", "dev", "--host", "127.0.0.1", "--port", str(port)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--log-format", "colored", "--workspace", str(workspace)],
            # Dagster reads the .env of its working directory above all else, which may be another stack's.
            cwd=workspace.parent,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # Ctrl-C at the terminal is for the program that started it, which then ends it in order.
            start_new_session=True,
            # A shell's background job ignores the interrupt, and so would all its descendants.
            preexec_fn=_heed_interrupts,  # noqa: PLW1509  # no thread runs before it
        )
    return DagsterService(f"http://127.0.0.1:{port}", log, process, started_at)


def _heed_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _stop(directory: StackDirectory, service: DagsterService) -> None:
    """End `dagster dev`, which ends its servers, and then whatever is left of them."""
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
