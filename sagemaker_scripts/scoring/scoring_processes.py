"""Runs tasks in several processes of one host; each process opens the same work once.

Tasks and results are small records. Each process itself reads and writes the data that they refer to.
"""

from __future__ import annotations

import logging
import os
import pickle
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing import connection, get_context, parent_process
from typing import Any, NamedTuple, Protocol, Self

import pyarrow as pa

from prediction_contract.errors import ContractError
from sagemaker_scripts.container import log_to_stdout

_LOG = logging.getLogger(__name__)
# This process cannot be forked, because Arrow and the AWS client have threads and connections in it. A fork
# server has none, and it is faster than starting each process anew.
_CONTEXT = get_context("forkserver")
# Otherwise, libraries would start one thread per core in each process.
_ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "POLARS_MAX_THREADS": "1",
}
_POLL_SECONDS = 1.0
_SECONDS_TO_END = 10.0

CountRows = Callable[[int], None]
RunTask = Callable[[Any], Any]


class ProcessEndedError(ContractError):
    """A process ended during a task."""


class Work(Protocol):
    """The common part of all tasks; each process receives it and opens it once."""

    def open(self, count_rows: CountRows) -> RunTask:
        """Return a function that runs a task, counts rows as they are done, and returns the result."""
        ...


class _Done(NamedTuple):
    result: Any


class _Failed(NamedTuple):
    error: Exception


class ScoringProcesses:
    """Runs tasks in processes with one thread each, or in this process; use it as a context manager.

    Args:
        work: The common part of all tasks.
        processes: The number of concurrent processes; None to run the tasks in this process with all its
            threads.
        count_rows: Receives the number of rows done, from all processes.
    """

    def __init__(self, work: Work, processes: int | None, count_rows: CountRows) -> None:
        self._work = work
        self._count_rows = count_rows
        self._wanted = processes
        self._run_here: RunTask | None = None
        self._processes: dict[connection.Connection, Any] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for end, process in self._processes.items():
            process.terminate()
            end.close()
        for process in self._processes.values():
            process.join(_SECONDS_TO_END)
            if process.is_alive():
                process.kill()
                process.join()
        self._processes.clear()

    def run(self, tasks: Sequence[Any], meanwhile: Callable[[], None] = lambda: None) -> Iterator[Any]:
        """Yield the results as they come; the first error ends the iteration.

        Args:
            tasks: The tasks; errors refer to a task by its `str`.
            meanwhile: Called about every second, and between tasks.

        Raises:
            ProcessEndedError: A process was killed or crashed.
        """
        if self._wanted is None:
            yield from self._run_each_here(tasks, meanwhile)
            return
        waiting = deque(tasks)
        for _ in range(min(self._wanted, len(tasks)) - len(self._processes)):
            self._start()
        busy: dict[connection.Connection, Any] = {}
        for end in self._processes:
            self._give_next(end, waiting, busy)
        while busy:
            ready = connection.wait(list(busy), timeout=_POLL_SECONDS)
            for end in [each for each in busy if each in ready]:
                answer = self._answer(end, busy[end])
                if isinstance(answer, int):
                    self._count_rows(answer)
                    continue
                self._give_next(end, waiting, busy)
                yield answer.result
            meanwhile()

    def _run_each_here(self, tasks: Sequence[Any], meanwhile: Callable[[], None]) -> Iterator[Any]:
        for task in tasks:
            if self._run_here is None:
                self._run_here = self._work.open(self._count_rows)
            yield self._run_here(task)
            meanwhile()

    def _start(self) -> None:
        ours, theirs = _CONTEXT.Pipe()
        process = _CONTEXT.Process(target=_serve, args=(theirs, self._work))
        with _environment(_ONE_THREAD):
            process.start()
        theirs.close()
        self._processes[ours] = process

    @staticmethod
    def _give_next(
        end: connection.Connection, waiting: deque[Any], busy: dict[connection.Connection, Any]
    ) -> None:
        busy.pop(end, None)
        if waiting:
            busy[end] = waiting.popleft()
            # The end of a process is detected when its connection is read.
            try:
                end.send(busy[end])
            except (BrokenPipeError, ConnectionResetError):
                return

    def _answer(self, end: connection.Connection, task: Any) -> int | _Done:
        try:
            answer = end.recv()
        except (EOFError, ConnectionResetError):
            process = self._processes[end]
            process.join(_SECONDS_TO_END)
            code = process.exitcode
            how = signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"
            raise ProcessEndedError(
                f"The process that worked on {task} ended with {how}",
                remedy="Run the job again. If SIGKILL ends it again, use an instance type with more memory, "
                "or declare fewer scoring.chunk_rows",
            ) from None
        if isinstance(answer, _Failed):
            raise answer.error
        return answer


def core_count() -> int:
    """Return the number of cores that this process may use."""
    # macOS cannot restrict a process to some cores.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _serve(end: connection.Connection, work: Work) -> None:
    """Run tasks until the connection is closed."""
    log_to_stdout()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _end_with_parent()
    pa.set_cpu_count(1)
    run: RunTask | None = None
    while True:
        try:
            task = end.recv()
        except EOFError:
            return
        try:
            if run is None:
                run = work.open(end.send)
            answer: _Done | _Failed = _Done(run(task))
        except Exception as error:  # noqa: BLE001  # the process that sent the task raises it
            # The traceback is lost when the error is sent to the other process.
            _LOG.exception("%s failed", task)
            answer = _Failed(_portable(error))
        end.send(answer)


def _end_with_parent() -> None:
    """End this process with its parent; an orphan would go on writing, then wait forever."""
    parent = parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


def _portable(error: Exception) -> Exception:
    """Return the error in a form that another process can raise."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301  # this process's own
    except Exception:  # noqa: BLE001  # any error may be unable to be pickled, in any way
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


@contextmanager
def _environment(given: Mapping[str, str]) -> Iterator[None]:
    """Set the variables that are not set yet while processes are started."""
    added = given.keys() - os.environ.keys()
    os.environ.update({name: given[name] for name in added})
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Make SIGTERM raise an error in this process, so that its child processes are ended first."""

    def end(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    # Only the main thread receives signals; a test may run a job in another one.
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
