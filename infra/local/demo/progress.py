"""Prints one line per step of the demo, with its duration in seconds."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TextIO


class DemoProgress:
    """Writes each step when it ends.

    Args:
        stream: Receives the lines.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds since the demo began."""
        return time.monotonic() - self._started

    def say(self, line: str = "") -> None:
        """Write a line and flush the stream."""
        self._stream.write(f"{line}\n")
        self._stream.flush()

    @contextmanager
    def step(self, title: str) -> Iterator[list[str]]:
        """Write the line of a step when it ends; the caller appends its results to the yielded list."""
        begun = time.monotonic()
        found: list[str] = []
        try:
            yield found
        except BaseException:
            self._line("FAILED", title, time.monotonic() - begun, found)
            raise
        self._line("ok", title, time.monotonic() - begun, found)

    def _line(self, verdict: str, title: str, seconds: float, found: list[str]) -> None:
        details = f": {', '.join(found)}" if found else ""
        self.say(f"[{self.seconds:6.1f} s] {verdict:<6} {seconds:6.1f} s  {title}{details}")
