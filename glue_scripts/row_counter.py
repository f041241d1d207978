"""Rows that a function has come through so far, counted across the processes that an engine runs it in."""

from __future__ import annotations

from typing import Any, Protocol

# Each time costs a lock.
COUNTED_ROWS = 1000


class RowCounter(Protocol):
    """Something with a number that may be read while other processes add to it."""

    value: int

    def get_lock(self) -> Any:
        """Return what guards an addition."""
        ...


class _Counting:
    """The counter of this process; none where nobody asks how far it is."""

    counter: RowCounter | None = None


def count_in(counter: RowCounter | None) -> None:
    """Let this process add to a counter from now on; None for none."""
    _Counting.counter = counter


def came_through(rows: int) -> None:
    """Count rows, `COUNTED_ROWS` or so at a time."""
    counter = _Counting.counter
    if counter is not None:
        with counter.get_lock():
            counter.value += rows
