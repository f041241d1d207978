"""A cache of bounded size."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class BoundedCache(Generic[Key, Value]):
    """Keeps the most recently used entries; callers decide how old an entry may be."""

    def __init__(self, most: int, weigh: Callable[[Key, Value], int] = lambda _key, _value: 1) -> None:
        """Create an empty cache.

        Args:
            most: The most that all entries may weigh together.
            weigh: Returns an entry's weight; by default 1.
        """
        self._most = most
        self._weigh = weigh
        self._weight = 0
        self._entries: OrderedDict[Key, Value] = OrderedDict()
        # Calls to third parties fill the cache from their own threads.
        self._lock = threading.Lock()

    def get(self, key: Key) -> Value | None:
        """Return an entry, or None."""
        with self._lock:
            if key in self._entries:
                self._entries.move_to_end(key)
            return self._entries.get(key)

    def put(self, key: Key, value: Value) -> None:
        """Keep an entry; the least recently used ones are dropped to make room."""
        with self._lock:
            if key in self._entries:
                self._weight -= self._weigh(key, self._entries.pop(key))
            self._entries[key] = value
            self._weight += self._weigh(key, value)
            while self._weight > self._most:
                self._weight -= self._weigh(*self._entries.popitem(last=False))
