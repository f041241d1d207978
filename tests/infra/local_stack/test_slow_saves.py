"""A stopping component may finish saving its state, however long that takes."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import psutil
import pytest

from infra.local.stack import stack_control, stack_inspection
from infra.local.stack.stack_control import StackControl
from infra.local.stack.stack_inspection import end_leftovers
from infra.local.supervision.components import Component, state_of_aws
from infra.local.supervision.processes import clean_environment, wait_while_it_saves
from infra.local.supervision.stack_state import ComponentStatus, StackDirectory, StackStatus, write_status
from infra.local.supervision.supervised_component import SupervisedComponent
from tests.projects import EXAMPLE
from tests.stack_runs import wait_until

if TYPE_CHECKING:
    from pathlib import Path

# On a busy machine the saving process may make no progress for some seconds.
SAVING_IDLE_SECONDS = 5
HANGING_IDLE_SECONDS = 2
# After SIGTERM it keeps writing until the file `enough` exists.
SLOW = """
import pathlib, signal, sys, time
folder = pathlib.Path(sys.argv[1])
def save(*_):
    with (folder / "state.tmp").open("a") as file:
        while not (folder / "enough").exists():
            file.write("state")
            file.flush()
            time.sleep(0.05)
    (folder / "state.tmp").rename(folder / "whole")
    sys.exit()
signal.signal(signal.SIGTERM, save)
(folder / "begun").touch()
while True:
    time.sleep(60)
"""
HANGING = """
import pathlib, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: time.sleep(300))
pathlib.Path(sys.argv[1], "begun").touch()
time.sleep(300)
"""


@pytest.fixture
def directory(tmp_path: Path) -> StackDirectory:
    """Give the state directory of a stack without components."""
    directory = StackDirectory(tmp_path)
    directory.create()
    state_of_aws(directory).mkdir(parents=True)
    return directory


def command(directory: StackDirectory, program: str) -> tuple[str, ...]:
    """Return the command line of a process that replaces the emulator."""
    return (sys.executable, "-c", program, str(state_of_aws(directory)))


def started(directory: StackDirectory, program: str, idle_seconds: int) -> SupervisedComponent:
    """Return a supervised process that runs this program and has started."""
    component = Component(
        name="aws",
        title="a stand-in that saves when it ends",
        command=command(directory, program),
        environment=clean_environment(directory.root, "aws"),
        port=1,
        probe=lambda: None,
        loss="all",
        stop_seconds=idle_seconds,
        saves_to=state_of_aws(directory),
    )
    supervised = SupervisedComponent(component, directory)
    supervised.advance(())
    wait_until((state_of_aws(directory) / "begun").exists, seconds=60, what="begun")
    return supervised


def test_saving_component_is_not_killed(directory: StackDirectory) -> None:
    """It may exceed the idle limit while it writes; its status shows progress and its state is complete."""
    supervised, state = started(directory, SLOW, SAVING_IDLE_SECONDS), state_of_aws(directory)
    supervised.ask_to_stop()
    asked, details = time.monotonic(), []

    def see_progress() -> None:
        details.append(supervised.status.detail)
        if time.monotonic() - asked > SAVING_IDLE_SECONDS + 0.5:
            (state / "enough").touch()

    supervised.finish_stop(deadline=asked + SAVING_IDLE_SECONDS, on_progress=see_progress)

    assert (state / "whole").exists()
    assert re.match(r"saving its state for [1-9]\d* s; ", details[-1])
    assert (supervised.status.state, supervised.status.detail, supervised.status.loss) == ("stopped", "", "")


def test_hanging_component_is_killed_and_its_loss_reported(
    directory: StackDirectory,
) -> None:
    """A component that neither stops nor writes is killed after the idle limit."""
    supervised = started(directory, HANGING, HANGING_IDLE_SECONDS)
    supervised.ask_to_stop()
    supervised.finish_stop(deadline=time.monotonic() + HANGING_IDLE_SECONDS, on_progress=lambda: None)
    assert supervised.status.detail == "was killed: it did not stop, and made no progress for 2 s"
    assert supervised.status.loss == "all"


def test_emulator_without_supervisor_may_finish_saving(
    directory: StackDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`mlpipe down` and `up` do not kill a saving emulator whose supervisor is dead."""
    monkeypatch.setattr(stack_inspection, "_GRACE_SECONDS", SAVING_IDLE_SECONDS)
    state = state_of_aws(directory)
    environment = clean_environment(directory.root, "aws")
    with subprocess.Popen(command(directory, SLOW), env=environment, start_new_session=True) as left:
        wait_until((state / "begun").exists, seconds=60, what="begun")
        began = time.monotonic()

        def on_progress(_progress: str) -> None:
            if time.monotonic() - began > SAVING_IDLE_SECONDS + 0.5:
                (state / "enough").touch()

        assert end_leftovers(directory, on_progress=on_progress) == ({left.pid}, set())
    assert (state / "whole").exists()


def test_orphaned_emulator_workers_are_killed_at_once(
    directory: StackDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers share the emulator's role but save nothing, so waiting for them would only cost time."""
    monkeypatch.setattr(stack_inspection, "_GRACE_SECONDS", 0.2)
    environment, said = clean_environment(directory.root, "aws"), []
    with subprocess.Popen(command(directory, HANGING), env=environment) as worker:
        wait_until((state_of_aws(directory) / "begun").exists, seconds=60, what="begun")
        assert end_leftovers(directory, on_progress=said.append) == (set(), {worker.pid})
    assert said == []


def test_down_prints_saving_progress(directory: StackDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    """People who wait for `mlpipe down` see which component is still saving."""
    monkeypatch.setattr(stack_control, "_PROGRESS_SECONDS", 0)
    said: list[str] = []
    with subprocess.Popen(["sleep", "60"]) as supervisor:

        def say(line: str) -> None:
            said.append(line)
            supervisor.kill()

        control = StackControl(directory, directory.root / "env", EXAMPLE, names=("aws",), say=say)
        ready = ComponentStatus(state="ready", since=0, port=1)
        saving = replace(ready, detail="saving its state for 7 s; 12 MB on disk")
        write_status(
            directory,
            StackStatus(supervisor_pid=supervisor.pid, restart_requests=0, components={"aws": saving}),
        )
        control._wait_for_end(psutil.Process(supervisor.pid))
    assert said == ["  aws is saving its state for 7 s; 12 MB on disk"]


def test_busy_process_without_writes_is_not_awaited_forever(tmp_path: Path) -> None:
    """A process that uses CPU but saves nothing is given up after the computing limit."""
    spinning = psutil.Popen([sys.executable, "-c", "while True: pass"])
    # Kill the process even if the wait never ends.
    mercy = threading.Timer(20, spinning.kill)
    mercy.start()
    try:
        has_ended = wait_while_it_saves(
            spinning, saves_to=tmp_path, idle_seconds=10, computing_seconds=1, on_progress=lambda _: None
        )
    finally:
        mercy.cancel()
        spinning.kill()
        spinning.wait()
    assert not has_ended
