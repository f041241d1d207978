"""A Delta table that cannot take a batch: the commit says which column or why, in words of its own."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from prediction_batches.delivery.delta_commit import DeltaCommitError, TableCommit
from prediction_batches.files.data_files import DataFile
from prediction_batches.object_store import ListingEntry, ObjectStore
from prediction_contract.stores.delta_table import deltalake_message
from tests.batches.encoded import encoded, schema_of

if TYPE_CHECKING:
    from pathlib import Path

BATCH = "20130201T060000Z-00000001"
TABLE = "predictions/tides/delta"
BEFORE, AFTER = schema_of(minutes="long"), schema_of(minutes="double")


class FolderStore(ObjectStore):
    """A folder that is laid out as a bucket."""

    def __init__(self, folder: Path) -> None:
        super().__init__(None, "folder")
        self.folder = folder

    def address(self, key: str) -> str:
        """Return the path of a table."""
        return str(self.folder / key)

    def listing(self, prefix: str) -> list[ListingEntry]:
        """Return the files below a prefix."""
        files = (path for path in (self.folder / prefix).rglob("*") if path.is_file())
        return [
            ListingEntry(str(path.relative_to(self.folder)), datetime.now(UTC), path.stat().st_size)
            for path in files
        ]


def commit(folder: Path) -> None:
    """Commit a file of the later schema to the folder's table."""
    path = f"{BATCH}/1/all-00000.parquet"
    rows = encoded(AFTER, [{"entity_id": "AA-1", "minutes": 1.5}]).columns
    (folder / TABLE / path).parent.mkdir(parents=True)
    pq.write_table(pa.Table.from_batches([rows]), folder / TABLE / path)
    size = (folder / TABLE / path).stat().st_size
    TableCommit(
        store=FolderStore(folder),
        model="tides",
        schema=AFTER,
        batch_id=BATCH,
        attempt=1,
        files=[DataFile(path, 1, size)],
        options={},
    ).make(lambda: True)


def test_a_column_of_another_type_is_named_before_anything_is_written(tmp_path: Path) -> None:
    """Delta would round 1.5 to 1 without a word, or refuse a text without naming its column."""
    write_deltalake(tmp_path / TABLE, encoded(BEFORE, [{"entity_id": "AA-1", "minutes": 1}]).columns)
    with pytest.raises(DeltaCommitError, match="minutes is long, not double") as caught:
        commit(tmp_path)
    assert caught.value.batch_id == BATCH
    assert DeltaTable(tmp_path / TABLE).to_pyarrow_table()["minutes"].to_pylist() == [1]


def test_a_log_that_cannot_be_read_is_told_without_a_backtrace(tmp_path: Path) -> None:
    """Whoever reads the run learns what ails the log, on one line."""
    write_deltalake(tmp_path / TABLE, encoded(AFTER, [{"entity_id": "AA-1", "minutes": 1}]).columns)
    (tmp_path / TABLE / "_delta_log/00000000000000000001.json").write_text("{bad\n")
    with pytest.raises(DeltaCommitError, match="rejected the rows: Json error") as caught:
        commit(tmp_path)
    for noise in ("<unknown>", "Kernel error", "start_thread"):
        assert noise not in str(caught.value)


def test_a_failing_store_is_told_without_colours() -> None:
    """Of S3 itself, deltalake tells in several coloured lines."""
    options = {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_REGION": "us-east-1",
        "max_retries": "0",
    }
    with pytest.raises(OSError, match="S3") as caught:
        DeltaTable("s3://nobody/t", storage_options=options)
    said = deltalake_message(caught.value)
    assert said.isprintable()
    assert "Connection refused" in said
