"""The supervisor: starts the components, reports a component's end within a second, stops them in order."""

from __future__ import annotations

import logging
import os
import signal
import time
from typing import TYPE_CHECKING

from infra.local.supervision.components import build_components
from infra.local.supervision.processes import DAGSTER_ROLE, end_processes, stack_processes
from infra.local.supervision.stack_state import StackStatus, locked, read_ports, write_status
from infra.local.supervision.supervised_component import SupervisedComponent

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

    from infra.local.supervision.stack_state import StackDirectory
    from model_declaration.project import Project

_PERIOD_SECONDS = 0.25
# Other components need it, so it is stopped after them.
_STOPPED_LAST = "aws"

_logger = logging.getLogger(__name__)


class Supervisor:
    """Runs the components of one stack until a signal ends it.

    SIGTERM and SIGINT stop everything; SIGHUP restarts failed and dead components. Nothing is restarted
    without a request, so that a loss of data does not go unnoticed.

    Args:
        directory: The stack's state directory; its ports must be recorded.
        project: The stack's project.
        names: The components to run.
    """

    def __init__(self, directory: StackDirectory, project: Project, names: Sequence[str]) -> None:
        ports = read_ports(directory)
        components = build_components(directory, project, {name: ports[name] for name in names})
        self._directory = directory
        self._components = [SupervisedComponent(component, directory) for component in components]
        self._restart_requests = 0
        self._stop_asked = False
        self._mend_asked = False
        self._written: StackStatus | None = None
        self._directory_stat = directory.root.stat()

    def run(self) -> None:
        """Supervise until a stop signal, then end all processes of the stack."""
        signal.signal(signal.SIGTERM, self._note_signal)
        signal.signal(signal.SIGINT, self._note_signal)
        signal.signal(signal.SIGHUP, self._note_signal)
        with locked(self._directory.root / "supervisor.lock", wait_seconds=0, on_wait=lambda: None):
            _logger.info("the supervisor of %s runs as process %d", self._directory.root, os.getpid())
            try:
                while not self._stop_asked and not self._directory_was_removed():
                    self._step()
                    time.sleep(_PERIOD_SECONDS)
            finally:
                self._stop()

    def _step(self) -> None:
        """Let every component take its next step and write what changed."""
        mend = self._mend_asked
        for supervised in self._components:
            supervised.advance(
                {other.component.name for other in self._components if other.status.state == "ready"}
            )
            self._write_status()
        if mend:
            # Only after every component was checked, or a death that is not noticed yet would be missed.
            self._mend_asked = False
            for supervised in self._components:
                supervised.allow_restart()
            self._restart_requests += 1
            self._write_status()

    def _stop(self) -> None:
        """Stop Dagster, then the components, and last the one that the others write to."""
        end_processes(stack_processes(self._directory.root, role=DAGSTER_ROLE), grace_seconds=20)
        for last in (False, True):
            group = [each for each in self._components if (each.component.name == _STOPPED_LAST) is last]
            for supervised in group:
                supervised.ask_to_stop()
            asked = time.monotonic()
            for supervised in group:
                supervised.finish_stop(
                    deadline=asked + supervised.component.stop_seconds, on_progress=self._write_status
                )
                self._write_status()
        # Processes that a component started in another session and did not end.
        end_processes(stack_processes(self._directory.root), grace_seconds=5)
        _logger.info("the supervisor ends")

    def _directory_was_removed(self) -> bool:
        """Return whether the state directory was removed, for example by `git clean`."""
        try:
            homeless = not os.path.samestat(self._directory_stat, self._directory.root.stat())
        except FileNotFoundError:
            homeless = True
        if homeless:
            _logger.error("%s was removed: everything is stopped", self._directory.root)
        return homeless

    def _write_status(self) -> None:
        """Write the status file if anything changed; if that fails, the next step tries again."""
        status = StackStatus(
            supervisor_pid=os.getpid(),
            restart_requests=self._restart_requests,
            components={supervised.component.name: supervised.status for supervised in self._components},
        )
        if status != self._written:
            try:
                write_status(self._directory, status)
            except OSError as error:
                # For example a full disk. The components must still be watched and stopped.
                _logger.error("the status cannot be written: %s", error)  # noqa: TRY400 -- the reason says all
            else:
                self._written = status

    def _note_signal(self, number: int, _frame: FrameType | None) -> None:
        """Record the request; the loop handles it between two steps."""
        if number == signal.SIGHUP:
            self._mend_asked = True
        else:
            self._stop_asked = True
