"""Tests of finding duplicate keys across shares by the digests that the shares write to S3."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pytest

from prediction_batches.errors import ShareConflictError
from prediction_batches.files.share_location import ShareLocation
from prediction_batches.keys.duplicate_rows import DuplicateRows, duplicate_rows
from prediction_batches.keys.share_keys import ShareKeys
from prediction_batches.object_store import ObjectAlteredError, ObjectStore
from prediction_contract.manifests.manifest import InputObject
from prediction_contract.rows.key_digests import key_digest
from tests.fakes.memory_s3 import MemoryS3

BATCH = "20130201T060000Z-0123abcd"


def written(store: ObjectStore, share: str, *pieces: Sequence[str | None]) -> tuple[str, InputObject]:
    """Write a share's keys in pieces; None stands for the key of a refused row."""
    with ShareKeys(ShareLocation(store, "tides", "2013-02-01", BATCH, 1, share)) as keys:
        for piece in pieces:
            refused = {number for number, key in enumerate(piece) if key is None}
            keys.write(pa.array(piece, pa.string()), refused)
        return share, keys.close()


@pytest.fixture
def store() -> ObjectStore:
    """Return an empty bucket."""
    return ObjectStore(MemoryS3(), "bucket")


def test_duplicate_keys_are_found_across_shares(store: ObjectStore) -> None:
    """All rows that share a key are counted and the first are named, without refused rows."""
    shares = [
        written(store, "a", ["k-1", "k-2"], ["Zürich ✈", None]),
        written(store, "b", [None, None, "k-3"]),
        written(store, "c", ["k-2", "Zürich ✈", "k-2"]),
    ]
    found = duplicate_rows(store, shares, most_keys=100, most_named=4)
    assert found == DuplicateRows(5, (("a", 2), ("a", 3), ("c", 1), ("c", 2)))
    assert duplicate_rows(store, shares[:2], most_keys=100, most_named=4) == DuplicateRows(0, ())


def test_duplicate_search_stops_at_the_limit(store: ObjectStore) -> None:
    """Once the limit of duplicate keys is reached, further ones are not counted."""
    keys = [f"k-{number}" for number in range(50)]
    shares = [written(store, "a", keys), written(store, "b", keys)]
    assert duplicate_rows(store, shares, most_keys=3, most_named=1).rows == 6


def test_key_digests_follow_the_contract(store: ObjectStore) -> None:
    """Digests are stored in row order with 16 bytes each, so other programs can compare them."""
    _, keys = written(store, "a", ["k-1"], [None, "k-2"])
    assert store.get(keys.key) == key_digest("k-1") + bytes(16) + key_digest("k-2")
    assert written(store, "a", ["k-1", None, "k-2"]) == ("a", keys)


def test_different_digests_are_not_overwritten(store: ObjectStore) -> None:
    """A second writer with other keys cannot overwrite a share's digests."""
    _, keys = written(store, "a", ["k-1"])
    with pytest.raises(ShareConflictError, match=keys.key):
        written(store, "a", ["k-2"])


def test_altered_digests_are_refused(store: ObjectStore) -> None:
    """Altered digests fail the search, because they could hide a duplicate key."""
    share = written(store, "a", ["k-1"])
    store.put(share[1].key, bytes(16))
    with pytest.raises(ObjectAlteredError):
        duplicate_rows(store, [share], most_keys=1, most_named=1)
