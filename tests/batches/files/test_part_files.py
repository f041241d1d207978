"""Tests of JSON parts: cut by lines alone, packed identically, never overwritten."""

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
    """Return the location of a share in a bucket."""
    return ShareLocation(ObjectStore(s3, "bucket"), "tides", "2013-02-01", BATCH, 2, "share-7")


def lines(*sizes: int, kind: pa.DataType | None = None) -> pa.Array:
    """Return lines of the given sizes in bytes."""
    each = [f"{n}".ljust(size - 1, "x")[: size - 1].encode() + b"\n" for n, size in enumerate(sizes)]
    return pa.array(each, kind or pa.binary())


def written(s3: MemoryS3, *pieces: pa.Array, part_bytes: int = 100) -> list[JsonPart]:
    """Write the pieces of a share."""
    files = PartFiles(location(s3), part_bytes=part_bytes)
    for piece in pieces:
        files.write(piece)
    return files.close()


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
@pytest.mark.parametrize("step", [1, 7, 100])
def test_part_limits_depend_only_on_lines(step: int, kind: pa.DataType) -> None:
    """The same lines give the same parts within the byte limit, whatever the size of the pieces."""
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


def test_part_is_filled_to_the_limit() -> None:
    """A part may have exactly the limit's bytes, and so may a single line."""
    s3 = MemoryS3()
    assert [part.rows for part in written(s3, lines(60, 40, 100, 1, 99))] == [2, 1, 2]


def test_default_part_limit_is_32_megabytes() -> None:
    """By default a part has at most 32 MB uncompressed, and a longer line is refused."""
    s3 = MemoryS3()
    parts = written(s3, lines(*[8_000_000] * 5), part_bytes=32_000_000)
    assert [len(gzip.decompress(s3.objects[part.key])) for part in parts] == [32_000_000, 8_000_000]
    files = PartFiles(location(MemoryS3()))
    with pytest.raises(PredictionsError, match="32000001 bytes; a part may have at most 32000000"):
        files.write(lines(32_000_001))


def test_oversized_row_error_names_row_and_batch() -> None:
    """The error for a row longer than a part names share, row, model and batch."""
    files = PartFiles(location(MemoryS3()), part_bytes=100)
    files.write(lines(60, 40, 50))
    with pytest.raises(PredictionsError, match="Row 5 of share share-7 has 101 bytes") as raised:
        files.write(lines(50, 101))
    assert (raised.value.model, raised.value.batch_id) == ("tides", BATCH)


def test_empty_share_has_no_part() -> None:
    """A share without rows writes no part."""
    s3 = MemoryS3()
    assert written(s3, lines()) == []
    assert s3.objects == {}


def test_second_writer_adopts_parts_with_equal_lines() -> None:
    """A second writer of the same lines keeps the existing parts, even if they are compressed differently."""
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
def test_part_with_different_lines_is_not_overwritten(stored: bytes) -> None:
    """An existing part with other content is kept, and the error names the object and the next step."""
    s3 = MemoryS3(objects={f"{PREFIX}share-7-00001.jsonl.gz": stored})
    with pytest.raises(ShareConflictError) as raised:
        written(s3, lines(*[50] * 5))
    assert str(raised.value) == (
        f"tides/{BATCH}: Another writer of share share-7 has written other rows to "
        f"{PREFIX}share-7-00001.jsonl.gz. Write the batch under attempt 3."
    )
    assert s3.objects[f"{PREFIX}share-7-00001.jsonl.gz"] == stored
