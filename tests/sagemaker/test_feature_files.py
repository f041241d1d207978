"""Tests of feature files: their size and row groups, and how they are fetched and read."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet
import pytest
from botocore.exceptions import ResponseStreamingError

from prediction_batches.object_store import InputMissingError, ObjectAlteredError, ObjectStore
from sagemaker_scripts.features import feature_writer
from sagemaker_scripts.features.feature_files import rebatch
from sagemaker_scripts.features.feature_store import PreparedPartition, feature_set
from sagemaker_scripts.features.feature_writer import FeatureFileWriter
from tests.fakes.memory_s3 import MemoryS3
from tests.sagemaker.prepared_tables import write_feature_set

if TYPE_CHECKING:
    from pathlib import Path

    from sagemaker_scripts.features.feature_files import FeatureFile

DAY = "2013-02-03"
PREFIX = f"features/m/dt={DAY}/run=r/"


@pytest.fixture
def store() -> ObjectStore:
    """Give an empty bucket."""
    return ObjectStore(MemoryS3(), "data")


@pytest.fixture(autouse=True)
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limit row groups to three rows, and files to seven."""
    monkeypatch.setattr(feature_writer, "GROUP_ROWS", 3)
    monkeypatch.setattr(feature_writer, "FILE_ROWS", 7)


def numbered(first: int, last: int) -> pa.Table:
    """Return rows with numbered entities."""
    return pa.table({"entity_id": [f"e{number}" for number in range(first, last)]})


def written(store: ObjectStore, *pieces: pa.Table) -> tuple[FeatureFile, ...]:
    """Write pieces of rows as files."""
    with FeatureFileWriter(store, "x/rows", pieces[0].schema, "The rows", "m") as writer:
        for piece in pieces:
            writer.write(piece)
        return writer.close()


def entities(batches: Any) -> list[list[str]]:
    """Return the entities of each batch."""
    return [batch["entity_id"].to_pylist() for batch in batches]


def flat(batches: list[list[str]]) -> list[str]:
    """Return the entities of all batches."""
    return [entity for batch in batches for entity in batch]


def test_rows_fill_groups_and_files_in_order(store: ObjectStore, tmp_path: Path) -> None:
    """Row groups are filled and files end after a group, whatever the size of the written pieces."""
    files = written(store, numbered(0, 2), numbered(2, 2), numbered(2, 12), numbered(12, 16))
    assert [file.object.key for file in files] == ["x/rows-00000.parquet", "x/rows-00001.parquet"]
    assert [file.row_groups for file in files] == [(3, 3, 3), (3, 3, 1)]
    found = [batch for file in files for batch in file.fetched(store, tmp_path).batches()]
    assert flat(entities(found)) == [f"e{number}" for number in range(16)]


def test_wide_rows_make_smaller_groups(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Groups are limited in bytes too, and a larger single row is its own group."""
    monkeypatch.setattr(feature_writer, "GROUP_BYTES", 2_500)
    monkeypatch.setattr(feature_writer, "FILE_BYTES", 1)
    rows = pa.table({"entity_id": [f"{number}" * 1_000 for number in range(5)]})
    files = written(store, rows, pa.table({"entity_id": ["x" * 9_000]}))
    assert [file.row_groups for file in files] == [(2,), (2,), (1,), (1,)]


def test_no_rows_make_one_empty_file(store: ObjectStore, tmp_path: Path) -> None:
    """A file without rows still has its columns."""
    (file,) = written(store, numbered(0, 0))
    assert file.rows == 0
    assert pa.Table.from_batches(*_all(file, store, tmp_path)) == numbered(0, 0)


def _all(file: FeatureFile, store: ObjectStore, folder: Path) -> tuple[list[pa.RecordBatch], pa.Schema]:
    local = file.fetched(store, folder)
    return list(local.batches()), local.schema


def test_selected_row_groups_are_read_in_equal_batches(store: ObjectStore, tmp_path: Path) -> None:
    """Only the selected groups are read, and only the last batch is smaller."""
    (file,) = written(store, numbered(0, 9))
    local = file.fetched(store, tmp_path)
    assert entities(local.batches(1, 2, rows_per_batch=4)) == [["e3", "e4", "e5", "e6"], ["e7", "e8"]]
    assert entities(local.batches(2)) == [["e6", "e7", "e8"]]
    assert entities(local.batches(0, 1, rows_per_batch=2)) == [["e0", "e1"], ["e2"]]


def test_rebatch_keeps_all_rows_in_order() -> None:
    """Batches of any sizes become batches of one size without losing or moving rows."""
    pieces = [numbered(*ends).combine_chunks().to_batches() for ends in ((0, 1), (1, 1), (1, 8), (8, 9))]
    batches = [batch for piece in pieces for batch in piece]
    assert entities(rebatch(batches, 3)) == [["e0", "e1", "e2"], ["e3", "e4", "e5"], ["e6", "e7", "e8"]]
    assert entities(rebatch(batches, 100)) == [[f"e{number}" for number in range(9)]]


def test_concurrent_readers_fetch_a_file_once(store: ObjectStore, tmp_path: Path) -> None:
    """Readers on one host that need the same file download it once."""
    (file,) = written(store, numbered(0, 5))
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: file.fetched(store, tmp_path).path, range(8)))
    assert len(set(found)) == 1
    assert store.client.reads == [file.object.key]


def test_changed_or_missing_file_is_refused_and_not_kept(store: ObjectStore, tmp_path: Path) -> None:
    """A file with the wrong SHA-256 is refused each time it is requested, not kept on disk."""
    (file,) = written(store, numbered(0, 5))
    store.put(file.object.key, b"other bytes")
    for _ in range(2):
        with pytest.raises(ObjectAlteredError, match=r"x/rows-00000.parquet does not have SHA-256"):
            file.fetched(store, tmp_path)
    del store.client.objects[file.object.key]
    with pytest.raises(InputMissingError, match=r"x/rows-00000.parquet does not exist"):
        file.fetched(store, tmp_path)


def test_reading_does_not_hold_the_whole_file(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading a file in batches takes less than a fifth of the memory of its rows."""
    monkeypatch.setattr(feature_writer, "GROUP_ROWS", 20_000)
    monkeypatch.setattr(feature_writer, "FILE_ROWS", 10**9)
    rows = pa.table({f"x{column}": pa.array(range(400_000)) for column in range(5)})
    (file,) = written(store, rows)
    held = rows.nbytes
    del rows
    before, most = pa.total_allocated_bytes(), 0
    for batch in file.fetched(store, tmp_path).batches(rows_per_batch=1_000):
        most = max(most, pa.total_allocated_bytes() - before)
        assert batch.num_rows == 1_000
    assert most < held / 5


class BreakingS3(MemoryS3):
    """An in-memory bucket whose first answers break in the middle of an object."""

    breaks = 3

    def get_object(self, **asked: Any) -> dict[str, Any]:
        """Return a body that breaks after some bytes, while breaks are left."""
        found = super().get_object(**asked)
        if self.breaks:
            self.breaks -= 1
            found["Body"] = _Breaking(found["Body"])
        return found


class _Breaking:
    def __init__(self, body: Any) -> None:
        self._left = [body.read(50)]

    def read(self, _size: int) -> bytes:
        if not self._left:
            raise ResponseStreamingError(error="the connection was reset")
        return self._left.pop()


def test_broken_download_is_resumed(tmp_path: Path) -> None:
    """A download resumes where the connection broke; one that always breaks is an error."""
    s3 = BreakingS3()
    store = ObjectStore(s3, "data")
    (file,) = written(store, numbered(0, 5))
    assert flat(entities(file.fetched(store, tmp_path).batches())) == [f"e{number}" for number in range(5)]
    s3.breaks = 100
    (tmp_path / "other").mkdir()
    with pytest.raises(ResponseStreamingError):
        file.fetched(store, tmp_path / "other")


def write_with_earlier_index(store: ObjectStore) -> None:
    """Write features with the index of an earlier version, which names a single file."""
    write_feature_set(
        store,
        PreparedPartition(numbered(0, 5), None),
        model="m",
        partition=DAY,
        run_id="r",
        code_version="v",
    )
    index = json.loads(store.get(f"{PREFIX}features.json"))
    (entry,) = index["features"]
    index["features"] = {name: entry[name] for name in ("key", "sha256")}
    store.put(f"{PREFIX}features.json", json.dumps(index).encode())


def test_index_of_an_earlier_version_is_read(store: ObjectStore) -> None:
    """An index that names one file without its row groups can still be read."""
    write_with_earlier_index(store)
    found = feature_set(store, "m", DAY)
    assert [file.row_groups for file in found.features] == [(3, 2)]
    assert found.read_features(store)["entity_id"].to_pylist() == numbered(0, 5)["entity_id"].to_pylist()
