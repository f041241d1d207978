"""One line a step, with its seconds, and waits that end by a deadline."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TextIO

_Found = TypeVar("_Found")
_PAUSE_SECONDS = 0.5


class DemoError(Exception):
    """A statement of the demo does not hold.

    Args:
        what: What does not hold, of which thing, without a full stop.
        remedy: What the reader can do or where to look, without a full stop.
    """

    def __init__(self, what: str, *, remedy: str) -> None:
        super().__init__(f"{what}. {remedy}.")


class DemoProgress:
    """Writes the steps as they end.

    Args:
        stream: Receives the lines.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._started

    def say(self, line: str = "") -> None:
        """Write a line at once."""
        self._stream.write(f"{line}\n")
        self._stream.flush()

    @contextmanager
    def step(self, title: str) -> Iterator[list[str]]:
        """Do a step, and write its line when it ends: what came of it is appended to the list given."""
        begun = time.monotonic()
        found: list[str] = []
        try:
            yield found
        except BaseException:
            self._line("FAILED", title, time.monotonic() - begun, found)
            raise
        self._line("ok", title, time.monotonic() - begun, found)

    def _line(self, verdict: str, title: str, seconds: float, found: list[str]) -> None:
        told = f": {', '.join(found)}" if found else ""
        self.say(f"[{self.seconds:6.1f} s] {verdict:<6} {seconds:6.1f} s  {title}{told}")


def wait_for(
    look: Callable[[], _Found | None],
    *,
    seconds: float,
    what: str,
    see: str,
    pause_seconds: float = _PAUSE_SECONDS,
) -> _Found:
    """Look until there is something, and return it.

    Args:
        look: Returns what is waited for, or None.
        seconds: The deadline.
        what: What is waited for, for the message.
        see: Where the reader finds out why it did not come.
        pause_seconds: Between two looks.

    Raises:
        DemoError: The deadline passed.
    """
    deadline = time.monotonic() + seconds
    while (found := look()) is None:
        if time.monotonic() > deadline:
            raise DemoError(f"{what} did not happen within {seconds:.0f} s", remedy=f"See {see}")
        time.sleep(pause_seconds)
    return found
