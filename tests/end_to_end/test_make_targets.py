"""A person who has just cloned the project gets what the README shows, and is left with nothing of it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.stack_runs import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT = Path(__file__).resolve().parents[2]
# The first installs some 170 packages, perhaps over a slow line.
_COMMAND_SECONDS = 1200
_CONSOLE_BLOCK = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
# What the make, the pytest and the Python that run this test leave in their environment, and the address of
# any stack of the developer's.
_NOT_A_NEWCOMERS = re.compile(
    r"PYTHON.*|VIRTUAL_ENV.*|CONDA_.*|MAKE.*|MFLAGS|PYTEST.*|COVERAGE.*|GIT_(?!SSL).*|DAGSTER_.*|UV_.*"
    r"|MLPIPE_.*|SNOWFLAKE_.*|AWS_(?!CA_BUNDLE).*|PWD|OLDPWD"
)


def newcomers_environment() -> dict[str, str]:
    """Return the caller's environment as a new shell has it, with what installing packages needs."""
    return {name: value for name, value in os.environ.items() if not _NOT_A_NEWCOMERS.fullmatch(name)}


def readme_commands(clone: Path) -> list[str]:
    """Return the commands of the first console block of the README."""
    block = _CONSOLE_BLOCK.search((clone / "README.md").read_text(encoding="utf-8"))
    assert block is not None
    return [line.removeprefix("$ ") for line in block[1].splitlines() if line.strip()]


def processes_of(directory: Path) -> list[psutil.Process]:
    """Return the processes that run in a directory, or have it in their environment or command line."""
    found = []
    mark = str(directory)
    for process in psutil.process_iter():
        try:
            texts = [process.cwd(), *process.cmdline(), *process.environ().values()]
        except (psutil.Error, OSError):
            continue  # Another user's, or just ended.
        if any(mark in text for text in texts) and process.status() != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


def run(command: str, clone: Path) -> subprocess.CompletedProcess[str]:
    """Type a command in the clone; its output is a pipe, so a process that kept it open would be noticed."""
    return subprocess.run(
        ["bash", "-c", command],
        cwd=clone,
        env=newcomers_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_COMMAND_SECONDS,
        check=False,
    )


@pytest.fixture
def clone(tmp_path: Path) -> Iterator[Path]:
    """A fresh clone of what is committed; whatever a failed test leaves running there is ended."""
    directory = tmp_path / "clone"
    subprocess.run(
        ["git", "clone", "--quiet", str(ROOT), str(directory)],
        env=newcomers_environment(),
        timeout=300,
        check=True,
    )
    try:
        yield directory
    finally:
        for process in processes_of(directory):
            # One that ended meanwhile is what is wanted.
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def described(processes: list[psutil.Process]) -> Mapping[int, str]:
    """Return the processes in a form that tells something when an assertion fails."""
    return {process.pid: " ".join(process.cmdline()) for process in processes if process.is_running()}


def run_until_interrupted(command: str, clone: Path, *, ready: str) -> None:
    """Type a command that goes on until Ctrl-C, and interrupt it once its output says that it is ready."""
    output = clone.with_name("output.log")
    with output.open("wb") as stream:
        process = subprocess.Popen(
            ["bash", "-c", command],
            cwd=clone,
            env=newcomers_environment(),
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            # A terminal's Ctrl-C reaches make and all it has started.
            process_group=0,
        )
    wait_until(
        lambda: ready in output.read_text() or process.poll() is not None,
        seconds=_COMMAND_SECONDS,
        what=f"{command} says {ready}",
    )
    assert process.poll() is None, output.read_text()
    os.killpg(process.pid, signal.SIGINT)
    process.wait(_COMMAND_SECONDS)
    assert "Dagster has stopped" in output.read_text()


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_newcomer_follows_the_readme(clone: Path) -> None:
    """The README's first commands do what they say in a fresh clone; after `make down` no process is left."""
    assert readme_commands(clone) == ["make demo", "make dev"]
    demo = run("make demo", clone)
    assert demo.returncode == 0, demo.stdout
    assert json.loads(demo.stdout.splitlines()[-1])["ok"] is True
    run_until_interrupted("make dev", clone, ready="Ctrl-C stops Dagster")
    assert run("make status", clone).returncode == 0
    running = processes_of(clone)
    assert len(running) >= 5, described(running)

    done = run("make down", clone)

    assert done.returncode == 0, done.stdout
    assert described(processes_of(clone)) == {}
    status = run("make status", clone)
    assert status.returncode != 0
    assert "mlpipe up" in status.stdout
    # All that was made is ignored: a newcomer's first commit holds nothing of it.
    assert run("git status --porcelain", clone).stdout == ""
