"""The vacuum of a Delta table: deletes files of retired batches, and files that no kept batch names."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import NamedTuple

from mlpipe_dagster.done_files.registration import registered_manifest
from mlpipe_dagster.resources.data_bucket import DataBucket
from mlpipe_dagster.retention.delta_history import DeltaHistory
from prediction_contract.errors import ContractError
from prediction_contract.naming.s3_layout import delta_table_prefix
from prediction_contract.registry.records import BatchRecord


class VacuumResult(NamedTuple):
    """Number and bytes of the deleted files, and why other old files stay; empty if none do."""

    files: int
    bytes: int
    not_vacuumed: str


def vacuum(
    bucket: DataBucket,
    delta: DeltaHistory,
    model: str,
    *,
    longer_than: timedelta,
    now: datetime,
    retired: Iterable[BatchRecord],
    kept: Iterable[BatchRecord],
) -> VacuumResult:
    """Delete files that left the table long ago or never entered it, except those that a kept batch names.

    The folder is listed before the table is read, so a file that is committed in between counts as known. A
    retired batch's files belong to no other batch, so they are deleted in any case. The remaining files come
    from abandoned attempts. While any done file cannot be read, it is unknown whether its batch names some of
    them, so all of them stay.

    Args:
        bucket: The bucket of the table and of the done files.
        delta: The table.
        model: The model's name.
        longer_than: How long a file stays after it has left the table's newest version.
        now: The current time.
        retired: Retired batches that were verified once: no other batch has their files.
        kept: The batches whose files stay; only read if there are files to delete.
    """
    root = delta_table_prefix(model)
    files = {item.key.removeprefix(root): item for item in bucket.below(root)}
    unknown = {name for name, item in files.items() if _is_data(name) and item.put_at < now - longer_than}
    unknown -= delta.known_files()
    deletable = files.keys() & (delta.removed_files(longer_than=longer_than) | unknown)
    vacuumed: set[str] = set()
    for record in retired if deletable else ():
        named, _ = _named_files(bucket, record)
        vacuumed |= deletable & named
        deletable -= named
    reasons: list[str] = []
    for record in kept if deletable else ():
        named, reason = _named_files(bucket, record)
        deletable -= named
        reasons += [reason] if reason else []
    not_vacuumed = ""
    if not reasons:
        vacuumed |= deletable
    elif deletable:
        others = f" {len(reasons) - 1} other done files cannot be read either." if len(reasons) > 1 else ""
        not_vacuumed = (
            f"{len(deletable)} files stay because they may belong to a batch whose done file cannot be read. "
            f"{reasons[0]}{others}"
        )
    bucket.delete(files[name].key for name in sorted(vacuumed))
    return VacuumResult(len(vacuumed), sum(files[name].size for name in vacuumed), not_vacuumed)


def _is_data(name: str) -> bool:
    """Return whether a file below a Delta table's folder is data; names that begin with `_` are its log."""
    return name.endswith(".parquet") and not name.startswith("_")


def _named_files(bucket: DataBucket, record: BatchRecord) -> tuple[frozenset[str], str]:
    """Return the Delta files of a batch and an empty text, or no files and why they are unknown."""
    try:
        return frozenset(registered_manifest(bucket, record).delta.files), ""
    except ContractError as error:
        return frozenset(), str(error)
