"""What a command asks of Snowflake beside what Dagster itself asks; nothing of it changes anything."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from mlpipe_dagster.resources.warehouse_session import WarehouseSession
from prediction_contract.stores.warehouse_table import PUBLICATIONS, ProjectedSequences


class WarehouseQueries(WarehouseSession):
    """A session that can be asked anything."""

    def answer(self, query: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a query, whose placeholders are `%s`."""
        return self._query(query, parameters)

    def tables(self) -> list[str]:
        """Return the names of the tables in the session's schema."""
        query = (
            "SELECT TABLE_NAME FROM INFORMATION_SCHEMA.TABLES "
            "WHERE TABLE_SCHEMA = CURRENT_SCHEMA() ORDER BY TABLE_NAME"
        )
        return [str(name) for (name,) in self._query(query)]

    def has_table(self, name: str) -> bool:
        """Return whether the session's schema has a table of this name, quoted or not."""
        return name.strip('"') in self.tables()

    def projected(self, models: Iterable[str]) -> dict[str, ProjectedSequences]:
        """Return which publications of each model are projected; none if nothing was ever projected."""
        is_there = self.has_table(PUBLICATIONS)
        return {model: self._projected(model) if is_there else ProjectedSequences() for model in models}
