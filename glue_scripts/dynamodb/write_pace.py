"""How fast and how many at once: an absolute cap of write units, and a window that throttling narrows."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# So much of a pause may be made up for: what the process itself lost, and no burst that a table would feel.
_CREDIT_SECONDS = 0.05
_FIRST_WINDOW = 4.0
_LEAST_WINDOW = 1.0
MAX_IN_FLIGHT = 32


class Pace:
    """Keeps a stream of writes below a rate.

    Args:
        units_per_second: The rate in write units; None for no limit.
        clock: Returns monotonic seconds.
    """

    def __init__(self, units_per_second: float | None, clock: Callable[[], float]) -> None:
        self._rate = units_per_second
        self._clock = clock
        self._free_at = clock()

    def wait_seconds(self) -> float:
        """Return how long it takes until something may be sent."""
        return 0.0 if self._rate is None else max(0.0, self._free_at - self._clock())

    def spend(self, units: float) -> None:
        """Count what is sent now."""
        if self._rate is not None:
            self._free_at = max(self._free_at, self._clock() - _CREDIT_SECONDS) + units / self._rate

    def correct(self, units: float) -> None:
        """Count the difference between what a request was taken for and what DynamoDB says it consumed."""
        if self._rate is not None:
            self._free_at += units / self._rate


class Window:
    """How many requests may be in flight: one more after each round that went well, half after throttling.

    Args:
        most: The widest.
    """

    def __init__(self, most: int = MAX_IN_FLIGHT) -> None:
        self._most = most
        self._width = min(_FIRST_WINDOW, most)
        self._begun = 0
        self._ignore_throttles_until = 0

    @property
    def width(self) -> int:
        """The present width."""
        return int(self._width)

    def begin(self) -> int:
        """Count a request, and return its number."""
        self._begun += 1
        return self._begun

    def widen(self) -> None:
        """Widen a little."""
        self._width = min(self._most, self._width + 1 / self._width)

    def narrow(self, number: int) -> None:
        """Narrow, once for all requests that were in flight together.

        Args:
            number: The request's.
        """
        if number > self._ignore_throttles_until:
            self._width = max(_LEAST_WINDOW, self._width / 2)
            self._ignore_throttles_until = self._begun
