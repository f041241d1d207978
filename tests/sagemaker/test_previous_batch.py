"""Tests of the choice of the previous batch."""

from __future__ import annotations

from decimal import Decimal

import pytest

from prediction_batches.delivery.done_file import done_manifest
from prediction_batches.object_store import ObjectStore
from prediction_contract.cleaning.cleaning_rules import Cleaning
from prediction_contract.cleaning.column_cleaning import ColumnCleaning
from prediction_contract.errors import InvalidManifestError
from prediction_contract.manifests.manifest import Manifest
from prediction_contract.naming.s3_layout import done_key
from prediction_contract.registry.records import BatchRecord, LoadState, ReleaseState
from prediction_contract.rows.schema import PredictionSchema
from sagemaker_scripts.batches.previous_batch import PreviousBatch, find_previous
from tests.fakes.memory_s3 import MemoryS3
from tests.sagemaker.stored_batches import write_batch

MODEL = "m"
OWN = "20130210T060000Z-ffffffff"
SCHEMA = PredictionSchema.from_document(
    {
        "key": "flight",
        "columns": [
            {"name": "flight", "type": "string", "nullable": False},
            {"name": "minutes", "type": "decimal(7,2)", "nullable": False},
        ],
    }
)


@pytest.fixture
def store() -> ObjectStore:
    """Give an empty bucket."""
    return ObjectStore(MemoryS3(), "mlpipe-data")


def put_batch(
    store: ObjectStore, partition: str, batch_id: str, minutes: float = 1.0, *, done: bool = True
) -> Manifest:
    """Write a batch of four rows. Only AA-1 is valid: one number is NaN, and one key is duplicate."""
    values = {"AA-1": [Decimal(str(minutes))], "AA-2": [Decimal("NaN")], "AA-3": [Decimal(3), Decimal(4)]}
    rows = [{"flight": flight, "minutes": number} for flight in values for number in values[flight]]
    manifest = write_batch(store, SCHEMA, rows, model=MODEL, partition=partition, batch_id=batch_id)
    if done:
        store.put(manifest.key, manifest.to_bytes())
    return manifest


def chosen(
    store: ObjectStore, *records: BatchRecord, partition: str = "2013-02-10", lookback: int = 3
) -> str | None:
    """Return the id of the previous batch that is found."""
    known = {(record.model, record.batch_id): record for record in records}
    found = find_previous(
        store,
        lambda model, batch_id: known.get((model, batch_id)),
        model=MODEL,
        partition=partition,
        lookback=lookback,
        batch_id=OWN,
    )
    return None if found is None else found.manifest.batch_id


def test_nearest_partition_wins_over_newest_batch(store: ObjectStore) -> None:
    """Yesterday's batch is preferred to an older day that was scored again later."""
    yesterday = put_batch(store, "2013-02-09", "20130209T060000Z-00000001")
    put_batch(store, "2013-02-08", "20130211T060000Z-00000002")
    assert chosen(store) == yesterday.batch_id


def test_newest_done_batch_of_a_partition_is_chosen(store: ObjectStore) -> None:
    """Within a partition the newest batch with a manifest is chosen."""
    put_batch(store, "2013-02-09", "20130209T060000Z-00000001")
    newer = put_batch(store, "2013-02-09", "20130209T070000Z-00000002")
    put_batch(store, "2013-02-09", "20130209T080000Z-00000003", done=False)
    assert chosen(store) == newer.batch_id


def test_batches_outside_the_lookback_are_ignored(store: ObjectStore) -> None:
    """Batches before the lookback, and of the same or later partitions, are not chosen."""
    put_batch(store, "2013-02-06", "20130206T060000Z-00000001")
    put_batch(store, "2013-02-10", "20130210T050000Z-00000002")
    put_batch(store, "2013-02-11", "20130211T060000Z-00000003")
    assert chosen(store, lookback=3) is None
    assert chosen(store, lookback=0) is None
    assert chosen(store, lookback=4) == "20130206T060000Z-00000001"


@pytest.mark.parametrize(
    ("load_state", "release_state"),
    [
        (LoadState.REFUSED, ReleaseState.UNPUBLISHED),
        (LoadState.RETIRED, ReleaseState.SUPERSEDED),
        (LoadState.VERIFIED, ReleaseState.WITHDRAWN),
    ],
)
def test_unusable_batch_is_skipped(
    store: ObjectStore, load_state: LoadState, release_state: ReleaseState
) -> None:
    """A refused, retired or withdrawn batch is skipped in favour of the next best one."""
    older = put_batch(store, "2013-02-09", "20130209T060000Z-00000001")
    newer = put_batch(store, "2013-02-09", "20130209T070000Z-00000002")
    record = BatchRecord(
        model=MODEL, batch_id=newer.batch_id, load_state=load_state, release_state=release_state
    )
    assert chosen(store, record) == older.batch_id
    live = BatchRecord(
        model=MODEL,
        batch_id=newer.batch_id,
        load_state=LoadState.VERIFIED,
        release_state=ReleaseState.LIVE,
    )
    assert chosen(store, live) == newer.batch_id


def test_batch_with_invalid_manifest_is_skipped(store: ObjectStore) -> None:
    """An invalid manifest does not stop other batches from scoring, but is an error when read directly."""
    older = put_batch(store, "2013-02-09", "20130209T060000Z-00000001")
    newer = put_batch(store, "2013-02-09", "20130209T070000Z-00000002", done=False)
    store.put(newer.key, older.to_bytes())
    assert chosen(store) == older.batch_id
    with pytest.raises(InvalidManifestError, match=f"m/{newer.batch_id}: {newer.key} is not this batch's"):
        done_manifest(store, MODEL, newer.batch_id)
    store.put(newer.key, b"half a manif")
    with pytest.raises(InvalidManifestError, match=f"m/{newer.batch_id}: .*not valid JSON"):
        done_manifest(store, MODEL, newer.batch_id)


def test_batch_in_a_folder_of_another_partition_is_skipped(store: ObjectStore) -> None:
    """A stray folder does not move a batch into that partition."""
    stray = put_batch(store, "2013-02-07", "20130209T060000Z-00000001")
    store.put(f"predictions/m/json/dt=2013-02-09/batch={stray.batch_id}/attempt=1/x", b"")
    store.put("predictions/m/json/dt=2013-02-09/batch=odd/x", b"")
    assert chosen(store, lookback=2) is None


def test_cleaning_rules_come_from_the_registry(store: ObjectStore) -> None:
    """The previous batch comes with the rules of its load, not with those declared today."""
    manifest = put_batch(store, "2013-02-09", "20130209T060000Z-00000001")
    cleaning = Cleaning((ColumnCleaning(column="flight", trim=True),))
    record = BatchRecord(model=MODEL, batch_id=manifest.batch_id, cleaning=cleaning.to_text())
    found = find_previous(
        store, lambda *_: record, model=MODEL, partition="2013-02-10", lookback=1, batch_id=OWN
    )
    assert found == PreviousBatch(manifest, cleaning)


def test_batch_that_is_not_done_has_no_manifest(store: ObjectStore) -> None:
    """A batch without a done file gives None instead of an error."""
    assert done_manifest(store, MODEL, OWN) is None
    assert done_key(MODEL, OWN) not in store.client.objects
