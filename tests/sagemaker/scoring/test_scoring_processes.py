"""Tests of a host's scoring processes: their results, their errors, and that none outlives the host."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from prediction_contract.errors import ContractError
from sagemaker_scripts.scoring.scoring_processes import ProcessEndedError, ScoringProcesses, core_count
from tests.sagemaker.scoring.squares import Squares

if TYPE_CHECKING:
    from pathlib import Path

# A host with two processes that wait; their ids are the names of the files that they leave.
HOST = """
import sys
from pathlib import Path
from sagemaker_scripts.scoring.scoring_processes import ScoringProcesses, ended_by_sigterm
from tests.sagemaker.scoring.squares import Squares

if __name__ == "__main__":
    with ended_by_sigterm(), ScoringProcesses(Squares(Path(sys.argv[1])), 2, print) as processes:
        list(processes.run(["slow", "slow"]))
"""
_SECONDS = 60


@pytest.mark.parametrize("processes", [None, 1, 3])
def test_tasks_return_results_and_count_rows(tmp_path: Path, processes: int | None) -> None:
    """Each process opens the work once for all tasks and runs, and every task's rows are counted."""
    counted: list[int] = []
    with ScoringProcesses(Squares(tmp_path), processes, counted.append) as running:
        assert sorted(running.run(range(8))) == [number**2 for number in range(8)]
        assert sorted(running.run([10, 11])) == [100, 121]
        assert list(running.run([])) == []
    assert sorted(counted) == [*range(8), 10, 11]
    opened = {int(path.name) for path in tmp_path.iterdir()}
    assert len(opened) == (processes or 1)
    assert (os.getpid() in opened) == (processes is None)


@pytest.mark.parametrize("processes", [1, 2])
def test_each_process_uses_one_thread(tmp_path: Path, processes: int) -> None:
    """More threads could add numbers in another order, and a repeated share would get other digits."""
    with ScoringProcesses(Squares(tmp_path), processes, print) as running:
        assert list(running.run(["threads"])) == [1]


def test_cores_are_counted_without_cpu_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    """On macOS, which has no CPU affinity, all cores are counted."""
    monkeypatch.delattr("os.sched_getaffinity", raising=False)
    assert core_count() == os.cpu_count()


def test_process_error_keeps_its_type_and_notes(tmp_path: Path) -> None:
    """An error in a process reaches the host with its type, message and notes."""
    with ScoringProcesses(Squares(tmp_path), 2, print) as running:
        with pytest.raises(ContractError, match=r"m: It cannot be scored\. Correct it") as caught:
            list(running.run(["refused", 1, 2]))
        assert caught.value.__notes__ == ["In a number"]


def test_unpicklable_error_is_reported_by_its_text(tmp_path: Path) -> None:
    """An error that cannot be pickled reaches the host as a RuntimeError with its text."""
    with (
        ScoringProcesses(Squares(tmp_path), 2, print) as running,
        pytest.raises(RuntimeError, match="UnpicklableError: task 7"),
    ):
        list(running.run(["unpicklable"]))


def test_killed_process_error_names_its_task(tmp_path: Path) -> None:
    """If the system kills a process, for instance for lack of memory, the error names its task."""
    with (
        ScoringProcesses(Squares(tmp_path), 2, print) as running,
        pytest.raises(ProcessEndedError, match=r"worked on killed ended with SIGKILL\. .* more memory"),
    ):
        list(running.run([1, "killed", 2]))


def test_failing_check_ends_the_run(tmp_path: Path) -> None:
    """A failure of another host ends the run at once, without waiting for the tasks."""

    def fail() -> None:
        raise ContractError("Another host failed", remedy="Look into its log")

    began = time.monotonic()
    with (
        ScoringProcesses(Squares(tmp_path), 2, print) as running,
        pytest.raises(ContractError, match="Another host failed"),
    ):
        list(running.run(["slow", "slow"], fail))
    assert time.monotonic() - began < _SECONDS


@pytest.mark.parametrize("ended_by", [signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_its_host(tmp_path: Path, ended_by: signal.Signals) -> None:
    """Processes end with their host, so that none writes alongside the next run."""
    script = tmp_path / "host.py"
    script.write_text(HOST)
    opened = tmp_path / "opened"
    opened.mkdir()
    host = subprocess.Popen([sys.executable, str(script), str(opened)], env={**os.environ, "PYTHONPATH": "."})
    deadline = time.monotonic() + _SECONDS
    while len(found := [int(path.name) for path in opened.iterdir()]) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    host.send_signal(ended_by)
    assert host.wait(_SECONDS) == (143 if ended_by == signal.SIGTERM else -signal.SIGKILL)
    while any(_runs(process) for process in found):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _runs(process: int) -> bool:
    try:
        with open(f"/proc/{process}/stat") as file:  # noqa: PTH123  # gone at any moment
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
