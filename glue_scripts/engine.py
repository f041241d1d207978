"""Runs one function over all parts of a batch: here one after another, or in a pool of processes.

The function and its tasks are plain module-level functions and records that pickle, so that an engine may
carry them to other processes or machines; whatever they need of AWS they make themselves.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_Task = TypeVar("_Task")
_Result = TypeVar("_Result")

# Below so many parts a pool costs more than it saves: each process imports the AWS client anew.
_FEWEST_PARTS = 4


class Engine(Protocol):
    """Something that runs a function over tasks."""

    @property
    def concurrency(self) -> int:
        """How many tasks run at once, so that a rate can be shared out among them."""
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

    concurrency = 1

    def run(self, function: Callable[[_Task], _Result], tasks: Sequence[_Task]) -> Iterator[_Result]:
        """See `Engine`."""
        return map(function, tasks)


class ProcessEngine:
    """Runs the tasks in processes of their own.

    Args:
        processes: How many at once.
    """

    def __init__(self, processes: int) -> None:
        self.concurrency = processes

    def run(self, function: Callable[[_Task], _Result], tasks: Sequence[_Task]) -> Iterator[_Result]:
        """See `Engine`."""
        # Started anew and not forked: the parent holds threads and connections.
        pool = ProcessPoolExecutor(self.concurrency, mp_context=get_context("spawn"))
        try:
            futures = [pool.submit(function, task) for task in tasks]
            yield from (future.result() for future in futures)
        finally:
            pool.shutdown(cancel_futures=True)


def engine_for(parts: int, processes: int) -> Engine:
    """Return the engine for a batch of so many parts on a machine that runs so many processes."""
    if parts < _FEWEST_PARTS or processes == 1:
        return SequentialEngine()
    return ProcessEngine(min(parts, processes))
