"""Runs one function over all parts of a batch: on Spark, in a pool of processes, or here one after another.

The function and its tasks are plain module-level functions and records that pickle, so that an engine may
carry them to other processes or machines. They make their own AWS clients, for the region of the process that
sent them: the environment of a Spark executor may name none.
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

# Below so many parts others cost more than they save: each process imports the AWS client again.
_FEWEST_PARTS = 4
_AHEAD = 2
_SPARK_ROUND = 16
# Started again and not forked: the parent holds threads and connections.
_CONTEXT = get_context("spawn")


class Engine(Protocol):
    """Something that runs a function over tasks."""

    @property
    def name(self) -> str:
        """What the job's log calls it."""
        ...

    @property
    def concurrency(self) -> int:
        """How many tasks run at once at most, so that a rate can be shared out among them."""
        ...

    @property
    def counter(self) -> RowCounter:
        """Rows that functions have counted; stays at 0 on Spark, whose executors cannot reach it."""
        ...

    def run(self, function: Callable[[_Task], _Result], tasks: Sequence[_Task]) -> Iterator[_Result]:
        """Yield each task's result in the order of the tasks; the first error ends it.

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
    """Runs the tasks in processes of their own.

    Args:
        processes: How many at once.
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
            # As many as keep all at work: results are let go as they are taken.
            futures: deque[Future[_Result]] = deque()
            for task in tasks:
                if len(futures) == _AHEAD * self.concurrency:
                    yield futures.popleft().result()
                futures.append(pool.submit(function, task))
            while futures:
                yield futures.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _init_process(counter: RowCounter, region: str | None) -> None:
    """Count where the starter does, and end with it: an orphan would go on writing, then wait forever."""
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
    """An error as a result: raised on an executor, it would arrive as Java's and without its kind."""

    error: Exception


class SparkEngine:
    """Runs the tasks on Spark's executors; what a lost executor had in hand is done again elsewhere.

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
            # No more slices than that, however many executors join: rates were shared out among so many.
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
        has_spark: Whether there is Spark.
    """
    if parts < _FEWEST_PARTS:
        return SequentialEngine()
    if has_spark:
        # By name: type checkers, too, do without the package, which is locked by itself.
        return SparkEngine(import_module("pyspark.sql").SparkSession.builder.getOrCreate().sparkContext)
    return SequentialEngine() if processes == 1 else ProcessEngine(min(parts, processes))
