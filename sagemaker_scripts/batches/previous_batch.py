"""The previous batch: the newest usable batch of the nearest earlier partition."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from prediction_batches.delivery.done_file import done_manifest
from prediction_batches.object_store import ObjectStore
from prediction_contract.cleaning.cleaning_rules import NO_CLEANING, Cleaning, recorded_cleaning
from prediction_contract.errors import InvalidManifestError, InvalidNameError
from prediction_contract.manifests.manifest import Manifest
from prediction_contract.naming.batch import BatchId, Partition
from prediction_contract.naming.s3_layout import json_partition_prefix
from prediction_contract.registry.records import BatchRecord, LoadState, ReleaseState

_LOG = logging.getLogger(__name__)
# The files of such batches may be deleted or known to be wrong.
_UNUSABLE_LOADS = frozenset({LoadState.REFUSED, LoadState.RETIRED})

FindRecord = Callable[[str, str], BatchRecord | None]


@dataclass(frozen=True)
class PreviousBatch:
    """An earlier batch.

    Attributes:
        manifest: The batch's manifest.
        cleaning: The cleaning rules of its load.
    """

    manifest: Manifest
    cleaning: Cleaning


def find_previous(
    store: ObjectStore, find_record: FindRecord, *, model: str, partition: str, lookback: int, batch_id: str
) -> PreviousBatch | None:
    """Return the newest usable batch of the nearest earlier partition that has one.

    Batches with an invalid manifest are skipped, and so are batches that were refused, retired or withdrawn.
    A batch that is not registered yet is usable.

    Args:
        store: The bucket.
        find_record: Returns the registry's record of a batch by model and batch id.
        model: The model's name.
        partition: The partition being scored.
        lookback: The number of earlier partitions to search; with 0, the result is None.
        batch_id: The batch being scored, which is skipped.
    """
    for steps in range(1, lookback + 1):
        earlier = Partition(partition).earlier(steps)
        for candidate in _batches_of(store, model, earlier):
            if candidate == batch_id:
                continue
            usable = usable_batch(store, find_record, model, candidate)
            if usable is not None and usable.manifest.partition == earlier:
                return usable
    return None


def _batches_of(store: ObjectStore, model: str, partition: Partition) -> list[BatchId]:
    """Return the ids of a partition's batches, done or not, newest first."""
    found = []
    for folder in store.folders(json_partition_prefix(model, partition)):
        try:
            found.append(BatchId(folder.removeprefix("batch=")))
        except InvalidNameError:
            _LOG.warning("skipping folder %s of %s, which is not a batch's", folder, partition)
    return sorted(found, reverse=True)


def usable_batch(
    store: ObjectStore, find_record: FindRecord, model: str, batch_id: BatchId
) -> PreviousBatch | None:
    """Return a batch if its manifest is valid and it was not refused, retired or withdrawn."""
    try:
        manifest = done_manifest(store, model, batch_id)
    except InvalidManifestError as error:
        _LOG.warning("skipping a batch with an invalid manifest: %s", error)
        return None
    if manifest is None:
        return None
    record = find_record(model, batch_id)
    if record is None:
        return PreviousBatch(manifest, NO_CLEANING)
    unusable = record.load_state in _UNUSABLE_LOADS or record.release_state == ReleaseState.WITHDRAWN
    return None if unusable else PreviousBatch(manifest, recorded_cleaning(record.cleaning))
