"""Records done files that may have killed a tick of the sensor."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import dagster as dg

# After 60 seconds Dagster starts the next tick while the old thread still runs. A tick that has parsed for
# this long may have been given up.
_MAX_SECONDS = 20
# How many ticks may die on a file before it is set aside. More than one, as other causes can end a tick.
MAX_DEATHS = 3
# The number of ticks that suspects wait behind new files before one of them is parsed first.
MAX_WAITS = 10


class Suspects:
    """Files that were being parsed when a tick died, recorded in Dagster's own storage.

    A tick that dies loses its cursor, so without this record the next tick would die on the same file.

    Args:
        instance: The Dagster instance.
        bucket: The data bucket's name, because deployments may share an instance.
    """

    def __init__(self, instance: dg.DagsterInstance, bucket: str) -> None:
        self._storage = instance.daemon_cursor_storage
        self._record = f"mlpipe/{bucket}/done_file_suspects"
        text = self._storage.get_cursor_values({self._record}).get(self._record, "[{}, [], 0]")
        self._deaths: dict[str, int]
        # A record of an earlier release has no number of waits.
        self._deaths, left_over, *waits = json.loads(text)
        for key in left_over:
            self._deaths[key] = self._deaths.get(key, 0) + 1
        self._waits = sum(waits) + 1 if self._deaths else 0
        if self._deaths:
            self._keep([])

    def __iter__(self) -> Iterator[str]:
        """Yield the suspects' keys."""
        return iter(list(self._deaths))

    def deaths(self, key: str) -> int:
        """Return how many ticks died while they parsed a file."""
        return self._deaths.get(key, 0)

    def is_set_aside(self, key: str) -> bool:
        """Return whether a file is not parsed again because too many ticks died on it."""
        return self.deaths(key) >= MAX_DEATHS

    @property
    def are_due(self) -> bool:
        """Whether suspects have waited long enough for one to be parsed before the new files."""
        return self._waits > MAX_WAITS

    def forget(self, key: str) -> None:
        """Forget a file that was processed or deleted."""
        if self._deaths.pop(key, None) is not None:
            self._keep([])

    @contextmanager
    def parsing(self, keys: Sequence[str]) -> Iterator[None]:
        """Record files while they are parsed; the record remains if the tick dies or takes too long."""
        if any(map(self.deaths, keys)):
            # Stored before the tick can die, so that the next tick parses new files first.
            self._waits = 0
        self._keep(keys)
        began = time.monotonic()
        yield
        if time.monotonic() - began <= _MAX_SECONDS:
            self._keep([])

    def _keep(self, parsed: Sequence[str]) -> None:
        self._storage.set_cursor_values({self._record: json.dumps([self._deaths, list(parsed), self._waits])})
