"""The present state of a stack: its supervisor, components, losses, and processes of a dead supervisor."""

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
    """Return the components in the status, with their ports."""
    ports = {name: entry.port for name, entry in status.components.items()}
    return build_components(directory, project, ports)


def current_state(component: Component, status: StackStatus) -> tuple[str, str]:
    """Return a component's state and details as they are now, which may differ from the last status.

    In addition to the states of `ComponentStatus` there is `silent`: it runs but does not answer.
    """
    entry = status.components[component.name]
    if entry.state != "ready" or entry.pid is None:
        return entry.state, entry.detail
    if not holds_port(entry.pid, component.port):
        return "dead", f"process {entry.pid} does not listen on its port; `mlpipe up` restarts it"
    problem = component.probe()
    return ("ready", "") if problem is None else ("silent", f"it runs but does not answer: {problem}")


def end_leftovers(
    directory: StackDirectory, *, on_progress: Callable[[str], None]
) -> tuple[set[int], set[int]]:
    """End the processes of a dead supervisor in the supervisor's order.

    Args:
        directory: The stack's state directory.
        on_progress: Receives the emulator's progress in saving its state.

    Returns:
        The ids of the processes that ended when asked, and of those that had to be killed.
    """
    ended: set[int] = set()
    killed: set[int] = set()
    everything = stack_processes(directory.root)
    last = stack_processes(directory.root, role=_LAST_ROLE)
    emulator = [process for process in last if leads_session(process)]
    first = [process for process in everything if process not in last]
    # The emulator's workers inherit its role but save nothing, so they are ended together.
    workers = [process for process in last if process not in emulator]
    for group, saves_to in ((first, None), (emulator, state_of_aws(directory)), (workers, None)):
        found = end_processes(group, grace_seconds=_GRACE_SECONDS, saves_to=saves_to, on_progress=on_progress)
        stubborn = {process.pid for process in found}
        killed |= stubborn
        ended |= {process.pid for process in group} - stubborn
    return ended, killed


def losses(
    directory: StackDirectory, project: Project, previous: StackStatus, *, ended_in_order: Collection[int]
) -> list[tuple[str, str]]:
    """Return each component that lost data since the last start, with a description of the loss.

    Args:
        directory: The stack's state directory.
        project: The stack's project.
        previous: The last supervisor's status.
        ended_in_order: The ids of processes that ended when asked, with no supervisor left to record it.
    """
    found = []
    for component in running_components(directory, project, previous):
        entry = previous.components[component.name]
        if entry.state in ("dead", "failed") and entry.loss:
            found.append((component.name, entry.loss))
        elif entry.state in ("starting", "ready") and entry.pid not in ended_in_order:
            found.append((component.name, component.loss))
    return found
