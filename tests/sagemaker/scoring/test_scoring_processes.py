"""Tests of the processes of a host: what they yield, how errors reach the host, and that none outlives it."""

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

# A host with two processes that wait; it says their ids.
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
def test_every_task_gives_its_result_and_counts_its_rows(tmp_path: Path, processes: int | None) -> None:
    """Each process opens the work once, however many tasks it runs; several runs share the processes."""
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
def test_a_process_has_one_thread_however_many_processes_there_are(tmp_path: Path, processes: int) -> None:
    """With more threads libraries add numbers in another order: a repeated share would have other digits."""
    with ScoringProcesses(Squares(tmp_path), processes, print) as running:
        assert list(running.run(["threads"])) == [1]


def test_cores_are_counted_where_a_process_cannot_be_kept_to_some(monkeypatch: pytest.MonkeyPatch) -> None:
    """So it is on macOS."""
    monkeypatch.delattr("os.sched_getaffinity", raising=False)
    assert core_count() == os.cpu_count()


def test_an_error_of_a_process_is_raised_with_its_kind_and_notes(tmp_path: Path) -> None:
    """The host's message names what a person must do, and where it happened."""
    with ScoringProcesses(Squares(tmp_path), 2, print) as running:
        with pytest.raises(ContractError, match=r"m: It cannot be scored\. Correct it") as caught:
            list(running.run(["refused", 1, 2]))
        assert caught.value.__notes__ == ["In a number"]


def test_an_error_that_cannot_travel_is_told_by_its_text(tmp_path: Path) -> None:
    """Its class may hold what no other process can make."""
    with (
        ScoringProcesses(Squares(tmp_path), 2, print) as running,
        pytest.raises(RuntimeError, match="UnpicklableError: task 7"),
    ):
        list(running.run(["unpicklable"]))


def test_a_killed_process_ends_the_host_with_the_task_named(tmp_path: Path) -> None:
    """The system kills where memory ends, and nobody else would say which share it was."""
    with (
        ScoringProcesses(Squares(tmp_path), 2, print) as running,
        pytest.raises(ProcessEndedError, match=r"worked on killed ended with SIGKILL\. .* more memory"),
    ):
        list(running.run([1, "killed", 2]))


def test_what_happens_meanwhile_can_end_the_run(tmp_path: Path) -> None:
    """Another host's failure is not waited for until the own shares are done."""

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
    """An orphan would go on to write beside the run that follows."""
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
