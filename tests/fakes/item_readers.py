"""A store that records what it was asked, and one that has not seen the latest writes yet."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from api_lambda.store.item_reader import ItemReader, StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class UnavailableReader(ItemReader):
    """A store that is at its deadline already, whatever it is asked."""

    def __init__(self) -> None:
        """Ask nobody."""

    def get_item(self, *_: Any, **__: Any) -> dict[str, Any] | None:
        """Raise."""
        raise StoreUnavailableError("the request's deadline")

    def batch_get(self, *_: Any, **__: Any) -> list[dict[str, Any]]:
        """Raise."""
        raise StoreUnavailableError("the request's deadline")

    query_backwards = batch_get

    def table_names(self, *_: Any, **__: Any) -> list[str]:
        """Raise."""
        raise StoreUnavailableError("the request's deadline")


@dataclass(slots=True)
class RecordingReader(ItemReader):
    """Hands every question on, and remembers it as table, key values and consistency.

    Attributes:
        inner: Whom to ask.
        lagging: Whether reads that need not be consistent find nothing, as in a replica that is behind.
    """

    inner: ItemReader
    lagging: bool = False
    asked: list[tuple[str, tuple[str, ...], bool]] = field(default_factory=list)

    def get_item(
        self, table: str, key: Mapping[str, str], *, consistent: bool, until: float
    ) -> dict[str, Any] | None:
        """Return an item, or None."""
        self.asked.append((table, tuple(key.values()), consistent))
        if self.lagging and not consistent:
            return None
        return self.inner.get_item(table, key, consistent=consistent, until=until)

    def batch_get(
        self, table: str, keys: Sequence[Mapping[str, str]], *, consistent: bool, until: float
    ) -> list[dict[str, Any]]:
        """Return the items that there are."""
        self.asked.append((table, tuple("/".join(key.values()) for key in keys), consistent))
        if self.lagging and not consistent:
            return []
        return self.inner.batch_get(table, keys, consistent=consistent, until=until)

    def query_backwards(
        self, table: str, key: Mapping[str, str], last: str, *, most: int, until: float
    ) -> list[dict[str, Any]]:
        """Return a partition's items backwards."""
        self.asked.append((table, (*key.values(), last), True))
        return self.inner.query_backwards(table, key, last, most=most, until=until)

    def table_names(self, prefix: str, *, until: float) -> list[str]:
        """Return the tables' names."""
        self.asked.append((prefix, (), True))
        return self.inner.table_names(prefix, until=until)
