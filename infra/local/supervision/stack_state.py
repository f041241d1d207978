"""A local stack's state directory: ports, the status of its processes, locks, logs, data."""

from __future__ import annotations

import fcntl
import json
import os
import random
import socket
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

# Below the ephemeral ports of Linux and macOS, so outgoing connections do not take a stopped stack's ports.
_PORT_RANGE = range(20_000, 32_000)
_HIGHEST_PORT = 65_535
_TAIL_LINES = 15


class StackError(Exception):
    """A command on the local stack failed.

    Args:
        what: The fault with its component or file, as one sentence without a full stop.
        remedy: What the user can do, as one sentence without a full stop.
    """

    def __init__(self, what: str, *, remedy: str) -> None:
        self.what = what
        self.remedy = remedy
        super().__init__(f"{what}. {remedy}.")


@dataclass(frozen=True, kw_only=True)
class ComponentStatus:
    """The state of one component.

    Attributes:
        state: `waiting`, `starting`, `ready`, `failed` (never ready), `dead` (ended by itself), `stopped`.
        since: When the component entered the state, in seconds since 1970.
        port: The component's loopback port.
        pid: The id of its process, if one was started.
        started_at: When that process was started, in seconds since 1970.
        detail: The reason why it failed or died, and the remedy.
        loss: What was lost when it died; kept until it is ready again, and reported then.
    """

    state: str
    since: float
    port: int
    pid: int | None = None
    started_at: float | None = None
    detail: str = ""
    loss: str = ""

    def entering(self, state: str, *, detail: str = "") -> ComponentStatus:
        """Return this status changed to another state as of now."""
        return replace(self, state=state, since=time.time(), detail=detail)


@dataclass(frozen=True, kw_only=True)
class StackStatus:
    """The status file's content.

    Attributes:
        supervisor_pid: The process that wrote it.
        restart_requests: How often the supervisor was asked to restart dead components.
        components: The components by name, in the order of their start.
    """

    supervisor_pid: int
    restart_requests: int
    components: Mapping[str, ComponentStatus]


@dataclass(frozen=True)
class StackDirectory:
    """The paths of one stack below its state directory."""

    root: Path

    @property
    def ports_file(self) -> Path:
        """The file with each component's port at the last start."""
        return self.root / "ports.json"

    @property
    def iam_file(self) -> Path:
        """A file that exists while the AWS emulator checks signatures and permissions."""
        return self.root / "enforces-iam"

    @property
    def status_file(self) -> Path:
        """The file with the status of the components."""
        return self.root / "status.json"

    @property
    def data(self) -> Path:
        """The folder for the components' data, which survives a stop."""
        return self.root / "state"

    def log(self, component: str) -> Path:
        """Return the log file of a component or of the supervisor."""
        return self.root / "logs" / f"{component}.log"

    def create(self) -> None:
        """Create the directories, readable by their owner only."""
        for directory in (self.root, self.root / "logs", self.data):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)


def write_atomically(path: Path, text: str) -> None:
    """Replace a file atomically, with mode 0600."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    # Removed first, because open() applies the mode only to new files.
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)


def read_ports(directory: StackDirectory) -> dict[str, int]:
    """Return the recorded ports by component; empty before the first start.

    Raises:
        StackError: The file exists, but is not a mapping of names to ports.
    """
    document = _read_json(directory.ports_file, remedy="Delete it to get new ports; it holds no data")
    if document is None:
        return {}
    if not isinstance(document, dict) or not all(
        isinstance(name, str) and type(port) is int and 0 < port <= _HIGHEST_PORT
        for name, port in document.items()
    ):
        raise StackError(
            f"{directory.ports_file} is not a JSON object of ports by component name",
            remedy="Delete it to get new ports; it holds no data",
        )
    return document


def choose_ports(directory: StackDirectory, components: Sequence[str]) -> dict[str, int]:
    """Choose and record a free loopback port for each component, if possible the recorded one."""
    recorded = read_ports(directory)
    chosen: dict[str, int] = {}
    held: list[socket.socket] = []
    try:
        for name in components:
            candidates = [recorded[name]] if name in recorded else []
            # Random, so that stacks that start at the same time rarely choose the same ports.
            candidates += random.SystemRandom().sample(_PORT_RANGE, 50)
            for port in [*candidates, 0]:
                listener = _bind(port)
                if listener is not None:
                    held.append(listener)
                    chosen[name] = listener.getsockname()[1]
                    break
            else:
                raise StackError(
                    f"no free loopback port for {name}", remedy="Stop programs that listen on ports"
                )
    finally:
        for listener in held:
            listener.close()
    # A partial start must not forget the ports of the components it leaves out.
    write_atomically(directory.ports_file, json.dumps({**recorded, **chosen}, indent=2) + "\n")
    return chosen


def port_is_free(port: int) -> bool:
    """Return whether a server could listen on the loopback port now."""
    listener = _bind(port)
    if listener is None:
        return False
    listener.close()
    return True


def read_status(directory: StackDirectory) -> StackStatus | None:
    """Return the supervisor's last status, or None if no stack was ever started here.

    Raises:
        StackError: The file exists, but is not a status.
    """
    remedy = "Run `mlpipe down` and delete it; it holds no data"
    document = _read_json(directory.status_file, remedy=remedy)
    if document is None:
        return None
    try:
        return StackStatus(
            supervisor_pid=int(document["supervisor_pid"]),
            restart_requests=int(document["restart_requests"]),
            components={name: ComponentStatus(**entry) for name, entry in document["components"].items()},
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StackError(
            f"{directory.status_file} is not a stack's status ({error!r})", remedy=remedy
        ) from error


def write_status(directory: StackDirectory, status: StackStatus) -> None:
    """Write the status file."""
    write_atomically(directory.status_file, json.dumps(asdict(status), indent=2) + "\n")


@contextmanager
def locked(path: Path, *, wait_seconds: float, on_wait: Callable[[], None]) -> Iterator[IO[str]]:
    """Hold an advisory lock, which is released when the process ends in any way.

    Args:
        path: The lock file; its directory must exist.
        wait_seconds: How long to wait for another holder; 0 to try once.
        on_wait: Called once if there is another holder.

    Raises:
        StackError: Another process held the lock for all of that time.
    """
    deadline = time.monotonic() + wait_seconds
    announced = False
    with path.open("a+", encoding="utf-8") as stream:
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if not announced:
                    on_wait()
                    announced = True
                if time.monotonic() >= deadline:
                    raise StackError(
                        f"another process has held {path} for more than {wait_seconds:.0f} s",
                        remedy="If another `mlpipe up` or `mlpipe down` hangs, stop it, then try again",
                    ) from error
                time.sleep(0.2)
        yield stream


def log_tail(path: Path) -> str:
    """Return the last lines of a log, indented, or a sentence if there is no log."""
    try:
        with path.open("rb") as stream:
            stream.seek(max(0, path.stat().st_size - 16_384))
            text = stream.read().decode("utf-8", errors="replace")
    except FileNotFoundError:
        return f"    ({path} does not exist)"
    return "\n".join(f"    {line}" for line in text.splitlines()[-_TAIL_LINES:]) or f"    ({path} is empty)"


def _bind(port: int) -> socket.socket | None:
    """Listen on a loopback port, or return None if another process does."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    # As servers do. Otherwise a released port would seem in use while old connections linger.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen(1)
    except OSError:
        listener.close()
        return None
    return listener


def _read_json(path: Path, *, remedy: str) -> Any:
    """Return a JSON file's document, or None if there is no file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise StackError(f"{path} cannot be read ({error})", remedy=remedy) from error
