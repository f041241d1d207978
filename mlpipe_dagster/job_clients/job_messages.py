"""Logs a job's custom Pipes messages in the Dagster run as they arrive."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import dagster as dg

from prediction_contract.printable_text import escape_unprintable

_LONGEST = 500
# Progress messages every few seconds would flood the log of a long run. The limit is below ten seconds, so
# that all messages of a job that reports every ten seconds are shown even if they arrive unevenly.
_QUIET_SECONDS = 8.0


class LoggedMessages(dg.PipesMessageReader):
    """A message reader that also logs custom messages, which Pipes only stores.

    Args:
        reader: The reader of the messages.
        log: Logs a text.
        clock: A monotonic clock, in seconds.
    """

    def __init__(
        self,
        reader: dg.PipesMessageReader,
        log: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reader = reader
        self._log = log
        self._clock = clock

    @contextmanager
    def read_messages(self, handler: Any) -> Iterator[dict[str, Any]]:
        """Read messages with the wrapped reader."""
        with self._reader.read_messages(_Handler(handler, self._log, self._clock)) as params:  # type: ignore[arg-type]  # it is one to every reader
            yield dict(params)

    def on_opened(self, opened_payload: Any) -> None:
        """Inform the wrapped reader."""
        self._reader.on_opened(opened_payload)

    def on_launched(self, launched_payload: Any) -> None:
        """Inform the wrapped reader."""
        self._reader.on_launched(launched_payload)

    def no_messages_debug_text(self) -> str:
        """Return the wrapped reader's text."""
        return self._reader.no_messages_debug_text()


class _Handler:
    """A handler that logs custom messages and passes all messages on."""

    def __init__(self, handler: Any, log: Callable[[str], None], clock: Callable[[], float]) -> None:
        self._handler = handler
        self._log = log
        self._clock = clock
        self._last: tuple[Any, float] = (None, 0.0)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._handler, name)

    def handle_message(self, message: Mapping[str, Any]) -> None:
        self._handler.handle_message(message)
        if message.get("method") == "report_custom_message":
            payload = (message.get("params") or {}).get("payload")
            if self._is_new_step(payload):
                self._log(message_text(payload))

    def _is_new_step(self, payload: Any) -> bool:
        """Return whether a message is about a new step, or enough time has passed since the last one."""
        step = (payload.get("kind"), payload.get("step")) if isinstance(payload, Mapping) else None
        (last_step, at), now = self._last, self._clock()
        if step is not None and step[1] is not None and step == last_step and now - at < _QUIET_SECONDS:
            return False
        self._last = (step, now)
        return True


def message_text(payload: Any) -> str:
    """Return a custom message as one printable line: `progress: step=survey rows=100`, or its JSON."""
    if not isinstance(payload, Mapping):
        return escape_unprintable(f"The job reports: {json.dumps(payload, default=str)}"[:_LONGEST])
    named = {name: value for name, value in payload.items() if name != "kind" and value is not None}
    members = " ".join(
        f"{name}={value if isinstance(value, str) else json.dumps(value, default=str)}"
        for name, value in named.items()
    )
    return escape_unprintable(f"The job reports {payload.get('kind', 'its result')}: {members}"[:_LONGEST])
