"""A model whose batches have rows in the warehouse, for checks of values."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlpipe_dagster.resources.warehouse import Warehouse
from prediction_contract.stores.warehouse_table import WarehouseTable
from tests.dagster.small_model import SmallModel

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

COLUMNS: list[dict[str, Any]] = [
    {"name": "entity_id", "type": "string", "nullable": False, "key": True},
    {"name": "score", "type": "decimal(7,2)"},
    {"name": "likely", "type": "boolean"},
    {"name": "income", "type": "double", "sensitive": True},
]
Row = tuple[str, Any, Any, Any]


def rows(numbers: Iterable[int], *, shift: float = 0, prefix: str = "E") -> list[Row]:
    """Return a row for each number, with scores from 0 to 99 plus `shift`."""
    return [
        (f"{prefix}{number}", number % 100 + shift, number % 2 == 0, 1000.5 + number) for number in numbers
    ]


@dataclass
class LoadedModel(SmallModel):
    """A small model with rows in the Snowflake stand-in; the registry counts them as verified."""

    @property
    def warehouse(self) -> Warehouse:
        """Return the stand-in's sessions."""
        return Warehouse(platform=self.platform)

    def loaded_batch(self, content: Sequence[Row], **changes: Any) -> str:
        """Verify a batch with these rows, and return its id."""
        batch_id = self.verified_batch(**changes)
        schema = self.declaration.prediction_schema
        table = WarehouseTable(self.name, schema)
        with self.warehouse.session() as session:
            session.ensure_table(self.name, schema)
            for first in range(0, len(content), 500):
                values = ", ".join(
                    f"({', '.join(map(_literal, row))}, '{batch_id}', 1)"
                    for row in content[first : first + 500]
                )
                session._query(f"INSERT INTO {table.name} ({table.column_list}) VALUES {values}")
        return batch_id


def _literal(value: Any) -> str:
    if value is None:
        return "NULL"
    return f"'{value}'" if isinstance(value, str) else json.dumps(value)
