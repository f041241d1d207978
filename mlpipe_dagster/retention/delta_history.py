"""Removes retired batches from a model's Delta table, and finds files that belong to no batch."""

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
    """The commit that removes batches was not possible in time."""


class DeltaHistory:
    """One model's Delta table.

    Args:
        bucket: The bucket's name.
        model: The model's name.
        options: Returns deltalake's storage options; called each time, because credentials expire.
        patience_seconds: How long a commit is retried while scoring jobs commit first.
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
        """Return whether the model's table exists."""
        from deltalake import DeltaTable  # noqa: PLC0415  # not while definitions load

        return DeltaTable.is_deltatable(self._uri, storage_options=dict(self._options()))

    def remove(self, batch_ids: Collection[str]) -> int:
        """Remove batches from the table's newest version in one commit; return how many files were removed.

        The files stay on S3 for readers of earlier versions. Removing the same batches again commits nothing.

        Raises:
            DeltaRemovalError: Other writers committed first until the patience ended.
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
                        f"Other writers committed to the Delta table for {self._patience_seconds:.0f} s: "
                        f"{deltalake_message(error)}",
                        remedy="Run the sweep again; batches that it has retired stay retired",
                        model=self._model,
                    ) from error
                time.sleep(random.uniform(0, pause))  # noqa: S311  # spreads load, guards nothing
                pause = min(pause * 2, _LONGEST_PAUSE)

    def removed_files(self, *, longer_than: timedelta) -> set[str]:
        """Return the data files that left the table at least `longer_than` ago, on S3 or already deleted.

        They are not deleted with Delta's VACUUM, because some belong to batches that are not retired: if a
        batch had two attempts, the later commit removes the files of the earlier one from the table.
        """
        return self._removed(self._table(), longer_than)

    def known_files(self) -> set[str]:
        """Return the data files of the table, present ones and removed ones that its log still lists.

        Any other file in the folder was written by an attempt that died before its commit, or left the table
        so long ago that the log no longer lists it.
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
