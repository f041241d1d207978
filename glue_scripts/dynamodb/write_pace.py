"""Limits writes: write units per second, and requests in flight, which throttling halves."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

# A pause of this length may be made up for, as the process may cause it; a longer one would cause a burst.
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
        """Return the seconds until the next request may be sent."""
        return 0.0 if self._rate is None else max(0.0, self._free_at - self._clock())

    def spend(self, units: float) -> None:
        """Count the units of a request that is sent now."""
        if self._rate is not None:
            self._free_at = max(self._free_at, self._clock() - _CREDIT_SECONDS) + units / self._rate

    def correct(self, units: float) -> None:
        """Add the units that DynamoDB consumed beyond the estimate; negative if it consumed fewer."""
        if self._rate is not None:
            self._free_at += units / self._rate


class Window:
    """How many requests may be in flight: one more after each successful round, half after throttling.

    Args:
        most: The maximum.
    """

    def __init__(self, most: int = MAX_IN_FLIGHT) -> None:
        self._most = most
        self._width = min(_FIRST_WINDOW, most)
        self._begun = 0
        self._ignore_throttles_until = 0

    @property
    def width(self) -> int:
        """How many requests may be in flight now."""
        return int(self._width)

    def begin(self) -> int:
        """Count a request, and return its number."""
        self._begun += 1
        return self._begun

    def widen(self) -> None:
        """Widen the window after a request succeeded."""
        self._width = min(self._most, self._width + 1 / self._width)

    def narrow(self, number: int) -> None:
        """Halve the window after throttling, once for all requests that were in flight together.

        Args:
            number: The throttled request's number, from `begin`.
        """
        if number > self._ignore_throttles_until:
            self._width = max(_LEAST_WINDOW, self._width / 2)
            self._ignore_throttles_until = self._begun
