"""Runs one function over all parts of a batch: on Spark, in a pool of processes, or here one after another.

The function and its tasks are plain module-level functions and records that pickle, so that an engine may
carry them to other processes or machines; whatever they need of AWS they make themselves.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from multiprocessing import get_context, parent_process
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

_Task = TypeVar("_Task")
_Result = TypeVar("_Result")

# Below so many parts others cost more than they save: each process imports the AWS client anew.
_FEWEST_PARTS = 4


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

    def run(self, function: Callable[[_Task], _Result], tasks: Sequence[_Task]) -> Iterator[_Result]:
        """See `Engine`."""
        return map(function, tasks)


class ProcessEngine:
    """Runs the tasks in processes of their own.

    Args:
        processes: How many at once.
    """

    name = "processes"

    def __init__(self, processes: int) -> None:
        self.concurrency = processes

    def run(self, function: Callable[[_Task], _Result], tasks: Sequence[_Task]) -> Iterator[_Result]:
        """See `Engine`."""
        # Started anew and not forked: the parent holds threads and connections.
        pool = ProcessPoolExecutor(
            self.concurrency, mp_context=get_context("spawn"), initializer=_end_with_parent
        )
        try:
            futures = [pool.submit(function, task) for task in tasks]
            yield from (future.result() for future in futures)
        finally:
            pool.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    """End this process with the one that started it: an orphan would go on writing, and then wait forever."""
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
        self._context = context
        self.concurrency: int = context.defaultParallelism

    def run(self, function: Callable[[_Task], _Result], tasks: Sequence[_Task]) -> Iterator[_Result]:
        """See `Engine`."""
        # No more slices than that, however many executors join later: rates were shared out among so many.
        sliced = self._context.parallelize(tasks, min(len(tasks), self.concurrency))
        for outcome in sliced.mapPartitions(partial(_outcomes, function)).collect():
            if isinstance(outcome, _Failure):
                raise outcome.error
            yield outcome


def _outcomes(function: Callable[[_Task], _Result], tasks: Iterable[_Task]) -> Iterator[_Result | _Failure]:
    """Yield the results of one slice, up to its first error."""
    for task in tasks:
        try:
            yield function(task)
        except Exception as error:  # noqa: BLE001  # the driver raises it
            yield _Failure(error)
            return


def engine_for(parts: int, *, processes: int, has_spark: bool) -> Engine:
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
