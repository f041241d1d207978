"""Uploads in the background while the next object is made."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor


class Uploads:
    """Carries out puts one after another in a thread. At most one put is pending."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="upload")
        self._last: Future[None] | None = None

    def start(self, put: Callable[[], None]) -> None:
        """Wait for the previous put, raise its error if it failed, and begin the next one."""
        self.finish()
        self._last = self._thread.submit(put)

    def finish(self) -> None:
        """Wait for the last put, and raise its error if it failed."""
        last, self._last = self._last, None
        if last is not None:
            last.result()
