"""A Pipes message reader that has all messages at once, and a handler that records them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import dagster as dg


class FakeMessageReader(dg.PipesMessageReader):
    """Passes given messages to the handler of a run.

    Args:
        messages: The messages.
    """

    def __init__(self, messages: Sequence[Mapping[str, Any]]) -> None:
        self._messages = messages
        self.handled: list[Mapping[str, Any]] = []

    @contextmanager
    def read_messages(self, handler: Any) -> Iterator[dict[str, Any]]:
        """Pass all messages to the handler."""
        for message in self._messages:
            handler.handle_message(message)
        yield {}

    def handle_message(self, message: Mapping[str, Any]) -> None:
        """Record a message."""
        self.handled.append(message)

    def no_messages_debug_text(self) -> str:
        """Return an empty text, which no test reads."""
        return ""
