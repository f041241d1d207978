"""Tests of data files: plain Parquet of bounded size, never overwritten."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prediction_batches.errors import ShareConflictError
from prediction_batches.files import data_files
from prediction_batches.files.data_files import DataFile, DataFiles
from prediction_batches.files.share_location import ShareLocation
from prediction_batches.object_store import ObjectStore
from tests.batches.encoded import encoded, schema_of
from tests.fakes.memory_s3 import MemoryS3

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prediction_batches.rows.encoded_rows import EncodedRows

BATCH = "20130201T060000Z-0123abcd"
ROOT = "predictions/tides/delta/"
SCHEMA = schema_of(minutes="long", carrier="string", share="double")


def location(s3: MemoryS3) -> ShareLocation:
    """Return the location of a share in a bucket."""
    return ShareLocation(ObjectStore(s3, "bucket"), "tides", "2013-02-01", BATCH, 2, "share-7")


def rows_of(count: int, first: int = 0) -> EncodedRows:
    """Return rows with repeating carriers and otherwise distinct values."""
    numbers = range(first, first + count)
    return encoded(
        SCHEMA,
        [{"entity_id": f"e{n}", "minutes": n, "carrier": "AABC"[n % 4], "share": n / 7} for n in numbers],
    )


def written(s3: MemoryS3, *pieces: EncodedRows, **limits: int) -> list[DataFile]:
    """Write the pieces of a share."""
    with DataFiles(location(s3), SCHEMA, **limits) as files:
        for piece in pieces:
            files.write(piece.columns, piece.checksums)
        return files.close()


def stored(s3: MemoryS3, files: Sequence[DataFile]) -> list[dict[str, Any]]:
    """Return the rows of the files on S3, in order."""
    tables = [pq.read_table(io.BytesIO(s3.objects[f"{ROOT}{file.path}"])) for file in files]
    return [row for table in tables for row in table.to_pylist()]


@pytest.mark.parametrize("step", [1, 7, 40])
def test_row_limit_decides_where_files_end(step: int) -> None:
    """Files are filled to the row limit in order, whatever the size of the pieces."""
    s3 = MemoryS3()
    files = written(
        s3, *(rows_of(min(step, 40 - first), first) for first in range(0, 40, step)), file_rows=15
    )
    assert [file.rows for file in files] == [15, 15, 10]
    assert [file.path for file in files] == [f"{BATCH}/2/share-7-{number:05d}.parquet" for number in range(3)]
    assert [file.bytes for file in files] == [len(s3.objects[f"{ROOT}{file.path}"]) for file in files]
    whole = rows_of(40)
    expected = [
        {**row, "batch_id": BATCH, "row_checksum": checksum}
        for row, checksum in zip(whole.columns.to_pylist(), whole.checksums.tolist(), strict=True)
    ]
    assert stored(s3, files) == expected


def test_byte_limit_decides_where_files_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files also end at the byte limit, and row groups stay small enough for memory."""
    monkeypatch.setattr(data_files, "_GROUP_BYTES", 1_000)
    s3 = MemoryS3()
    files = written(s3, rows_of(100), file_bytes=2_500)
    assert len(files) > 1
    assert [row["minutes"] for row in stored(s3, files)] == list(range(100))
    metadata = pq.ParquetFile(io.BytesIO(s3.objects[f"{ROOT}{files[0].path}"])).metadata
    assert metadata.num_row_groups == 3


def test_small_pieces_share_a_row_group() -> None:
    """Small pieces are merged into one row group, because readers pay for each group."""
    s3 = MemoryS3()
    (file,) = written(s3, *(rows_of(3, first) for first in range(0, 30, 3)))
    assert pq.ParquetFile(io.BytesIO(s3.objects[f"{ROOT}{file.path}"])).metadata.num_row_groups == 1


def test_single_rows_do_not_pile_up_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows written one at a time are merged, since each piece takes ten times the memory of its row."""
    monkeypatch.setattr(data_files, "_MOST_PENDING", 50)
    s3 = MemoryS3()
    with DataFiles(location(s3), SCHEMA) as files:
        before = pa.total_allocated_bytes()
        for number in range(500):
            row = rows_of(1, number)
            files.write(row.columns, row.checksums)
        assert pa.total_allocated_bytes() - before < 500 * 400
        rows = stored(s3, files.close())
    assert [row["minutes"] for row in rows] == list(range(500))


def test_files_use_dictionaries_only_for_repeated_values() -> None:
    """Files have no Arrow schema, and dictionaries only for columns with repeated values."""
    s3 = MemoryS3()
    (file,) = written(s3, rows_of(100))
    parquet = pq.ParquetFile(io.BytesIO(s3.objects[f"{ROOT}{file.path}"]))
    group = parquet.metadata.row_group(0)
    columns = [group.column(number) for number in range(group.num_columns)]
    dictionaries = {column.path_in_schema for column in columns if "RLE_DICTIONARY" in column.encodings}
    assert dictionaries == {"carrier", "batch_id"}
    assert {column.compression for column in columns} == {"ZSTD"}
    assert parquet.metadata.metadata is None


def test_every_type_is_stored_as_its_delta_type() -> None:
    """A data file has the types and values of the Delta table's schema."""
    schema = schema_of(
        words="string", count="long", exact="decimal(38,6)", share="double", flag="boolean", day="date",
        moment="timestamp", nested="json",
    )  # fmt: skip
    row = {
        "entity_id": "a", "words": "Zürich ✈", "count": 2**62 + 1, "exact": Decimal("1234567890123456789.5"),
        "share": 0.1, "flag": True, "day": date(2013, 2, 1),
        "moment": datetime(2013, 2, 1, 6, 30, tzinfo=UTC),
        "nested": {"b": 1, "a": [None]},
    }  # fmt: skip
    rows = encoded(schema, [row, {"entity_id": "b"}])
    s3 = MemoryS3()
    with DataFiles(location(s3), schema) as files:
        files.write(rows.columns, rows.checksums)
        (file,) = files.close()
    table = pq.read_table(io.BytesIO(s3.objects[f"{ROOT}{file.path}"]))
    assert table.schema.types == [*rows.columns.schema.types, pa.string(), pa.int64()]
    assert table.select(rows.columns.schema.names).to_pylist() == rows.columns.to_pylist()


def test_empty_share_has_no_file() -> None:
    """A share without rows writes no file."""
    s3 = MemoryS3()
    assert written(s3) == written(s3, rows_of(0)) == []
    assert s3.objects == {}


def test_second_writer_adopts_files_with_equal_rows(tmp_path: Path) -> None:
    """A second writer of the same rows keeps the existing files, even if they are packed differently."""
    s3 = MemoryS3()
    first = written(s3, rows_of(40), file_rows=15)
    key = f"{ROOT}{first[1].path}"
    pq.write_table(pq.read_table(io.BytesIO(s3.objects[key])), tmp_path / "other", row_group_size=4)
    s3.objects[key] = (tmp_path / "other").read_bytes()
    kept = dict(s3.objects)
    again = written(s3, rows_of(20), rows_of(20, 20), file_rows=15)
    assert again == [first[0], replace(first[1], bytes=len(kept[key])), first[2]]
    assert s3.objects == kept


@pytest.mark.parametrize("change", ["value", "rows", "column", "order", "noise"])
def test_file_with_different_rows_is_not_overwritten(tmp_path: Path, change: str) -> None:
    """An existing file with other rows is kept, and the error names the object and the next step."""
    s3 = MemoryS3()
    (file,) = written(s3, rows_of(20))
    key = f"{ROOT}{file.path}"
    table = pq.read_table(io.BytesIO(s3.objects[key]))
    other = {
        "value": lambda: table.set_column(1, "minutes", pa.array([*range(19), None], pa.int64())),
        "rows": lambda: table.slice(1),
        "column": lambda: table.drop_columns("carrier"),
        "order": lambda: table.take([1, 0, *range(2, 20)]),
        "noise": lambda: table,
    }[change]()
    pq.write_table(other, tmp_path / "other")
    s3.objects[key] = b"no Parquet" if change == "noise" else (tmp_path / "other").read_bytes()
    kept = dict(s3.objects)
    with pytest.raises(ShareConflictError, match=f"other rows to {key}. Write the batch under attempt 3"):
        written(s3, rows_of(20))
    assert s3.objects == kept


def test_temporary_files_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that fails in the middle of a file leaves nothing on disk."""
    monkeypatch.setattr(data_files.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(data_files, "_GROUP_BYTES", 100)
    rows = rows_of(5)
    with pytest.raises(RuntimeError), DataFiles(location(MemoryS3()), SCHEMA) as files:  # noqa: PT012  # the block is the test
        files.write(rows.columns, rows.checksums)
        assert list(tmp_path.rglob("*.parquet"))
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
