"""Runs one function over all parts of a batch: on Spark, in a pool of processes, or sequentially.

Functions are module-level and tasks can be pickled, so that an engine can send them to other processes or
machines. They make their own AWS clients for the sender's region, because a Spark executor's environment may
not name one.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from multiprocessing import get_context, parent_process
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from glue_scripts.aws_clients import use_region, used_region
from glue_scripts.progress import use_counter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from concurrent.futures import Future

    from glue_scripts.progress import RowCounter

_Task = TypeVar("_Task")
_Result = TypeVar("_Result")

# With fewer parts, starting processes costs more than it saves: each imports the AWS client again.
_FEWEST_PARTS = 4
_QUEUED_PER_PROCESS = 2
_SPARK_ROUND = 16
# Spawned, not forked: the parent holds threads and connections.
_CONTEXT = get_context("spawn")


class Engine(Protocol):
    """Runs a function over tasks."""

    @property
    def name(self) -> str:
        """The engine's name in the job's log."""
        ...

    @property
    def concurrency(self) -> int:
        """The most tasks that run at once; a rate limit is divided by it."""
        ...

    @property
    def counter(self) -> RowCounter:
        """The rows processed so far; stays at 0 on Spark, whose executors cannot reach it."""
        ...

    def run(self, function: Callable[[_Task], _Result], tasks: Sequence[_Task]) -> Iterator[_Result]:
        """Yield the results in the order of the tasks; raise the first error.

        Args:
            function: A module-level function without state.
            tasks: One for each part.
        """
        ...


class SequentialEngine:
    """Runs everything in this process."""

    name = "sequential"
    concurrency = 1

    def __init__(self) -> None:
        self.counter: RowCounter = _CONTEXT.Value("q", 0)

    def run(self, function: Callable[[_Task], _Result], tasks: Sequence[_Task]) -> Iterator[_Result]:
        """See `Engine`."""
        use_counter(self.counter)
        return map(function, tasks)


class ProcessEngine:
    """Runs the tasks in a pool of processes.

    Args:
        processes: How many run at once.
    """

    name = "processes"

    def __init__(self, processes: int) -> None:
        self.concurrency = processes
        self.counter: RowCounter = _CONTEXT.Value("q", 0)

    def run(self, function: Callable[[_Task], _Result], tasks: Sequence[_Task]) -> Iterator[_Result]:
        """See `Engine`."""
        pool = ProcessPoolExecutor(
            self.concurrency,
            mp_context=_CONTEXT,
            initializer=_init_process,
            initargs=(self.counter, used_region()),
        )
        try:
            # Only as many tasks as keep all processes busy, so that results do not pile up.
            futures: deque[Future[_Result]] = deque()
            for task in tasks:
                if len(futures) == _QUEUED_PER_PROCESS * self.concurrency:
                    yield futures.popleft().result()
                futures.append(pool.submit(function, task))
            while futures:
                yield futures.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _init_process(counter: RowCounter, region: str | None) -> None:
    """Use the parent's counter, and exit when the parent does: an orphan would keep writing items."""
    use_counter(counter)
    use_region(region)
    parent = parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


@dataclass(frozen=True, slots=True)
class _Failure:
    """An error returned as a result: Spark would replace a raised one by a Java error."""

    error: Exception


class SparkEngine:
    """Runs the tasks on Spark's executors; tasks of a lost executor run again on another.

    Args:
        context: A SparkContext whose executors can import this package.
    """

    name = "spark"

    def __init__(self, context: Any) -> None:
        self.counter: RowCounter = _CONTEXT.Value("q", 0)
        self._context = context
        self.concurrency: int = context.defaultParallelism

    def run(self, function: Callable[[_Task], _Result], tasks: Sequence[_Task]) -> Iterator[_Result]:
        """See `Engine`."""
        # In rounds, so that the driver never holds all results.
        size = _SPARK_ROUND * self.concurrency
        for first in range(0, len(tasks), size):
            chunk = tasks[first : first + size]
            # Never more slices, even if executors join later: rate limits were divided by `concurrency`.
            sliced = self._context.parallelize(chunk, min(len(chunk), self.concurrency))
            for outcome in sliced.mapPartitions(partial(_run_slice, function, used_region())).collect():
                if isinstance(outcome, _Failure):
                    raise outcome.error
                yield outcome


def _run_slice(
    function: Callable[[_Task], _Result], region: str | None, tasks: Iterable[_Task]
) -> Iterator[_Result | _Failure]:
    """Yield the results of one slice, up to its first error."""
    use_region(region)
    for task in tasks:
        try:
            yield function(task)
        except Exception as error:  # noqa: BLE001  # the driver raises it
            yield _Failure(error)
            return


def choose_engine(parts: int, *, processes: int, has_spark: bool) -> Engine:
    """Return the engine for a batch.

    Args:
        parts: How many parts it has.
        processes: How many processes this machine runs at once.
        has_spark: Whether Spark is available.
    """
    if parts < _FEWEST_PARTS:
        return SequentialEngine()
    if has_spark:
        # Imported by name, because type checkers do not have pyspark: it has a lock file of its own.
        return SparkEngine(import_module("pyspark.sql").SparkSession.builder.getOrCreate().sparkContext)
    return SequentialEngine() if processes == 1 else ProcessEngine(min(parts, processes))
