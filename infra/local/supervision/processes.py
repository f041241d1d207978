"""Find and end the processes of a stack: each has the stack's state directory in its environment."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from infra.environments.environment_cache import CACHE_VARIABLES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

# A process id does not identify a process, because ids are reused. The environment at its start does, and
# descendants inherit it even if their parent was killed.
STACK_VARIABLE = "MLPIPE_LOCAL_STACK"
ROLE_VARIABLE = "MLPIPE_LOCAL_ROLE"
SUPERVISOR_ROLE = "supervisor"
DAGSTER_ROLE = "dagster"

# The variables that components inherit: enough to run programs, but no credentials or settings.
_INHERITED = (
    *("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "JAVA_HOME", "LD_LIBRARY_PATH", "SYSTEMROOT"),
    *CACHE_VARIABLES,
)

# A process that uses a smaller share of a processor counts as idle.
_WORKING_SHARE = 0.02
_LOOK_SECONDS = 0.2
# A process that saves its state writes something within this time, even if it must gather much first.
_COMPUTING_SECONDS = 15 * 60


def clean_environment(state_directory: Path, role: str) -> dict[str, str]:
    """Return a stack process's environment: few inherited variables and the variables that mark the stack."""
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    return {**inherited, "PYTHONUNBUFFERED": "1", STACK_VARIABLE: str(state_directory), ROLE_VARIABLE: role}


def is_alive(process: psutil.Process) -> bool:
    """Return whether the process runs; a zombie does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def stack_processes(state_directory: Path, *, role: str | None = None) -> list[psutil.Process]:
    """Return the running processes of the stack, or of one of its roles, without the calling process."""
    found = []
    for process in psutil.process_iter():
        if process.pid == os.getpid():
            continue
        try:
            environment = process.environ()
        except (psutil.Error, OSError):
            continue  # Another user's, or just ended: not one of the stack's.
        own_role = _role(environment, state_directory)
        if own_role is not None and role in (None, own_role) and is_alive(process):
            found.append(process)
    return found


def related_processes(pid: int) -> list[psutil.Process]:
    """Return the descendants of a process and the members of its session, even if the process has ended."""
    members: dict[int, psutil.Process] = {}
    try:
        for process in psutil.Process(pid).children(recursive=True):
            members[process.pid] = process
    except psutil.NoSuchProcess:
        members.clear()
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == pid and process.pid != pid:
                members[process.pid] = process
        except (ProcessLookupError, PermissionError):
            continue
    return [process for process in members.values() if is_alive(process)]


def leads_session(process: psutil.Process) -> bool:
    """Return whether a process leads a session, as components started by a supervisor do."""
    try:
        return os.getsid(process.pid) == process.pid
    except ProcessLookupError:
        return False


def end_processes(
    processes: Iterable[psutil.Process],
    *,
    grace_seconds: float,
    saves_to: Path | None = None,
    on_progress: Callable[[str], None] = lambda _progress: None,
) -> list[psutil.Process]:
    """Ask the processes to end, and kill them after a grace period.

    Args:
        processes: The processes to end.
        grace_seconds: How long they may take to end. With `saves_to`, how long each may save without
            progress.
        saves_to: The folder to which they save their state; None if they save none.
        on_progress: Receives the progress of saving.

    Returns:
        The processes that had to be killed.
    """
    waiting = [process for process in processes if _signal(process, signal.SIGTERM)]
    if saves_to is None:
        stubborn = _wait_gone(waiting, grace_seconds)
    else:
        stubborn = [
            process
            for process in waiting
            if not wait_while_it_saves(
                process, saves_to=saves_to, idle_seconds=grace_seconds, on_progress=on_progress
            )
        ]
    for process in stubborn:
        _signal(process, signal.SIGKILL)
    _wait_gone(stubborn, 10)
    return stubborn


def wait_while_it_saves(
    process: psutil.Process,
    *,
    saves_to: Path,
    idle_seconds: float,
    on_progress: Callable[[str], None],
    computing_seconds: float = _COMPUTING_SECONDS,
) -> bool:
    """Wait for a process that was asked to end, as long as it saves its state.

    Args:
        process: The process, which computes or writes while it saves.
        saves_to: The folder of its saved state.
        idle_seconds: How long it may neither compute nor write.
        on_progress: Receives the progress about five times a second.
        computing_seconds: How long it may compute without writing.

    Returns:
        Whether it ended; False if it is idle, or computes without writing.
    """
    started = worked_at = wrote_at = time.monotonic()
    seen: tuple[float, int] | None = None
    while is_alive(process):
        now = time.monotonic()
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            break
        work = (times.user + times.system, size_of(saves_to))
        if seen is None or work[1] != seen[1]:
            wrote_at = now
        elif now - wrote_at > computing_seconds:
            return False
        if seen is None or work[1] != seen[1] or work[0] - seen[0] >= idle_seconds * _WORKING_SHARE:
            seen, worked_at = work, now
        elif now - worked_at > idle_seconds:
            return False
        on_progress(f"saving its state for {now - started:.0f} s; {work[1] / 1e6:,.0f} MB on disk")
        time.sleep(_LOOK_SECONDS)
    return True


def size_of(folder: Path) -> int:
    """Return the total bytes of a folder's files; files that are deleted during the count are ignored."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                total += Path(parent, name).stat().st_size
    return total


def holds_port(pid: int, port: int) -> bool:
    """Return whether the process or one of its descendants listens on the loopback port.

    It uses the process's list of sockets, because an answer on the port may come from another process.
    """
    try:
        process = psutil.Process(pid)
        return any(_listens(member, port) for member in [process, *process.children(recursive=True)])
    except psutil.NoSuchProcess:
        return False


def port_holder(port: int) -> str:
    """Return a description of the process that listens on the port, for messages."""
    for process in psutil.process_iter():
        try:
            if _listens(process, port):
                return f"process {process.pid} ({process.name()})"
        except psutil.NoSuchProcess:
            continue
    return "a process of another user"


def _role(environment: Mapping[str, str], state_directory: Path) -> str | None:
    """Return the role of a process with this environment in the stack, or None."""
    if environment.get(STACK_VARIABLE) == str(state_directory):
        return environment.get(ROLE_VARIABLE)
    # A job does not inherit the executor's environment, but its TMPDIR lies below the executor's data.
    data = state_directory / "state"
    temporary = Path(environment.get("TMPDIR", "/"))
    return temporary.relative_to(data).parts[0] if data in temporary.parents else None


def _listens(process: psutil.Process, port: int) -> bool:
    """Return whether the process itself listens on the loopback port; False if that is not readable."""
    try:
        connections = process.net_connections(kind="tcp")
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False
    return any(
        connection.status == psutil.CONN_LISTEN and tuple(connection.laddr) == ("127.0.0.1", port)
        for connection in connections
    )


def _signal(process: psutil.Process, number: signal.Signals) -> bool:
    """Send a signal to the process, unless its id was reused; return False if the process is gone."""
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return False
    return True


def _wait_gone(processes: list[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Wait for the processes to end; return those that still run after this many seconds."""
    deadline = time.monotonic() + seconds
    remaining = [process for process in processes if is_alive(process)]
    while remaining and time.monotonic() < deadline:
        time.sleep(0.05)
        remaining = [process for process in remaining if is_alive(process)]
    return remaining
