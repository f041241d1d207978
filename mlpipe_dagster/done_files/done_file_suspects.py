"""Done files that a tick may have died of: remembered where it survives the tick."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import dagster as dg

# Dagster waits for a tick for 60 seconds, and then goes on with the next one while the old thread still runs.
# A tick that parses for so long may have been given up.
_MAX_SECONDS = 20
# How often a tick may die of a file before the file is set aside. Any other cause may have ended one as well.
MAX_DEATHS = 3
# How many ticks suspects wait for one without new files, until one of them goes first.
MAX_WAITS = 10


class Suspects:
    """Files that were being parsed when a tick ended before its time, in Dagster's own storage.

    A tick that dies takes with it what it would have kept in its cursor, and the next one would die as well.

    Args:
        instance: Dagster's.
        bucket: The data bucket's name: deployments may share an instance.
    """

    def __init__(self, instance: dg.DagsterInstance, bucket: str) -> None:
        self._storage = instance.daemon_cursor_storage
        self._record = f"mlpipe/{bucket}/done_file_suspects"
        text = self._storage.get_cursor_values({self._record}).get(self._record, "[{}, [], 0]")
        self._deaths: dict[str, int]
        # A record of an earlier release counts no waits.
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
        """Return how many ticks ended while they parsed a file."""
        return self._deaths.get(key, 0)

    def is_set_aside(self, key: str) -> bool:
        """Whether so many ticks ended while they parsed a file that it is not parsed again."""
        return self.deaths(key) >= MAX_DEATHS

    @property
    def are_due(self) -> bool:
        """Whether they have waited so long that one of them goes before the new files."""
        return self._waits > MAX_WAITS

    def acquit(self, key: str) -> None:
        """Forget a file that is dealt with or gone."""
        if self._deaths.pop(key, None) is not None:
            self._keep([])

    @contextmanager
    def parsing(self, keys: Sequence[str]) -> Iterator[None]:
        """Record files for as long as they are parsed; they stay recorded if that ends this process."""
        if any(map(self.deaths, keys)):
            # Kept before the tick may die: the next one is for new files.
            self._waits = 0
        self._keep(keys)
        began = time.monotonic()
        yield
        if time.monotonic() - began <= _MAX_SECONDS:
            self._keep([])

    def _keep(self, parsed: Sequence[str]) -> None:
        self._storage.set_cursor_values({self._record: json.dumps([self._deaths, list(parsed), self._waits])})
