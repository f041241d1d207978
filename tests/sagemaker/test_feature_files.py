"""Tests of files of features: their size, row groups, and how they are fetched and read."""

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
    """Let three rows be a row group, and seven a file."""
    monkeypatch.setattr(feature_writer, "GROUP_ROWS", 3)
    monkeypatch.setattr(feature_writer, "FILE_ROWS", 7)


def numbered(first: int, last: int) -> pa.Table:
    """Return rows that are told apart by their number."""
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


def test_rows_are_divided_into_groups_and_files_however_they_come(store: ObjectStore, tmp_path: Path) -> None:
    """A group is full before the next begins, a file ends after a group, and the rows keep their order."""
    files = written(store, numbered(0, 2), numbered(2, 2), numbered(2, 12), numbered(12, 16))
    assert [file.object.key for file in files] == ["x/rows-00000.parquet", "x/rows-00001.parquet"]
    assert [file.row_groups for file in files] == [(3, 3, 3), (3, 3, 1)]
    found = [batch for file in files for batch in file.fetched(store, tmp_path).batches()]
    assert flat(entities(found)) == [f"e{number}" for number in range(16)]


def test_wide_rows_make_groups_of_fewer_rows(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A group has a bound in bytes too, and one row that is larger is a group of its own."""
    monkeypatch.setattr(feature_writer, "GROUP_BYTES", 2_500)
    monkeypatch.setattr(feature_writer, "FILE_BYTES", 1)
    rows = pa.table({"entity_id": [f"{number}" * 1_000 for number in range(5)]})
    files = written(store, rows, pa.table({"entity_id": ["x" * 9_000]}))
    assert [file.row_groups for file in files] == [(2,), (2,), (1,), (1,)]


def test_no_rows_are_one_file_without_rows(store: ObjectStore, tmp_path: Path) -> None:
    """Its columns are still known."""
    (file,) = written(store, numbered(0, 0))
    assert file.rows == 0
    assert pa.Table.from_batches(*_all(file, store, tmp_path)) == numbered(0, 0)


def _all(file: FeatureFile, store: ObjectStore, folder: Path) -> tuple[list[pa.RecordBatch], pa.Schema]:
    local = file.fetched(store, folder)
    return list(local.batches()), local.schema


def test_some_row_groups_are_read_in_batches_of_one_size(store: ObjectStore, tmp_path: Path) -> None:
    """The groups before and after them are left out, and only the last batch is smaller."""
    (file,) = written(store, numbered(0, 9))
    local = file.fetched(store, tmp_path)
    assert entities(local.batches(1, 2, rows_per_batch=4)) == [["e3", "e4", "e5", "e6"], ["e7", "e8"]]
    assert entities(local.batches(2)) == [["e6", "e7", "e8"]]
    assert entities(local.batches(0, 1, rows_per_batch=2)) == [["e0", "e1"], ["e2"]]


def test_batches_of_one_size_are_made_of_smaller_and_larger_ones() -> None:
    """No row is lost or moved where batches begin and end in other places."""
    pieces = [numbered(*ends).combine_chunks().to_batches() for ends in ((0, 1), (1, 1), (1, 8), (8, 9))]
    batches = [batch for piece in pieces for batch in piece]
    assert entities(rebatch(batches, 3)) == [["e0", "e1", "e2"], ["e3", "e4", "e5"], ["e6", "e7", "e8"]]
    assert entities(rebatch(batches, 100)) == [[f"e{number}" for number in range(9)]]


def test_several_readers_of_a_host_fetch_a_file_once(store: ObjectStore, tmp_path: Path) -> None:
    """Each process of a host reads a part of it."""
    (file,) = written(store, numbered(0, 5))
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: file.fetched(store, tmp_path).path, range(8)))
    assert len(set(found)) == 1
    assert store.client.reads == [file.object.key]


def test_a_file_that_changed_or_is_gone_is_named_and_not_kept(store: ObjectStore, tmp_path: Path) -> None:
    """Nothing of it is read, also not by who asks next."""
    (file,) = written(store, numbered(0, 5))
    store.put(file.object.key, b"other bytes")
    for _ in range(2):
        with pytest.raises(ObjectAlteredError, match=r"x/rows-00000.parquet does not have SHA-256"):
            file.fetched(store, tmp_path)
    del store.client.objects[file.object.key]
    with pytest.raises(InputMissingError, match=r"x/rows-00000.parquet does not exist"):
        file.fetched(store, tmp_path)


def test_a_file_is_read_without_being_held(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever its size: one row group at most, and the batch that is given."""
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
    """A bucket whose answers end in the middle of an object, all but the last few."""

    breaks = 3

    def get_object(self, **asked: Any) -> dict[str, Any]:
        """Answer with a body that breaks after some bytes."""
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


def test_a_connection_that_breaks_is_taken_up_where_it_broke(tmp_path: Path) -> None:
    """Large files come over one connection, which may end at any byte; one that always breaks is an error."""
    s3 = BreakingS3()
    store = ObjectStore(s3, "data")
    (file,) = written(store, numbered(0, 5))
    assert flat(entities(file.fetched(store, tmp_path).batches())) == [f"e{number}" for number in range(5)]
    s3.breaks = 100
    (tmp_path / "other").mkdir()
    with pytest.raises(ResponseStreamingError):
        file.fetched(store, tmp_path / "other")


def of_earlier_version(store: ObjectStore) -> None:
    """Write features as the platform did before an index named several files."""
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


def test_an_index_of_an_earlier_version_is_still_read(store: ObjectStore) -> None:
    """It names one file, and does not say which row groups that has."""
    of_earlier_version(store)
    found = feature_set(store, "m", DAY)
    assert [file.row_groups for file in found.features] == [(3, 2)]
    assert found.read_features(store)["entity_id"].to_pylist() == numbered(0, 5)["entity_id"].to_pylist()
