"""A model's Delta table as retention leaves it: without retired batches, and without files of no batch."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import unquote

from prediction_contract.errors import ContractError
from prediction_contract.naming.batch import BatchId
from prediction_contract.naming.s3_layout import delta_table_prefix
from prediction_contract.stores.delta_table import BATCH_COLUMN, deltalake_message

if TYPE_CHECKING:
    from deltalake import DeltaTable

_LONGEST_PAUSE = 4.0


class DeltaRemovalError(ContractError):
    """The commit that removes batches could not be made in time."""


class DeltaHistory:
    """One model's Delta table.

    Args:
        bucket: The bucket's name.
        model: The model's name.
        options: Returns what deltalake needs to reach the bucket; asked each time, since credentials expire.
        patience_seconds: How long a commit is tried again while scoring jobs commit before it.
    """

    def __init__(
        self,
        bucket: str,
        model: str,
        options: Callable[[], Mapping[str, str]],
        *,
        patience_seconds: float = 120,
    ) -> None:
        self._model = model
        self._uri = f"s3://{bucket}/{delta_table_prefix(model)}"
        self._options = options
        self._patience_seconds = patience_seconds

    def exists(self) -> bool:
        """Whether the model has a table yet."""
        from deltalake import DeltaTable  # noqa: PLC0415  # not while definitions load

        return DeltaTable.is_deltatable(self._uri, storage_options=dict(self._options()))

    def remove(self, batch_ids: Collection[str]) -> int:
        """Take batches out of the table's newest version by one commit; return how many files left it.

        The files themselves stay for whoever reads an earlier version; doing it again commits nothing.

        Raises:
            DeltaRemovalError: Others committed first until the patience ended.
        """
        from deltalake.exceptions import CommitFailedError  # noqa: PLC0415

        if not batch_ids:
            return 0
        named = ", ".join(f"'{BatchId(batch_id)}'" for batch_id in sorted(batch_ids))
        deadline, pause = time.monotonic() + self._patience_seconds, 0.1
        while True:
            try:
                return int(self._table().delete(f"{BATCH_COLUMN} IN ({named})")["num_removed_files"])
            except CommitFailedError as error:
                if time.monotonic() + pause > deadline:
                    raise DeltaRemovalError(
                        f"Others commit to the Delta table for {self._patience_seconds:.0f} s: "
                        f"{deltalake_message(error)}",
                        remedy="Run the sweep again: what it has retired stays retired",
                        model=self._model,
                    ) from error
                time.sleep(random.uniform(0, pause))  # noqa: S311  # spreads load, guards nothing
                pause = min(pause * 2, _LONGEST_PAUSE)

    def removed_files(self, *, longer_than: timedelta) -> set[str]:
        """Return the data files that left the table so long ago, whether they are still on S3 or not.

        As Delta's VACUUM would find them; it would delete those too which a batch that is not retired names,
        because of two attempts at a batch the later commit removes the earlier one's files.
        """
        return self._removed(self._table(), longer_than)

    def known_files(self) -> set[str]:
        """Return the data files that the table has, or has had and still remembers.

        A file in its folder that is none of them was written by an attempt that died before its commit, or
        left the table so long ago that the log has forgotten it.
        """
        table = self._table()
        present = table.get_add_actions(flatten=True)["path"].to_pylist()
        return {unquote(path) for path in present} | self._removed(table, timedelta(0))

    def _table(self) -> DeltaTable:
        from deltalake import DeltaTable  # noqa: PLC0415

        return DeltaTable(self._uri, storage_options=dict(self._options()))

    @staticmethod
    def _removed(table: DeltaTable, longer_than: timedelta) -> set[str]:
        hours = int(longer_than / timedelta(hours=1))
        files = table.vacuum(retention_hours=hours, dry_run=True, enforce_retention_duration=False)
        return {unquote(path) for path in files}
