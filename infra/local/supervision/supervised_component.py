"""One component under the supervisor: its process and its state."""

from __future__ import annotations

import logging
import queue
import signal
import subprocess
import threading
import time
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import psutil

from infra.local.supervision.processes import (
    end_processes,
    holds_port,
    is_alive,
    port_holder,
    related_processes,
    stack_processes,
    wait_while_it_saves,
)
from infra.local.supervision.stack_state import (
    ComponentStatus,
    StackError,
    log_tail,
    port_is_free,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from infra.local.supervision.components import Component
    from infra.local.supervision.stack_state import StackDirectory

_LOG_LIMIT_BYTES = 20_000_000

_logger = logging.getLogger(__name__)


class SupervisedComponent:
    """Starts, watches and stops one component's process.

    Args:
        component: The component to run.
        directory: The stack's state directory.
    """

    def __init__(self, component: Component, directory: StackDirectory) -> None:
        self.component = component
        self.status = ComponentStatus(state="waiting", since=time.time(), port=component.port)
        self._directory = directory
        self._log = directory.log(component.name)
        self._log_offset = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._relatives: list[psutil.Process] = []
        self._answers: queue.SimpleQueue[str | None] | None = None
        self._last_answer = "it was not probed yet"

    def allow_restart(self) -> None:
        """Allow a failed or dead component to start again. For others, clear the recorded loss."""
        if self.status.state in ("failed", "dead"):
            self.status = self.status.entering("waiting")
        else:
            self.status = replace(self.status, loss="")

    def advance(self, ready: Collection[str]) -> None:
        """Take the next step: start the process, check whether it is ready, or notice that it ended.

        Args:
            ready: The names of the components that are ready.
        """
        if self.status.state == "waiting" and all(need in ready for need in self.component.needs):
            self._start()
        elif self.status.state in ("starting", "ready") and self._process is not None:
            exit_code = self._process.poll()
            if exit_code is not None:
                self._record_end(exit_code)
            elif self.status.state == "starting":
                self._check_ready()

    def ask_to_stop(self) -> None:
        """Send the process the signal on which it saves its state and ends."""
        if self._process is not None and self._process.poll() is None:
            # Looked up now, because descendants cannot be found once the process has ended.
            self._relatives = related_processes(self._process.pid)
            self._process.terminate()

    def finish_stop(self, *, deadline: float, on_progress: Callable[[], None]) -> None:
        """Wait for a process that was asked to stop, then end its remaining descendants.

        Args:
            deadline: The time on the monotonic clock at which to kill it, unless it still saves its state.
            on_progress: Called when the status has new progress.
        """
        if self._process is None or self.status.state not in ("starting", "ready"):
            self._end_leftovers()
            return
        detail = ""
        if not self._has_ended(self._process, deadline, on_progress):
            self._process.kill()
            self._process.wait(timeout=10)
            detail = (
                f"was killed: it did not stop, and made no progress for {self.component.stop_seconds:.0f} s"
            )
        end_processes([process for process in self._relatives if is_alive(process)], grace_seconds=5)
        self._end_leftovers()
        if not detail:
            detail = self.component.stop_fault(self._log, offset=self._log_offset) or ""
        loss = self.component.loss if detail else ""
        self.status = replace(self.status.entering("stopped", detail=detail), loss=loss)
        if detail:
            _logger.error("%s stopped: %s", self.component.name, detail)
        else:
            _logger.info("%s stopped", self.component.name)

    def _has_ended(
        self, process: subprocess.Popen[bytes], deadline: float, on_progress: Callable[[], None]
    ) -> bool:
        """Wait for the process to end, until the deadline or as long as it saves its state."""

        def report(progress: str) -> None:
            self.status = replace(self.status, detail=progress)
            on_progress()

        saves_to = self.component.saves_to
        if saves_to is not None:
            with suppress(psutil.NoSuchProcess):
                return wait_while_it_saves(
                    psutil.Process(process.pid),
                    saves_to=saves_to,
                    idle_seconds=self.component.stop_seconds,
                    on_progress=report,
                )
        try:
            process.wait(timeout=max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            return False
        return True

    def _start(self) -> None:
        """Start the process, unless its state is corrupt or its port taken."""
        self._end_leftovers()
        try:
            self._require_free_port()
            self.component.check_state()
        except StackError as error:
            self._fail(str(error))
            return
        if self._log.exists() and self._log.stat().st_size > _LOG_LIMIT_BYTES:
            self._log.replace(self._log.with_suffix(".log.1"))
        with self._log.open("ab") as log:
            self._log_offset = log.tell()
            # In a new session: Ctrl-C in a terminal does not reach it, and its children can be found.
            self._process = subprocess.Popen(
                self.component.command,
                cwd=self.component.folder,
                env=dict(self.component.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._answers = None
        now = time.time()
        # The loss stays in the status, so that the command that requested the start can report it.
        self.status = replace(self.status.entering("starting"), pid=self._process.pid, started_at=now)
        _logger.info(
            "%s starts as process %d on port %d", self.component.name, self._process.pid, self.component.port
        )

    def _require_free_port(self) -> None:
        """Raise if another process uses the port: it would answer instead of the component."""
        port = self.component.port
        if not port_is_free(port):
            raise StackError(
                f"port {port} is in use by {port_holder(port)}",
                remedy="Run `mlpipe down` and `mlpipe up` to choose another port",
            )

    def _check_ready(self) -> None:
        """Become ready if the process holds its port and answers; fail if it took too long."""
        if self._process is None or self.status.started_at is None:
            return
        if not holds_port(self._process.pid, self.component.port):
            self._last_answer = f"its process does not listen on 127.0.0.1:{self.component.port}"
        elif self._answers is None:
            self._answers = _start_probe(self.component.probe)
        elif not self._answers.empty():
            problem = self._answers.get()
            self._answers = None
            if problem is None:
                self._record_ready()
                return
            self._last_answer = problem
        seconds = time.time() - self.status.started_at
        if seconds > self.component.ready_seconds:
            self._kill()
            self._fail(
                f"not ready after {seconds:.0f} s: {self._last_answer}. "
                f"See {self._log}, then run `mlpipe up`."
            )

    def _record_ready(self) -> None:
        """Become ready, unless it started without the state it had."""
        fault = self.component.start_fault(self._log, offset=self._log_offset)
        if fault is not None:
            # Killed instead of asked to end: it would overwrite the saved state with its empty one.
            self._kill()
            self._fail(
                f"stopped, because it could not load its saved state and would have overwritten it: {fault}. "
                f"The files in {self._directory.data / self.component.name} are unchanged. Restore them "
                "from a copy, or move the named service's file away, then run `mlpipe up`."
            )
            return
        self.status = self.status.entering("ready")
        _logger.info("%s is ready", self.component.name)

    def _record_end(self, exit_code: int) -> None:
        """Record that the process ended by itself."""
        how = (
            f"was killed by {signal.Signals(-exit_code).name}"
            if exit_code < 0
            else f"ended with status {exit_code}"
        )
        if self.status.state == "starting":
            self._fail(f"{how} before it was ready. Its log {self._log} ends:\n{log_tail(self._log)}")
            return
        started = time.strftime("%H:%M:%S", time.localtime(self.status.started_at))
        detail = f"process {self.status.pid} {how}; `mlpipe up` restarts it"
        loss = f"{self.component.loss} (started {started})"
        self.status = replace(self.status.entering("dead", detail=detail), loss=loss)
        _logger.error("%s is dead: %s. Lost: %s", self.component.name, detail, loss)

    def _fail(self, detail: str) -> None:
        """Record that the component did not start."""
        self.status = self.status.entering("failed", detail=detail)
        _logger.error("%s failed: %s", self.component.name, detail)

    def _kill(self) -> None:
        """End the process and its descendants at once."""
        if self._process is None:
            return
        relatives = related_processes(self._process.pid)
        self._process.kill()
        self._process.wait(timeout=10)
        end_processes(relatives, grace_seconds=1)

    def _end_leftovers(self) -> None:
        """End the children of a killed process, unless the component finds them again after a restart."""
        if not self.component.children_outlive_process or self.status.state == "stopped":
            leftovers = stack_processes(self._directory.root, role=self.component.name)
            end_processes(leftovers, grace_seconds=2)


def _start_probe(probe: Callable[[], str | None]) -> queue.SimpleQueue[str | None]:
    """Run the probe in a thread, so that a silent component does not delay noticing another one's death."""
    answers: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    threading.Thread(target=lambda: answers.put(probe()), daemon=True).start()
    return answers
