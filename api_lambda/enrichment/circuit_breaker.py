"""Stops asking somebody who does not answer, and tries again now and then."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

FAILURES_TO_OPEN = 5
OPEN_SECONDS = 10.0


class CircuitBreaker:
    """Opens after failures in a row; then one call in `OPEN_SECONDS` finds out how things are."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._tried_at = 0.0

    def admits(self) -> bool:
        """Tell whether to call now; a call that is admitted is to be followed by its outcome."""
        with self._lock:
            now = self._clock()
            if self._failures < FAILURES_TO_OPEN:
                return True
            if now - self._tried_at < OPEN_SECONDS:
                return False
            # This call is the trial; should its outcome never come, the next one follows all the same.
            self._tried_at = now
            return True

    def succeeded(self) -> None:
        """Close: the callee answers."""
        with self._lock:
            self._failures = 0

    def failed(self) -> None:
        """Count a failure, and open after enough of them."""
        with self._lock:
            self._failures += 1
            self._tried_at = self._clock()
