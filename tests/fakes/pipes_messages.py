"""A reader of Pipes messages that has them all at once, and a handler that keeps them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import dagster as dg


class FakeMessageReader(dg.PipesMessageReader):
    """Hands given messages to whoever reads.

    Args:
        messages: The messages.
    """

    def __init__(self, messages: Sequence[Mapping[str, Any]]) -> None:
        self._messages = messages
        self.handled: list[Mapping[str, Any]] = []

    @contextmanager
    def read_messages(self, handler: Any) -> Iterator[dict[str, Any]]:
        """Hand all messages over."""
        for message in self._messages:
            handler.handle_message(message)
        yield {}

    def handle_message(self, message: Mapping[str, Any]) -> None:
        """Keep a message."""
        self.handled.append(message)

    def no_messages_debug_text(self) -> str:
        """Return nothing of use."""
        return ""
