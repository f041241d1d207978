"""Tests of the join on disk: its chunks equal a join in memory, however the work is divided."""

from __future__ import annotations

import zlib
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from prediction_batches.object_store import ObjectStore
from prediction_contract.cleaning.cleaning_rules import NO_CLEANING, Cleaning
from prediction_contract.cleaning.column_cleaning import ColumnCleaning
from sagemaker_scripts.batches.key_buckets import BucketsError, KeyBuckets, bucket_count, bucket_numbers
from sagemaker_scripts.batches.previous_batch import PreviousBatch
from sagemaker_scripts.batches.previous_rows import previous_files, previous_frame
from sagemaker_scripts.learning.joined_chunks import JoinedChunk, JoinedChunks
from sagemaker_scripts.learning.outcomes import (
    ScoredPartition,
    of_entities,
    with_known_outcomes,
)
from tests.fakes.memory_s3 import MemoryS3
from tests.sagemaker.stored_batches import schema_of, write_batch

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

MODEL, DAY, BATCH = "m", "2013-02-01", "20130201T060000Z-00000001"
TYPES = {"flight": "string", "count": "long", "cost": "decimal(38,2)", "more": "json", "when": "timestamp"}
SCHEMA = schema_of(TYPES, key="flight")
FLIGHTS = [f"AA-{number}-ü" for number in range(60)]
FEATURES = pa.table(
    {
        "entity_id": pa.array(
            [f"AA-{number}-ü" for number in (*range(20, 90), *range(15))], pa.large_string()
        ),
        "place": range(85),
        "partition": ["2013-02-02"] * 85,
    }
)
OUTCOMES = pa.table(
    {
        "partition": [DAY] * 50 + ["2013-01-31"] * 60,
        "entity_id": [f"AA-{number}-ü" for number in range(50)] + FLIGHTS,
        "late": [None, 2**60 + 1] * 55,
    }
)


def stored(store: ObjectStore, flights: Iterable[str], cleaning: Cleaning = NO_CLEANING) -> PreviousBatch:
    """Write a batch of up to three shares, with values that a float would round."""
    names = list(flights)
    rows = [
        {
            "flight": name,
            "count": None if n % 3 else 2**60 + n,
            "cost": Decimal(10**35 + n) / 100,
            "more": {"n": [n, None]} if n % 2 else None,
            "when": datetime(2013, 2, 1, 6, 0, n % 60, n, UTC),
        }
        for n, name in enumerate(names)
    ]
    manifest = write_batch(
        store, SCHEMA, rows, model=MODEL, partition=DAY, batch_id=BATCH, shares=min(3, len(rows))
    )
    return PreviousBatch(manifest, cleaning)


@pytest.fixture
def store() -> ObjectStore:
    """Give an empty bucket."""
    return ObjectStore(MemoryS3(), "mlpipe-data")


def divided(
    folder: Path,
    store: ObjectStore,
    previous: PreviousBatch,
    *,
    count: int = 4,
    kept: Iterable[int] | None = None,
    writers: int = 1,
    features: pa.Table = FEATURES,
    outcomes: pa.Table | None = OUTCOMES,
) -> JoinedChunks:
    """Spill all tables into buckets, with their pieces dealt to the given number of writers."""
    buckets = KeyBuckets(folder, count, frozenset(range(count) if kept is None else kept))
    chunks = JoinedChunks(buckets, previous)
    for number, first in enumerate(range(0, features.num_rows, 10)):
        batches = features.slice(first, 10).to_batches()
        chunks.spill_features(features.schema, batches, first_row=first, writer=str(number % writers))
    if outcomes is not None:
        chunks.spill_outcomes(outcomes.schema, outcomes.to_batches(max_chunksize=7), first_row=0, writer="0")
    for number, file in enumerate(previous_files(previous)):
        read = chunks.spill_previous(store, file, writer=str(number % writers))
        assert not read.left_out
    return chunks


def all_chunks(chunks: JoinedChunks) -> list[JoinedChunk]:
    """Return the chunks of all buckets."""
    return [chunks.chunk(bucket) for bucket in range(chunks.buckets.count)]


def known(chunk: JoinedChunk) -> pd.DataFrame:
    """Return the previous rows with outcomes that `predict` gets for a chunk."""
    assert chunk.previous is not None
    scored = of_entities(chunk.previous, chunk.prepared.features["entity_id"])
    return with_known_outcomes(scored, chunk.prepared.outcomes)


@pytest.mark.parametrize("outcomes", [OUTCOMES, OUTCOMES.slice(0, 0), None], ids=["some", "none yet", "none"])
def test_chunks_equal_a_join_in_memory(tmp_path: Path, store: ObjectStore, outcomes: pa.Table | None) -> None:
    """Chunks hold every feature row once, with the same previous rows, outcomes and types."""
    previous = stored(store, FLIGHTS)
    chunks = all_chunks(divided(tmp_path, store, previous, outcomes=outcomes))
    assert all(len(chunk.numbers) == chunk.prepared.features.num_rows > 5 for chunk in chunks)
    rows = pa.concat_tables([chunk.prepared.features for chunk in chunks])
    numbers = [number for chunk in chunks for number in chunk.numbers.tolist()]
    assert sorted(numbers) == list(range(85))
    assert rows.equals(FEATURES.take(numbers).cast(rows.schema))
    whole = ScoredPartition(DAY, previous_frame(store, previous))
    entities = pa.chunked_array([rows["entity_id"].combine_chunks()])
    wanted = with_known_outcomes(of_entities(whole, entities), outcomes)
    found = pd.concat([known(chunk) for chunk in chunks], ignore_index=True)
    assert len(found) == (45 if outcomes is OUTCOMES else 0 if outcomes is not None else 55)
    pd.testing.assert_frame_equal(found, wanted)


def test_buckets_are_the_same_for_any_number_of_writers(tmp_path: Path, store: ObjectStore) -> None:
    """Each bucket has the same ordered rows for any number of writers and on a host with some buckets."""
    previous = stored(store, FLIGHTS)
    alone = all_chunks(divided(tmp_path / "1", store, previous))
    for name, several in {"3": {"writers": 3}, "own": {"kept": [1, 3], "writers": 2}}.items():
        chunks = divided(tmp_path / name, store, previous, **several)
        for bucket in sorted(chunks.buckets.kept):
            one, other = alone[bucket], chunks.chunk(bucket)
            assert one.prepared.features.equals(other.prepared.features)
            assert one.numbers.tolist() == other.numbers.tolist()
            pd.testing.assert_frame_equal(known(one), known(other))
        kept = {int(file.name.partition(".")[0]) for file in (tmp_path / name / "features").glob("[0-9]*")}
        assert kept == set(chunks.buckets.kept)


@pytest.mark.parametrize(("trimmed", "left"), [(False, ["A ", "B"]), (True, ["B"])])
def test_duplicate_previous_keys_are_left_out(
    tmp_path: Path, store: ObjectStore, trimmed: bool, left: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """All previous rows of a duplicate key are left out, also if keys are equal only after trimming."""
    rules = (ColumnCleaning(column="flight", trim=True),) if trimmed else ()
    previous = stored(
        store, ["A", "B", "C", "C", "A "] if trimmed else ["A ", "B", "C", "C"], Cleaning(rules)
    )
    features = pa.table({"entity_id": ["A ", "B", "C", "A"]})
    chunks = divided(tmp_path, store, previous, count=3, features=features, outcomes=None)
    assert sorted(key for chunk in all_chunks(chunks) for key in known(chunk)["entity_id"]) == left
    counts = [int(record.getMessage().split()[0]) for record in caplog.records]
    assert sum(counts) == (4 if trimmed else 2)


def test_column_has_one_type_in_all_buckets(tmp_path: Path) -> None:
    """A column has the widest type of its tables in every bucket, even if its rows come from one table."""
    buckets = KeyBuckets(tmp_path, 50, frozenset(range(50)))
    tables: list[dict[str, Any]] = [
        {"x": [1, 2]},
        {"x": [1.5, None]},
        {"x": pa.nulls(2)},
        {"x": pa.array([], pa.string())},
    ]
    for number, table in enumerate(tables):
        keys = pa.array([f"{number}-{row}" for row in range(len(table["x"]))], pa.string())
        rows = pa.table({"k": keys, **table})
        buckets.spill("t", rows.schema, rows.to_batches(), key="k", first_row=2 * number, writer="w")
    found = [buckets.read("t", bucket) for bucket in range(50)]
    assert {str(each.rows.schema.field("x").type) for each in found if each} == {"double"}
    assert sum(each.rows.num_rows for each in found if each) == 6
    assert buckets.read("unknown", 0) is None


def test_conflicting_types_are_named(tmp_path: Path) -> None:
    """A table whose column holds numbers and texts is refused by name."""
    buckets = KeyBuckets(tmp_path, 1, frozenset([0]))
    for first_row, value in enumerate((1, "a")):
        rows = pa.table({"k": ["a"], "x": [value]})
        buckets.spill("t", rows.schema, rows.to_batches(), key="k", first_row=first_row, writer="w")
    with pytest.raises(BucketsError, match="Table t has columns of several types"):
        buckets.read("t", 0)


def test_full_disk_error_suggests_volume_gb(tmp_path: Path) -> None:
    """A full disk is an error that suggests a larger volume_gb, not a silent loss of rows."""
    buckets = KeyBuckets(tmp_path, 1, frozenset([0]))
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "0.w").symlink_to("/dev/full")
    rows = pa.table({"k": ["a"]})
    with pytest.raises(BucketsError, match=r"The disk is full.*volume_gb"):
        buckets.spill("t", rows.schema, rows.to_batches(), key="k", first_row=0, writer="w")


def test_bucket_of_a_key_is_its_crc32() -> None:
    """All hosts and repeated processes must put a key into the same bucket."""
    assert bucket_numbers(pa.array(["AA-1141-JFK", "", " ü\t", "ü"]), 1000).tolist() == [
        zlib.crc32(b"AA-1141-JFK") % 1000,
        0,
        zlib.crc32("ü".encode()) % 1000,
        zlib.crc32("ü".encode()) % 1000,
    ]


def test_buckets_fit_into_chunks() -> None:
    """Buckets hold no more rows than a chunk, up to the largest number of buckets."""
    counts = [bucket_count(rows, 100_000) for rows in (0, 100_000, 100_001, 10**6, 10**12)]
    assert counts == [1, 1, 2, 11, 4096]
    keys = pa.array([f"AA-{number}" for number in range(100_000)])
    for chunk_rows in (100, 1000, 30_000):
        sizes = np.bincount(bucket_numbers(keys, bucket_count(len(keys), chunk_rows)))
        assert chunk_rows / 4 < sizes.max() <= chunk_rows
