"""Item readers that are unavailable, or that record requests and may lag behind."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from api_lambda.store.item_reader import ItemReader, StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class UnavailableReader(ItemReader):
    """A store whose deadline has passed for every request."""

    def __init__(self) -> None:
        """Need no client."""

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
    """Passes every request on and records its table, key values and consistency.

    Attributes:
        inner: The reader that gets the requests.
        lagging: Whether eventually consistent reads find nothing, as in a replica that lags behind.
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
        """Return the requested items that exist."""
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
