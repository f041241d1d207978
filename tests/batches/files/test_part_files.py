"""Tests of JSON parts: cut by lines alone, packed the same way, never overwritten."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import replace

import pyarrow as pa
import pytest

from prediction_batches.errors import PredictionsError, ShareConflictError
from prediction_batches.files.part_files import PartFiles
from prediction_batches.files.share_location import ShareLocation
from prediction_batches.object_store import ObjectStore
from prediction_contract.manifests.manifest import JsonPart
from tests.fakes.memory_s3 import MemoryS3

BATCH = "20130201T060000Z-0123abcd"
PREFIX = f"predictions/tides/json/dt=2013-02-01/batch={BATCH}/attempt=2/"


def location(s3: MemoryS3) -> ShareLocation:
    """Return a share in a bucket."""
    return ShareLocation(ObjectStore(s3, "bucket"), "tides", "2013-02-01", BATCH, 2, "share-7")


def lines(*sizes: int, kind: pa.DataType | None = None) -> pa.Array:
    """Return lines of so many bytes."""
    each = [f"{n}".ljust(size - 1, "x")[: size - 1].encode() + b"\n" for n, size in enumerate(sizes)]
    return pa.array(each, kind or pa.binary())


def written(s3: MemoryS3, *pieces: pa.Array, part_bytes: int = 100) -> list[JsonPart]:
    """Write lines that come in pieces."""
    files = PartFiles(location(s3), part_bytes=part_bytes)
    for piece in pieces:
        files.write(piece)
    return files.close()


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
@pytest.mark.parametrize("step", [1, 7, 100])
def test_lines_alone_decide_where_a_part_ends(step: int, kind: pa.DataType) -> None:
    """However they come, no part has more bytes than allowed, and together they are the lines in order."""
    rows = lines(*([30, 40, 50, 10] * 25), kind=kind)
    s3 = MemoryS3()
    parts = written(s3, *(rows.slice(first, step) for first in range(0, len(rows), step)))
    texts = [gzip.decompress(s3.objects[part.key]) for part in parts]
    assert [len(text) for text in texts[:3]] == [70, 90, 100]
    assert b"".join(texts) == b"".join(rows.to_pylist())
    assert [part.rows for part in parts] == [text.count(b"\n") for text in texts]
    assert [part.key for part in parts] == [f"{PREFIX}share-7-{n:05d}.jsonl.gz" for n in range(len(parts))]
    for part in parts:
        packed = s3.objects[part.key]
        assert (part.bytes, part.sha256) == (len(packed), hashlib.sha256(packed).hexdigest())
        # No time and no name in the header: the same lines give the same bytes.
        assert packed[3:8] == bytes(5)


def test_a_part_may_be_filled_to_its_last_byte() -> None:
    """And a line as long as a part is one by itself."""
    s3 = MemoryS3()
    assert [part.rows for part in written(s3, lines(60, 40, 100, 1, 99))] == [2, 1, 2]


def test_no_part_has_more_than_32_megabytes() -> None:
    """By default, and uncompressed."""
    s3 = MemoryS3()
    parts = written(s3, lines(*[8_000_000] * 5), part_bytes=32_000_000)
    assert [len(gzip.decompress(s3.objects[part.key])) for part in parts] == [32_000_000, 8_000_000]
    files = PartFiles(location(MemoryS3()))
    with pytest.raises(PredictionsError, match="32000001 bytes; a part may have at most 32000000"):
        files.write(lines(32_000_001))


def test_a_row_that_no_part_can_hold_is_named() -> None:
    """By share and number; the error says whose batch it is."""
    files = PartFiles(location(MemoryS3()), part_bytes=100)
    files.write(lines(60, 40, 50))
    with pytest.raises(PredictionsError, match="Row 5 of share share-7 has 101 bytes") as raised:
        files.write(lines(50, 101))
    assert (raised.value.model, raised.value.batch_id) == ("tides", BATCH)


def test_a_share_without_rows_has_no_part() -> None:
    """A loader would read it for nothing."""
    s3 = MemoryS3()
    assert written(s3, lines()) == []
    assert s3.objects == {}


def test_a_second_writer_of_the_same_lines_adopts_the_parts() -> None:
    """Also those that another version of the library has packed otherwise: the bytes that are there count."""
    s3 = MemoryS3()
    rows = lines(*[50] * 5)
    first = written(s3, rows)
    other = gzip.compress(gzip.decompress(s3.objects[first[1].key]), compresslevel=9)
    s3.objects[first[1].key] = other
    kept = dict(s3.objects)
    sha256 = hashlib.sha256(other).hexdigest()
    assert written(s3, rows) == [first[0], replace(first[1], bytes=len(other), sha256=sha256), first[2]]
    assert s3.objects == kept


@pytest.mark.parametrize(
    "stored",
    [
        gzip.compress(b"y" * 49 + b"\n" + b"y" * 49 + b"\n"),
        gzip.compress(b"x" * 10_000_000),
        gzip.compress(b"short\n"),
        b"no gzip",
        b"",
    ],
)
def test_a_part_of_other_lines_is_not_overwritten(stored: bytes) -> None:
    """The error says which object and what to do, and unpacks no more than the lines are."""
    s3 = MemoryS3(objects={f"{PREFIX}share-7-00001.jsonl.gz": stored})
    with pytest.raises(ShareConflictError) as raised:
        written(s3, lines(*[50] * 5))
    assert str(raised.value) == (
        f"tides/{BATCH}: Another writer of share share-7 has written other rows to "
        f"{PREFIX}share-7-00001.jsonl.gz. Write the batch under attempt 3."
    )
    assert s3.objects[f"{PREFIX}share-7-00001.jsonl.gz"] == stored
