"""See how a stack is now: its supervisor, its components, what it lost, what a dead supervisor left."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infra.local.supervision.components import build_components, state_of_aws
from infra.local.supervision.processes import (
    SUPERVISOR_ROLE,
    end_processes,
    holds_port,
    leads_session,
    stack_processes,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    import psutil

    from infra.local.supervision.components import Component
    from infra.local.supervision.stack_state import StackDirectory, StackStatus
    from model_declaration.project import Project

# The AWS emulator saves its state when asked to end.
_LAST_ROLE = "aws"
_GRACE_SECONDS = 60


def find_supervisor(directory: StackDirectory) -> psutil.Process | None:
    """Return the running supervisor of the stack, if there is one."""
    found = stack_processes(directory.root, role=SUPERVISOR_ROLE)
    return found[0] if found else None


def running_components(directory: StackDirectory, project: Project, status: StackStatus) -> list[Component]:
    """Return the components that the status names, with the ports they have."""
    ports = {name: entry.port for name, entry in status.components.items()}
    return build_components(directory, project, ports)


def current_state(component: Component, status: StackStatus) -> tuple[str, str]:
    """Return a component's state and what to know of it as it is now, not as it was last written.

    Besides the states of `ComponentStatus` a component can be `silent`: it runs and does not answer.
    """
    entry = status.components[component.name]
    if entry.state != "ready" or entry.pid is None:
        return entry.state, entry.detail
    if not holds_port(entry.pid, component.port):
        return "dead", f"process {entry.pid} does not listen on its port; `mlpipe up` starts it again"
    problem = component.probe()
    return ("ready", "") if problem is None else ("silent", f"it runs and does not answer: {problem}")


def end_leftovers(directory: StackDirectory, *, tell: Callable[[str], None]) -> tuple[set[int], set[int]]:
    """End the processes that a dead supervisor left, in the order in which it would have.

    Args:
        directory: The stack's state directory.
        tell: Receives how far the emulator is with saving its state.

    Returns:
        The ids of those that ended when asked, and of those that had to be killed.
    """
    ended: set[int] = set()
    killed: set[int] = set()
    everything = stack_processes(directory.root)
    last = stack_processes(directory.root, role=_LAST_ROLE)
    emulator = [process for process in last if leads_session(process)]
    first = [process for process in everything if process not in last]
    # Its workers inherit the role and save nothing: they are waited for together.
    workers = [process for process in last if process not in emulator]
    for group, saves_to in ((first, None), (emulator, state_of_aws(directory)), (workers, None)):
        found = end_processes(group, grace_seconds=_GRACE_SECONDS, saves_to=saves_to, tell=tell)
        stubborn = {process.pid for process in found}
        killed |= stubborn
        ended |= {process.pid for process in group} - stubborn
    return ended, killed


def losses(
    directory: StackDirectory, project: Project, previous: StackStatus, *, ended_in_order: Collection[int]
) -> list[tuple[str, str]]:
    """Return what is gone since the last start, by component.

    Args:
        directory: The stack's state directory.
        project: Whose stack it is.
        previous: The status the last supervisor wrote.
        ended_in_order: The processes known to have ended when asked, although no supervisor saw it.
    """
    found = []
    for component in running_components(directory, project, previous):
        entry = previous.components[component.name]
        if entry.state in ("dead", "failed") and entry.loss:
            found.append((component.name, entry.loss))
        elif entry.state in ("starting", "ready") and entry.pid not in ended_in_order:
            found.append((component.name, component.loss))
    return found
