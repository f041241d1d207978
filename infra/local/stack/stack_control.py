"""Start and stop a local stack and show its state: `mlpipe up`, `mlpipe down` and `mlpipe status`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING

from infra.environments.environment_cache import EnvironmentCreationError, cache_folder
from infra.environments.platform_environments import make_platform_environment
from infra.local.stack.stack_inspection import (
    current_state,
    end_leftovers,
    find_supervisor,
    losses,
    running_components,
)
from infra.local.stack.stack_provisioning import provision_stack, say_next_steps
from infra.local.supervision.components import build_components, component_names
from infra.local.supervision.processes import (
    SUPERVISOR_ROLE,
    clean_environment,
    end_processes,
    is_alive,
    stack_processes,
)
from infra.local.supervision.stack_state import (
    StackDirectory,
    StackError,
    StackStatus,
    choose_ports,
    locked,
    log_tail,
    read_ports,
    read_status,
)
from infra.packaging import PLATFORM
from model_declaration.project import VARIABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path
    from typing import IO

    import psutil

    from infra.local.supervision.components import Component
    from model_declaration.project import Project

# Deadlines for the supervisor; the supervisor enforces those of the components.
_SETTLED_SECONDS = 180
_SILENT_SECONDS = 150
_PROGRESS_SECONDS = 5
_OTHER_COMMAND_SECONDS = 420
_ANSWER_SECONDS = 30
_ENDED_STATES = ("failed", "dead")
_SETTLED_STATES = ("ready", *_ENDED_STATES)
_DOWN_STATES = ("stopped", "failed", "dead", "waiting")


@dataclass(frozen=True)
class StackControl:
    """The commands on one stack.

    Attributes:
        directory: The stack's state directory.
        environment_file: The file for the stack's addresses.
        project: The stack's project.
        say: Receives the lines of output.
        names: The components to run; all if empty.
        provisioned: Whether resources are created and the environment file is written.
        enforces_iam: Whether the AWS emulator checks signatures and permissions, except for the root key.
    """

    directory: StackDirectory
    environment_file: Path
    project: Project
    _: KW_ONLY
    say: Callable[[str], None]
    names: Sequence[str] = ()
    provisioned: bool = True
    enforces_iam: bool = False

    def up(self) -> None:
        """Start missing components, provision resources, write the environment file.

        Raises:
            StackError: A component did not become ready, or its saved state is corrupt.
        """
        started = time.monotonic()
        if "'" in str(self.directory.root):
            raise StackError(
                f"Snowflake's stand-in cannot keep databases in {self.directory.root}: its path contains a '",
                remedy="Move the project to a folder without ' in its path",
            )
        # Archives and sample data lie there, even if the stack's directory is elsewhere.
        self.project.make_state_folder()
        self.directory.create()
        with self._exclusive():
            supervisor = find_supervisor(self.directory)
            try:
                make_platform_environment("stack", cache_folder(os.environ), say=self.say)
            except EnvironmentCreationError as error:
                raise StackError(error.what, remedy=error.remedy) from error
            if supervisor is None:
                self._set_iam()
                self._start_supervisor()
            elif self._is_running():
                self.say("The stack is up already; all components answer.")
            else:
                self._restart_failed(supervisor)
            if self.provisioned:
                # Also if the stack already ran: a model may have been added, or a resource removed by hand.
                provision_stack(self.directory, self.environment_file, self.project, say=self.say)
            self.say(f"The stack is up ({time.monotonic() - started:.1f} s).")
            say_next_steps(self.directory, self.environment_file if self.provisioned else None, say=self.say)

    def down(self) -> None:
        """Stop all processes; the components' data on disk stays.

        Raises:
            StackError: A process could not be ended, or a component ended without saving its state.
        """
        if not self.directory.root.exists() and not stack_processes(self.directory.root):
            self.say(f"The stack is down: it was never started in {self.directory.root}.")
            return
        # If it was removed while the stack was up, the processes must still be ended.
        self.directory.create()
        with self._exclusive():
            supervisor = find_supervisor(self.directory)
            if supervisor is not None:
                supervisor.send_signal(signal.SIGTERM)
                self._wait_for_end(supervisor)
            ended, killed = end_leftovers(self.directory, on_progress=self._progress_printer())
            remaining = stack_processes(self.directory.root)
            if remaining:
                pids = ", ".join(str(process.pid) for process in remaining)
                raise StackError(
                    f"processes of the stack could not be stopped: {pids}", remedy="Kill them by hand"
                )
            if ended or killed:
                self.say(f"Stopped {len(ended) + len(killed)} processes that the supervisor left running.")
            if supervisor is not None:
                self._raise_if_unsaved()
            self.say("The stack is down. Its data is kept for the next `mlpipe up`.")

    def status(self) -> bool:
        """Print the state of each component.

        Returns:
            Whether the supervisor runs and all components are ready and answer.
        """
        status = read_status(self.directory)
        supervised = find_supervisor(self.directory) is not None
        left = [] if supervised else stack_processes(self.directory.root)
        if not (supervised or left or (status is not None and _has_running(status))):
            self.say("The stack is down. `mlpipe up` starts it.")
            return False
        if status is None:
            self.say(
                f"Processes of the stack run, but {self.directory.status_file} is missing. "
                "`mlpipe down` stops them."
            )
            return False
        healthy = supervised
        if not supervised:
            pids = ", ".join(str(process.pid) for process in left) or "none"
            self.say(f"The supervisor is dead. Processes it left running: {pids}.")
            self.say("`mlpipe up` restarts the stack, `mlpipe down` stops it.")
        for component in running_components(self.directory, self.project, status):
            state, detail = current_state(component, status)
            healthy = healthy and state == "ready"
            self.say(_line(component, state, detail))
        return healthy

    @property
    def _names(self) -> Sequence[str]:
        return self.names or component_names(self.project)

    def _exclusive(self) -> AbstractContextManager[IO[str]]:
        """Hold the stack's lock, so that other commands on this stack wait."""
        return locked(
            self.directory.root / "lock",
            wait_seconds=_OTHER_COMMAND_SECONDS,
            on_wait=lambda: self.say("Waiting for another command on this stack to finish."),
        )

    def _is_running(self) -> bool:
        """Return whether all requested components run and answer."""
        status = read_status(self.directory)
        if status is None:
            return False
        if set(status.components) != set(self._names):
            raise StackError(
                f"the stack already runs with other components: {', '.join(status.components)}",
                remedy="Run `mlpipe down` first",
            )
        if self.directory.iam_file.exists() != self.enforces_iam:
            raise StackError(
                f"the stack already runs {'without' if self.enforces_iam else 'with'} --enforce-iam",
                remedy="Run `mlpipe down` first",
            )
        deadline = time.monotonic() + _ANSWER_SECONDS
        for component in running_components(self.directory, self.project, status):
            state, detail = current_state(component, status)
            # A busy machine or component may answer late.
            while state == "silent" and time.monotonic() < deadline:
                time.sleep(0.5)
                state, detail = current_state(component, status)
            if state == "silent":
                log = self.directory.log(component.name)
                raise StackError(
                    f"{component.name}: {detail}. Its log {log} ends:\n{log_tail(log)}\n",
                    remedy="Run `mlpipe down`, then `mlpipe up`",
                )
            if state != "ready":
                return False
        return True

    def _set_iam(self) -> None:
        if self.enforces_iam:
            self.directory.iam_file.touch()
        else:
            self.directory.iam_file.unlink(missing_ok=True)

    def _start_supervisor(self) -> None:
        """Start a supervisor, and report what the last stack lost if it was not stopped in order."""
        previous = read_status(self.directory)
        ended, killed = end_leftovers(self.directory, on_progress=self._progress_printer())
        if ended or killed:
            self.say(
                "The last supervisor was killed. "
                f"Stopped {len(ended) + len(killed)} processes that it left running."
            )
        lost = losses(self.directory, self.project, previous, ended_in_order=ended) if previous else []
        ports = choose_ports(self.directory, self._names)
        listed = ", ".join(f"{name} on {port}" for name, port in ports.items())
        self.say(f"Starting in {self.directory.root}: {listed}")
        only = [argument for name in self._names for argument in ("--only", name)]
        with self.directory.log("supervisor").open("ab") as log:
            # Detached from the caller's session and pipes, because a caller may wait until they close.
            supervisor = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "infra.local",
                    "supervise",
                    "--state-dir",
                    str(self.directory.root),
                    *only,
                ],
                cwd=PLATFORM,
                env={
                    **clean_environment(self.directory.root, SUPERVISOR_ROLE),
                    VARIABLE: str(self.project.root),
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._print_outcomes(supervisor.pid, lambda: supervisor.poll() is None, restart_requests=0)
        self._say_losses(lost)

    def _restart_failed(self, supervisor: psutil.Process) -> None:
        """Let the running supervisor restart failed or dead components, and report what was lost."""
        self._await_status(supervisor.pid, lambda: is_alive(supervisor), lambda _status: True)
        before = read_status(self.directory)
        supervisor.send_signal(signal.SIGHUP)
        restart_requests = before.restart_requests + 1 if before else 0
        lost = self._print_outcomes(
            supervisor.pid, lambda: is_alive(supervisor), restart_requests=restart_requests
        )
        self._say_losses(lost)

    def _print_outcomes(
        self, pid: int, alive: Callable[[], bool], *, restart_requests: int
    ) -> list[tuple[str, str]]:
        """Print each component's outcome when it is known, until all have one.

        Args:
            pid: The supervisor's process id.
            alive: Whether the supervisor still runs.
            restart_requests: The number of restart requests that its status must include to be current.

        Returns:
            The losses from deaths before the restart, by component.

        Raises:
            StackError: A component did not become ready.
        """
        reported: set[str] = set()

        def is_settled(status: StackStatus) -> bool:
            if status.restart_requests < restart_requests:
                return False
            for component in running_components(self.directory, self.project, status):
                entry = status.components[component.name]
                detail = _outcome(component, status)
                if component.name not in reported and detail is not None:
                    reported.add(component.name)
                    seconds = entry.since - (entry.started_at or entry.since)
                    self.say(_line(component, entry.state, detail, seconds=seconds))
            return len(reported) == len(status.components)

        status = self._await_status(pid, alive, is_settled)
        not_ready = [name for name, entry in status.components.items() if entry.state != "ready"]
        if not_ready:
            raise StackError(
                f"{', '.join(not_ready)} did not become ready (see above)",
                remedy=f"Fix the cause and run `mlpipe up` again; logs are in {self.directory.root / 'logs'}",
            )
        return [(name, entry.loss) for name, entry in status.components.items() if entry.loss]

    def _await_status(
        self, pid: int, alive: Callable[[], bool], accept: Callable[[StackStatus], bool]
    ) -> StackStatus:
        """Wait until the supervisor with this process id has written a status for which `accept` is true."""
        ports = read_ports(self.directory)
        components = build_components(
            self.directory, self.project, {name: ports[name] for name in self._names}
        )
        seconds = _SETTLED_SECONDS + sum(component.ready_seconds for component in components)
        deadline = time.monotonic() + seconds
        log = self.directory.log("supervisor")
        while time.monotonic() < deadline:
            running = alive()
            status = read_status(self.directory)
            if status is not None and status.supervisor_pid == pid and accept(status):
                return status
            if not running:
                raise StackError(
                    f"the supervisor ended:\n{log_tail(log)}\n", remedy=f"See {log}, then run `mlpipe up`"
                )
            time.sleep(0.1)
        raise StackError(
            f"the components are still starting after {seconds:.0f} s; {log} ends:\n{log_tail(log)}\n",
            remedy="Run `mlpipe down`, then `mlpipe up`",
        )

    def _wait_for_end(self, supervisor: psutil.Process) -> None:
        """Wait for the supervisor to stop everything; kill it if it neither ends nor reports progress."""
        on_progress = self._progress_printer()
        status, progress_at = read_status(self.directory), time.monotonic()
        while is_alive(supervisor):
            before, status = status, read_status(self.directory)
            if status != before:
                progress_at = time.monotonic()
            if time.monotonic() - progress_at > _SILENT_SECONDS:
                self.say(
                    f"Killed the supervisor, process {supervisor.pid}: no progress for {_SILENT_SECONDS} s."
                )
                end_processes([supervisor], grace_seconds=0)
                return
            for name, entry in status.components.items() if status else ():
                if entry.state not in _DOWN_STATES and entry.detail:
                    on_progress(f"{name} is {entry.detail}")
            time.sleep(0.05)

    def _progress_printer(self) -> Callable[[str], None]:
        """Return a function that prints the progress of a long operation at most every few seconds."""
        said = time.monotonic()

        def on_progress(progress: str) -> None:
            nonlocal said
            if time.monotonic() - said > _PROGRESS_SECONDS:
                said = time.monotonic()
                self.say(f"  {progress}")

        return on_progress

    def _raise_if_unsaved(self) -> None:
        """Raise if a component was stopped without saving its state."""
        status = read_status(self.directory)
        unsaved = [
            f"{name}: {entry.detail}; lost: {entry.loss}"
            for name, entry in (status.components.items() if status else ())
            if entry.state == "stopped" and entry.loss
        ]
        if unsaved:
            raise StackError("; ".join(unsaved), remedy=f"See {self.directory.root / 'logs'}")

    def _say_losses(self, lost: Sequence[tuple[str, str]]) -> None:
        """Print the losses of components that ended by themselves."""
        for name, loss in lost:
            self.say(f"{name} had stopped unexpectedly. Lost: {loss}.")


def _outcome(component: Component, status: StackStatus) -> str | None:
    """Return the details of a component's outcome, or None as long as it has none."""
    entry = status.components[component.name]
    if entry.state in _SETTLED_STATES:
        return entry.detail
    gone = [name for name in component.needs if status.components[name].state in _ENDED_STATES]
    return f"it needs {gone[0]}" if gone and entry.state == "waiting" else None


def _has_running(status: StackStatus) -> bool:
    """Return whether any component was running in the last status."""
    return any(entry.state not in _DOWN_STATES for entry in status.components.values())


def _line(component: Component, state: str, detail: str, *, seconds: float | None = None) -> str:
    """Return the output line for one component's state."""
    how = state if seconds is None or state != "ready" else f"ready in {seconds:5.1f} s"
    return f"  {component.name:<10}{component.title:<32}{how}{f': {detail}' if detail else ''}"
