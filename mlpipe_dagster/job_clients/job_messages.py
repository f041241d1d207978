"""A job's custom Pipes messages in the log of the Dagster run, as they come."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import dagster as dg

from prediction_contract.printable_text import escape_unprintable

_LONGEST = 500
# A job's sign of life every few seconds would drown the rest of a long run's log. Those of a job that reports
# every ten seconds arrive a little sooner or later, and are all shown.
_QUIET_SECONDS = 8.0


class LoggedMessages(dg.PipesMessageReader):
    """A reader of messages that also logs the custom ones, which Pipes only keeps.

    Args:
        reader: Reads them.
        log: Takes each text.
        clock: Seconds that only grow.
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
        """Read as the other reader does."""
        with self._reader.read_messages(_Handler(handler, self._log, self._clock)) as params:  # type: ignore[arg-type]  # it is one to every reader
            yield dict(params)

    def on_opened(self, opened_payload: Any) -> None:
        """Inform the other reader."""
        self._reader.on_opened(opened_payload)

    def on_launched(self, launched_payload: Any) -> None:
        """Inform the other reader."""
        self._reader.on_launched(launched_payload)

    def no_messages_debug_text(self) -> str:
        """Return the other reader's."""
        return self._reader.no_messages_debug_text()


class _Handler:
    """A handler that logs custom messages and passes everything on."""

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
        """Tell whether a message is more than the last one's step going on."""
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
