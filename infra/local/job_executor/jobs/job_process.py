"""The parent process of one job's script: it survives the executor and writes the exit code to disk.

Started as `python -I job_process.py SPEC`, standard library only. SPEC is a JSON file with `argv`,
`directory`, `stdout`, `stderr`, `grace_seconds`, `delay_seconds` before the script begins, the `cpus` that it
may use (null for all) and, for a private `/opt/ml`, `mount` (source and target).
The script inherits this process's environment, so credentials are never on disk.

Next to SPEC it writes `started.json` and, at the end, `exit.json`. While it lives it holds `lock`, so others
can see whether it lives even if process ids are reused.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, TextIO

_COMMAND_NOT_FOUND = 127
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_SWEEP_SECONDS = 10
_LOCK_ATTEMPTS = 20
_LOCK_PAUSE_SECONDS = 0.05
_DELAY_STEP_SECONDS = 0.05


def main(spec_path: Path) -> int:
    """Run the script of a spec once, even if other processes were started for the same spec."""
    home = spec_path.parent
    lock = (home / "lock").open("w")
    if not _acquired(lock) or (home / "started.json").exists():
        return 0
    spec = json.loads(spec_path.read_text())
    _adopt_orphans()
    process = _ScriptProcess(spec)
    signal.signal(signal.SIGTERM, process.on_terminate)
    signal.signal(signal.SIGUSR1, process.on_kill)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    _write(home / "started.json", {"pid": os.getpid(), "started_at": time.time()})
    _write(home / "exit.json", {"returncode": process.run(), "ended_at": time.time()})
    return 0


class _ScriptProcess:
    """The script's process group, which can be asked to end or killed."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self._spec = spec
        self._child: subprocess.Popen[bytes] | None = None
        self._terminated = False

    def run(self) -> int:
        """Run the script to its end and return its exit code, negative for a signal."""
        spec = self._spec
        if spec["cpus"]:
            os.sched_setaffinity(0, spec["cpus"])
        if not self._waited(spec["delay_seconds"]):
            return -signal.SIGTERM
        with Path(spec["stdout"]).open("ab") as out, Path(spec["stderr"]).open("ab") as err:
            try:
                if spec["mount"]:
                    mount = ["mount", "--bind", spec["mount"]["source"], spec["mount"]["target"]]
                    subprocess.run(mount, check=True, stdout=err, stderr=err)
                self._child = subprocess.Popen(
                    spec["argv"],
                    cwd=spec["directory"],
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    start_new_session=True,
                    preexec_fn=_end_with_parent,  # noqa: PLW1509 - this process has no other thread yet
                )
            except (OSError, subprocess.CalledProcessError) as error:
                err.write(f"The job's command could not be started: {error}\n".encode())
                return _COMMAND_NOT_FOUND
            if self._terminated:
                self._end_group()
            code = self._child.wait()
        # As in a container, the job's other processes end with the first.
        self._signal_group(signal.SIGKILL)
        _end_orphans()
        return code

    def _waited(self, seconds: float) -> bool:
        """Wait until the script may start; return False if it was stopped meanwhile."""
        starts_at = time.monotonic() + seconds
        while not self._terminated and time.monotonic() < starts_at:
            time.sleep(_DELAY_STEP_SECONDS)
        return not self._terminated

    def on_terminate(self, _number: int, _frame: object) -> None:
        """Ask the group to end, and kill it after its grace period."""
        if self._terminated:
            return
        self._terminated = True
        if self._child is not None:
            self._end_group()

    def on_kill(self, _number: int, _frame: object) -> None:
        """Kill the group at once, without a grace period."""
        self._signal_group(signal.SIGKILL)

    def _end_group(self) -> None:
        self._signal_group(signal.SIGTERM)
        killer = threading.Timer(self._spec["grace_seconds"], self._signal_group, [signal.SIGKILL])
        killer.daemon = True
        killer.start()

    def _signal_group(self, number: signal.Signals) -> None:
        if self._child is None:
            return
        try:
            os.killpg(self._child.pid, number)
        except ProcessLookupError:
            return


def _adopt_orphans() -> None:
    """Make this process the parent of processes that the script leaves in other sessions (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _end_orphans() -> None:
    """Kill the remaining children, and their children once this process has adopted them."""
    deadline = time.monotonic() + _SWEEP_SECONDS
    while (children := _children()) and time.monotonic() < deadline:
        for pid in children:
            try:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, os.WNOHANG)
            except (ProcessLookupError, ChildProcessError):
                continue
        time.sleep(_LOCK_PAUSE_SECONDS)


def _children() -> list[int]:
    """Return the ids of this process's children, including zombies."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name before the last parenthesis may have any characters. State and parent follow it.
            parent = entry.read_text(errors="replace").rpartition(")")[2].split()[1]
        except OSError:
            continue
        if parent == str(os.getpid()):
            found.append(int(entry.parent.name))
    return found


def _end_with_parent() -> None:
    """Let Linux kill the script if this process is killed, since nothing else could stop it then."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _acquired(lock: TextIO) -> bool:
    """Take the lock, with retries: the executor briefly takes it to check whether it is held."""
    for _ in range(_LOCK_ATTEMPTS):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_LOCK_PAUSE_SECONDS)
        else:
            return True
    return False


def _write(path: Path, document: dict[str, Any]) -> None:
    """Replace a file atomically."""
    draft = path.with_suffix(".draft")
    with draft.open("w") as file:
        json.dump(document, file)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
