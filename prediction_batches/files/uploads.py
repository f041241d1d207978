"""Puts that are carried out beside what makes the next object."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor


class Uploads:
    """Carries out one put after another; the caller is never more than one ahead."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="upload")
        self._last: Future[None] | None = None

    def start(self, put: Callable[[], None]) -> None:
        """Begin a put once the one before has ended, whose error this raises."""
        self.finish()
        self._last = self._thread.submit(put)

    def finish(self) -> None:
        """Wait for the last put, whose error this raises."""
        last, self._last = self._last, None
        if last is not None:
            last.result()
