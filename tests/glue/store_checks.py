"""The check that both stores hold a batch after a load."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prediction_contract.stores.online_item import OnlineItems
from prediction_contract.stores.warehouse_table import WarehouseTable
from tests.contract.prediction_rows import FULL_SCHEMA
from tests.glue.load_platform import EXPIRY

if TYPE_CHECKING:
    from tests.glue.batch_builder import WrittenBatch
    from tests.glue.load_platform import LoadPlatform


def check_stores(platform: LoadPlatform, written: WrittenBatch) -> None:
    """Check that both stores hold exactly the batch's rows, value by value."""
    rows = {line.row.key: line.row for part in written.lines for line in part if line.row is not None}
    items = platform.online(written.batch_id)
    assert items.keys() == rows.keys()
    reader, table = OnlineItems(FULL_SCHEMA), WarehouseTable(platform.model, FULL_SCHEMA)
    for key, row in rows.items():
        stored = reader.read(items[key])
        assert stored.row == row
        assert stored.is_intact
        assert stored.expires_at == EXPIRY
    wanted = [table.stored_values(row, written.batch_id) for _, row in sorted(rows.items())]
    assert platform.warehouse(written.batch_id) == wanted
