"""A serving region's DynamoDB: home's writes arrive item by item, in whatever order a test says."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from api_lambda.store.item_reader import ItemReader

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

# Table, partition key, sort key.
Place = tuple[str, str, str]


@dataclass(slots=True)
class FakeReplica(ItemReader):
    """A store to read, which applies the writes to one item in their order, and those to others in any.

    Attributes:
        tables: The names of the tables, which are there before any item.
        items: What has arrived.
        waiting: What has not, by item.
        reads: How many items and queries were asked for.
    """

    tables: tuple[str, ...]
    items: dict[Place, dict[str, Any]] = field(default_factory=dict)
    waiting: dict[Place, list[dict[str, Any]]] = field(default_factory=dict)
    reads: int = 0

    def send(self, place: Place, item: dict[str, Any]) -> None:
        """Take what home wrote; it arrives later."""
        self.waiting.setdefault(place, []).append(item)

    def apply(self, number: int) -> None:
        """Let one write arrive: of the items that wait for one, the nth in the order of their keys."""
        places = sorted(self.waiting)
        if places:
            self._arrive(places[number % len(places)])

    def apply_all(self, chosen: Callable[[Place], bool] = lambda _place: True) -> None:
        """Let all writes to the chosen items arrive."""
        for place in [each for each in self.waiting if chosen(each)]:
            while place in self.waiting:
                self._arrive(place)

    def _arrive(self, place: Place) -> None:
        self.items[place] = self.waiting[place].pop(0)
        if not self.waiting[place]:
            del self.waiting[place]

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
        """Return those of the items that have arrived."""
        found = (self.get_item(table, key, consistent=consistent, until=until) for key in keys)
        return [item for item in found if item is not None]

    def query_backwards(
        self, table: str, key: Mapping[str, str], last: str, *, most: int, until: float
    ) -> list[dict[str, Any]]:
        """Return what has arrived of a partition, the last one first."""
        del until
        self.reads += 1
        partition, first = key.values()
        places = [(table, partition, sort) for *at, sort in self.items if at == [table, partition]]
        found = sorted(place for place in places if first <= place[2] <= last)
        return [self.items[place] for place in reversed(found)][:most]

    def table_names(self, prefix: str, *, until: float) -> list[str]:
        """Return the names of the tables that begin so."""
        del until
        return sorted(table for table in self.tables if table.startswith(prefix))
