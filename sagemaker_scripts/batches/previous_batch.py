"""The previous batch: the newest good one of the nearest earlier partition, read through its manifest."""

# pandas' own annotations call every column "Series | DataFrame".
# pyright: reportReturnType=false

from __future__ import annotations

import gzip
import io
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import pandas as pd

from prediction_batches.delivery.done_file import done_manifest
from prediction_batches.object_store import ObjectStore
from prediction_contract.cleaning.cleaning_rules import NO_CLEANING, Cleaning, recorded_cleaning
from prediction_contract.cleaning.row_cleaning import row_parser
from prediction_contract.errors import InvalidManifestError, InvalidNameError, InvalidRowError
from prediction_contract.manifests.manifest import InputObject, Manifest
from prediction_contract.naming.batch import BatchId, Partition
from prediction_contract.naming.s3_layout import json_partition_prefix
from prediction_contract.registry.records import BatchRecord, LoadState, ReleaseState
from prediction_contract.rows.row_contract import read_lines
from sagemaker_scripts.batches.schema_frame import entity_frame

_LOG = logging.getLogger(__name__)
# Their files may be gone, or somebody found them to be wrong.
_UNUSABLE_LOADS = frozenset({LoadState.REFUSED, LoadState.RETIRED})

FindRecord = Callable[[str, str], BatchRecord | None]


@dataclass(frozen=True)
class PreviousBatch:
    """An earlier batch.

    Attributes:
        manifest: Its manifest.
        predictions: Its rows as `entity_frame` gives them.
    """

    manifest: Manifest
    predictions: pd.DataFrame


def find_previous(
    store: ObjectStore, find_record: FindRecord, *, model: str, partition: str, lookback: int, batch_id: str
) -> PreviousBatch | None:
    """Return the newest usable batch of the nearest earlier partition that has one.

    A batch whose manifest is invalid, or which the registry says was refused, retired or withdrawn, is
    passed over; one that the registry does not know yet is done.

    Args:
        store: The bucket.
        find_record: Looks a batch up in the registry by model and batch id.
        model: The model's name.
        partition: The partition that is being scored.
        lookback: How many partitions back to look; 0 finds none.
        batch_id: The batch that is being scored, which is no previous one of itself.
    """
    for steps in range(1, lookback + 1):
        earlier = Partition(partition).earlier(steps)
        for candidate in _batches_of(store, model, earlier):
            if candidate == batch_id:
                continue
            usable = _usable_batch(store, find_record, model, candidate)
            if usable is not None and usable[0].partition == earlier:
                return PreviousBatch(usable[0], _predictions(store, *usable))
    return None


def _batches_of(store: ObjectStore, model: str, partition: Partition) -> list[BatchId]:
    """Return the ids of a partition's batches, done or not, the newest first."""
    found = []
    for folder in store.folders(json_partition_prefix(model, partition)):
        try:
            found.append(BatchId(folder.removeprefix("batch=")))
        except InvalidNameError:
            _LOG.warning("%s of %s is no batch's folder and is passed over", folder, partition)
    return sorted(found, reverse=True)


def _usable_batch(
    store: ObjectStore, find_record: FindRecord, model: str, batch_id: BatchId
) -> tuple[Manifest, Cleaning] | None:
    """Return the batch's manifest, and how its load cleaned it."""
    try:
        manifest = done_manifest(store, model, batch_id)
    except InvalidManifestError as error:
        _LOG.warning("a batch with an invalid manifest is passed over: %s", error)
        return None
    if manifest is None:
        return None
    record = find_record(model, batch_id)
    if record is None:
        return manifest, NO_CLEANING
    unusable = record.load_state in _UNUSABLE_LOADS or record.release_state == ReleaseState.WITHDRAWN
    return None if unusable else (manifest, recorded_cleaning(record.cleaning))


def _predictions(store: ObjectStore, manifest: Manifest, cleaning: Cleaning) -> pd.DataFrame:
    """Return a batch's rows as typed values, without rows that no store took and all rows of a duplicate key.

    Raises:
        InputMissingError: A part is gone.
        ObjectAlteredError: A part has not the digest that the manifest states.
    """
    accept = row_parser(manifest.schema, cleaning)
    rows = []
    refused: Counter[str] = Counter()
    for part in manifest.json_parts:
        content = store.get_verified(InputObject(part.key, part.sha256))
        for line in _lines(content, part.rows):
            try:
                rows.append((line, accept(line)))
            except InvalidRowError as error:
                refused[error.reason] += 1
    for reason, count in sorted(refused.items()):
        _LOG.warning("%d rows of batch %s are left out: %s", count, manifest.batch_id, reason)
    frame = entity_frame(manifest.schema, cleaning, rows)
    duplicates = len(rows) - len(frame)
    if duplicates:
        _LOG.warning("%d rows of batch %s share their key and are left out", duplicates, manifest.batch_id)
    return frame


def _lines(content: bytes, most: int) -> Iterator[bytes]:
    """Yield a part's lines, no more than its manifest promises: few bytes may unpack to any number."""
    with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
        for line in islice(read_lines(file), most):
            yield line.rstrip(b"\n")
