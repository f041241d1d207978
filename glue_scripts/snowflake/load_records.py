"""Records of running loads in Snowflake, which name staging tables and stop loads that were overtaken.

Snowflake lets two concurrent transactions delete and insert the same batch, which leaves its rows twice. So a
load writes a record before it stages, and deletes the records of earlier attempts. The transaction that moves
its rows also deletes and rewrites its own record. If that record is gone, a later load has overtaken it.
"""

# ruff: noqa: S608  # what goes into the text is validated to be safe in it; values are placeholders
from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING

from prediction_contract.errors import InvalidNameError
from prediction_contract.naming.batch import BatchId
from prediction_contract.text.utc_time import format_utc

if TYPE_CHECKING:
    from datetime import datetime

    from prediction_contract.stores.warehouse_load import WarehouseLoad
    from prediction_contract.stores.warehouse_table import WarehouseTable

# Many times a job run's timeout, so an older record belongs to no running load.
FORGOTTEN_AFTER = timedelta(days=1)
_STEM = re.compile("[A-Z0-9_]{1,240}")


class LoadRecord:
    """The statements for one load's record.

    Args:
        table: The model's table.
        load: The load, which names the staging tables.
        batch_id: The batch.
        attempt: The load attempt, from 1.
        begun_at: When the load began.
    """

    def __init__(
        self, table: WarehouseTable, load: WarehouseLoad, batch_id: str, attempt: int, begun_at: datetime
    ) -> None:
        self.name = f'"{table.model.upper()}_LOADS"'
        self._stem = load.staging.strip('"')
        self._batch_id = BatchId(batch_id)
        self._attempt = attempt
        self._begun_at = begun_at

    def create(self) -> str:
        """Return the statement that creates the model's table of records unless it exists."""
        return (
            f'CREATE TABLE IF NOT EXISTS {self.name} ("BATCH_ID" VARCHAR, "ATTEMPT" NUMBER(19,0), '
            '"STAGING" VARCHAR, "BEGUN_AT" VARCHAR)'
        )

    def write(self) -> str:
        """Return the statement that writes the record; run it before the staging tables are created."""
        return (
            f"INSERT INTO {self.name} VALUES ('{self._batch_id}', {self._attempt}, '{self._stem}', "
            f"'{format_utc(self._begun_at)}')"
        )

    def delete(self) -> str:
        """Return the statement that deletes the record and returns the number deleted: 0 if overtaken."""
        return _delete(self.name, self._stem)

    def overtaken(self) -> str:
        """Return the query for the staging tables of earlier attempts at the batch and of day-old loads."""
        forgotten = format_utc(self._begun_at - FORGOTTEN_AFTER)
        return (
            f'SELECT "STAGING" FROM {self.name} WHERE ("BATCH_ID" = \'{self._batch_id}\' AND '
            f'"ATTEMPT" < {self._attempt}) OR "BEGUN_AT" < \'{forgotten}\''
        )

    def take_over(self, stem: str) -> list[str]:
        """Return the statements that end another load.

        Its record is deleted last, so that a later load still finds the staging tables if this one is killed.

        Args:
            stem: A staging table's name, as `overtaken` found it.

        Raises:
            InvalidNameError: It is not the name of a staging table.
        """
        if not _STEM.fullmatch(stem):
            raise InvalidNameError(
                f"{self.name} names {stem[:80]!r}, which is not a staging table",
                remedy="Delete that record by hand",
            )
        drops = [f'DROP TABLE IF EXISTS "{stem}{suffix}"' for suffix in ("", "_REFUSED")]
        return [*drops, _delete(self.name, stem)]


def _delete(name: str, stem: str) -> str:
    return f"DELETE FROM {name} WHERE \"STAGING\" = '{stem}'"
