"""A serving region's DynamoDB, where writes from home arrive one by one in an order that a test chooses."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from api_lambda.store.item_reader import ItemReader

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

# Table, partition key, sort key.
ItemKey = tuple[str, str, str]


@dataclass(slots=True)
class FakeReplica(ItemReader):
    """A readable store in which writes to the same item arrive in order, and others in any order.

    Attributes:
        tables: The names of the tables, which exist before any item.
        items: The items that have arrived.
        waiting: The writes that have not arrived, by item.
        reads: The number of items and queries that were requested.
    """

    tables: tuple[str, ...]
    items: dict[ItemKey, dict[str, Any]] = field(default_factory=dict)
    waiting: dict[ItemKey, list[dict[str, Any]]] = field(default_factory=dict)
    reads: int = 0

    def send(self, item_key: ItemKey, item: dict[str, Any]) -> None:
        """Queue an item that home wrote."""
        self.waiting.setdefault(item_key, []).append(item)

    def apply(self, number: int) -> None:
        """Let the next write arrive at the nth of the waiting items, in the order of their keys."""
        item_keys = sorted(self.waiting)
        if item_keys:
            self._arrive(item_keys[number % len(item_keys)])

    def apply_all(self, chosen: Callable[[ItemKey], bool] = lambda _key: True) -> None:
        """Let all writes to the chosen items arrive."""
        for item_key in [each for each in self.waiting if chosen(each)]:
            while item_key in self.waiting:
                self._arrive(item_key)

    def _arrive(self, item_key: ItemKey) -> None:
        self.items[item_key] = self.waiting[item_key].pop(0)
        if not self.waiting[item_key]:
            del self.waiting[item_key]

    def get_item(
        self, table: str, key: Mapping[str, str], *, consistent: bool, until: float
    ) -> dict[str, Any] | None:
        """Return an item that has arrived, or None."""
        del consistent, until
        self.reads += 1
        partition, sort = key.values()
        return self.items.get((table, partition, sort))

    def batch_get(
        self, table: str, keys: Sequence[Mapping[str, str]], *, consistent: bool, until: float
    ) -> list[dict[str, Any]]:
        """Return the requested items that have arrived."""
        found = (self.get_item(table, key, consistent=consistent, until=until) for key in keys)
        return [item for item in found if item is not None]

    def query_backwards(
        self, table: str, key: Mapping[str, str], last: str, *, most: int, until: float
    ) -> list[dict[str, Any]]:
        """Return the arrived items of a partition, the last one first."""
        del until
        self.reads += 1
        partition, first = key.values()
        item_keys = [(table, partition, sort) for *at, sort in self.items if at == [table, partition]]
        found = sorted(item_key for item_key in item_keys if first <= item_key[2] <= last)
        return [self.items[item_key] for item_key in reversed(found)][:most]

    def table_names(self, prefix: str, *, until: float) -> list[str]:
        """Return the names of the tables with this prefix."""
        del until
        return sorted(table for table in self.tables if table.startswith(prefix))
