"""A store that records what it was asked, and one that has not seen the latest writes yet."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from api_lambda.dynamodb import ItemReader


@dataclass(slots=True)
class RecordingReader:
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
