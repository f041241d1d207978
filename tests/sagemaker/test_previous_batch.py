"""Tests of how the previous batch is chosen and read."""

from __future__ import annotations

import gzip
import hashlib
import io
from dataclasses import replace
from decimal import Decimal
from math import nan

import pandas as pd
import pytest

from prediction_batches.delivery.done_file import done_manifest
from prediction_batches.object_store import ObjectAlteredError, ObjectStore
from prediction_contract.cleaning.cleaning_rules import Cleaning
from prediction_contract.cleaning.column_cleaning import ColumnCleaning
from prediction_contract.errors import InvalidManifestError
from prediction_contract.manifests.manifest import Manifest
from prediction_contract.naming.s3_layout import done_key
from prediction_contract.registry.records import BatchRecord, LoadState, ReleaseState
from prediction_contract.rows.prediction_line import prediction_line
from prediction_contract.rows.row_contract import LINE_BYTES, LONGEST_LINE, read_lines, row_contract
from prediction_contract.rows.schema import PredictionSchema
from sagemaker_scripts.batches.batch_rows import prediction_lines
from sagemaker_scripts.batches.previous_batch import find_previous
from sagemaker_scripts.batches.previous_rows import previous_frame
from tests.fakes.memory_s3 import MemoryS3
from tests.sagemaker.stored_batches import schema_of, write_batch

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
    """Write a batch of four rows, only one of which a store takes: a number is none, a key comes twice."""
    values: list[object] = [Decimal(str(minutes)), Decimal("NaN"), Decimal(3), Decimal(4)]
    flights = ["AA-1", "AA-2", "AA-3", "AA-3"]
    rows = pd.DataFrame({"flight": flights, "minutes": pd.Series(values, dtype=object)})
    lines = prediction_lines(SCHEMA, rows)
    manifest = write_batch(store, SCHEMA, lines, model=MODEL, partition=partition, batch_id=batch_id)
    if done:
        store.put(manifest.key, manifest.to_bytes())
    return manifest


def chosen(
    store: ObjectStore, *records: BatchRecord, partition: str = "2013-02-10", lookback: int = 3
) -> str | None:
    """Return the id of the batch that is found to be the previous one."""
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


def test_the_nearest_partition_comes_before_the_newest_batch(store: ObjectStore) -> None:
    """A late re-scoring of an older day is not preferred to yesterday's batch."""
    yesterday = put_batch(store, "2013-02-09", "20130209T060000Z-00000001")
    put_batch(store, "2013-02-08", "20130211T060000Z-00000002")
    assert chosen(store) == yesterday.batch_id


def test_of_one_partition_the_newest_done_batch_is_taken(store: ObjectStore) -> None:
    """A newer batch that has no manifest yet does not count."""
    put_batch(store, "2013-02-09", "20130209T060000Z-00000001")
    newer = put_batch(store, "2013-02-09", "20130209T070000Z-00000002")
    put_batch(store, "2013-02-09", "20130209T080000Z-00000003", done=False)
    assert chosen(store) == newer.batch_id


def test_no_batch_beyond_the_lookback_is_read(store: ObjectStore) -> None:
    """Nor is one of the same or a later partition."""
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
def test_a_batch_that_was_refused_or_withdrawn_is_passed_over(
    store: ObjectStore, load_state: LoadState, release_state: ReleaseState
) -> None:
    """The registry's word counts; the next best batch is taken."""
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


def test_a_batch_with_an_invalid_manifest_is_passed_over(store: ObjectStore) -> None:
    """It spoils nobody else's scoring, but is an error where it is the batch itself."""
    older = put_batch(store, "2013-02-09", "20130209T060000Z-00000001")
    newer = put_batch(store, "2013-02-09", "20130209T070000Z-00000002", done=False)
    store.put(newer.key, older.to_bytes())
    assert chosen(store) == older.batch_id
    with pytest.raises(InvalidManifestError, match=f"m/{newer.batch_id}: {newer.key} is not this batch's"):
        done_manifest(store, MODEL, newer.batch_id)
    store.put(newer.key, b"half a manif")
    with pytest.raises(InvalidManifestError, match=f"m/{newer.batch_id}: .*not JSON"):
        done_manifest(store, MODEL, newer.batch_id)


def test_a_manifest_of_another_partition_than_its_folder_is_passed_over(store: ObjectStore) -> None:
    """A stray folder does not make a batch one of that partition."""
    stray = put_batch(store, "2013-02-07", "20130209T060000Z-00000001")
    store.put(f"predictions/m/json/dt=2013-02-09/batch={stray.batch_id}/attempt=1/x", b"")
    store.put("predictions/m/json/dt=2013-02-09/batch=odd/x", b"")
    assert chosen(store, lookback=2) is None


def test_the_rows_come_typed_and_without_the_refused_ones(store: ObjectStore) -> None:
    """Decimals are decimals, and the key is called entity_id."""
    put_batch(store, "2013-02-09", "20130209T060000Z-00000001", minutes=7.25)
    found = find_previous(
        store, lambda *_: None, model=MODEL, partition="2013-02-10", lookback=1, batch_id=OWN
    )
    assert found is not None
    assert previous_frame(store, found).to_dict("records") == [
        {"entity_id": "AA-1", "minutes": Decimal("7.25")}
    ]


def test_rows_that_the_load_cleaned_are_predictions_too(store: ObjectStore) -> None:
    """The record keeps how; a null becomes the default that the stores hold, a key that comes twice goes."""
    schema = schema_of({"flight": "string", "minutes": "long", "debug": "double"}, key="flight")
    manifest = write_batch(
        store,
        schema,
        [
            prediction_line(row_contract(schema), {"flight": flight, "minutes": minutes, "debug": debug})
            for flight, minutes, debug in (("A", None, nan), ("B", 7, nan), (" C", 1, 1.0), ("C", 2, 1.0))
        ],
        model=MODEL,
        partition="2013-02-09",
        batch_id="20130209T060000Z-00000001",
    )
    store.put(manifest.key, manifest.to_bytes())
    cleaning = Cleaning(
        (
            ColumnCleaning(column="debug", drop=True),
            ColumnCleaning(column="flight", trim=True),
            ColumnCleaning(column="minutes", default="0"),
        )
    )
    record = BatchRecord(model=MODEL, batch_id=manifest.batch_id, cleaning=cleaning.to_text())
    found = find_previous(
        store, lambda *_: record, model=MODEL, partition="2013-02-10", lookback=1, batch_id=OWN
    )
    assert found is not None
    predicted = previous_frame(store, found).drop(columns="debug").to_dict("records")
    assert predicted == [{"entity_id": "A", "minutes": 0}, {"entity_id": "B", "minutes": 7}]


def test_no_more_lines_are_read_than_the_manifest_promises(
    store: ObjectStore, caplog: pytest.LogCaptureFixture
) -> None:
    """A few bytes unpack to any number of lines, and no load has looked at them yet."""
    manifest = put_batch(store, "2013-02-09", "20130209T060000Z-00000001")
    (part,) = manifest.json_parts
    content = gzip.compress(b"\n" * 100_000)
    store.put(part.key, content)
    altered = replace(part, bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
    store.put(manifest.key, replace(manifest, json_parts=(altered,)).to_bytes())
    found = find_previous(
        store, lambda _model, _batch: None, model=MODEL, partition="2013-02-10", lookback=1, batch_id=OWN
    )
    assert found is not None
    assert previous_frame(store, found).empty
    assert [record.getMessage() for record in caplog.records] == [
        f"4 rows of batch {manifest.batch_id} are left out: unparsable"
    ]


def test_a_line_that_is_too_long_counts_as_one_row(
    store: ObjectStore, caplog: pytest.LogCaptureFixture
) -> None:
    """A load refuses it as one and takes the rows behind it."""
    manifest = put_batch(store, "2013-02-09", "20130209T060000Z-00000001")
    (part,) = manifest.json_parts
    lines = [b"[%s]" % (b" " * 3 * LINE_BYTES), *(b'{"flight":"AA-%d","minutes":1}' % n for n in range(3))]
    content = gzip.compress(b"\n".join(lines), compresslevel=1)
    store.put(part.key, content)
    altered = replace(part, bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
    store.put(manifest.key, replace(manifest, json_parts=(altered,)).to_bytes())
    found = find_previous(
        store, lambda _model, _batch: None, model=MODEL, partition="2013-02-10", lookback=1, batch_id=OWN
    )
    assert found is not None
    assert list(previous_frame(store, found)["entity_id"]) == ["AA-0", "AA-1", "AA-2"]
    assert [record.getMessage() for record in caplog.records] == [
        f"1 rows of batch {manifest.batch_id} are left out: value_too_large"
    ]


def test_no_line_is_read_on_for_ever() -> None:
    """A load refuses a part with such a line, and few bytes unpack to any number."""
    file = io.BytesIO(b"x" * (LONGEST_LINE + LINE_BYTES) + b"\n{}\n")
    assert [len(line) for line in read_lines(file)] == [LINE_BYTES + 1]
    assert len(file.read()) > len(b"{}\n")


def test_an_altered_part_is_an_error(store: ObjectStore) -> None:
    """Predictions that nobody made are not learned from."""
    manifest = put_batch(store, "2013-02-09", "20130209T060000Z-00000001")
    store.put(manifest.json_parts[0].key, b"other")
    found = find_previous(
        store, lambda *_: None, model=MODEL, partition="2013-02-10", lookback=1, batch_id=OWN
    )
    assert found is not None
    with pytest.raises(ObjectAlteredError, match="has not the SHA-256"):
        previous_frame(store, found)


def test_a_batch_that_is_not_done_has_no_manifest(store: ObjectStore) -> None:
    """None, and no error."""
    assert done_manifest(store, MODEL, OWN) is None
    assert done_key(MODEL, OWN) not in store.client.objects
