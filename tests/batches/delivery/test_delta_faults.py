"""Tests of the errors for a Delta table that cannot take a batch."""

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
    """A bucket in a local folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__(None, "folder")
        self.folder = folder

    def address(self, key: str) -> str:
        """Return a table's path."""
        return str(self.folder / key)

    def listing(self, prefix: str) -> list[ListingEntry]:
        """Return the files below a prefix."""
        files = (path for path in (self.folder / prefix).rglob("*") if path.is_file())
        return [
            ListingEntry(str(path.relative_to(self.folder)), datetime.now(UTC), path.stat().st_size)
            for path in files
        ]


def commit(folder: Path) -> None:
    """Commit a file with the AFTER schema to the folder's table."""
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


def test_changed_column_type_is_refused(tmp_path: Path) -> None:
    """A batch with a changed column type is refused with the column's name, not silently rounded by Delta."""
    write_deltalake(tmp_path / TABLE, encoded(BEFORE, [{"entity_id": "AA-1", "minutes": 1}]).columns)
    with pytest.raises(DeltaCommitError, match="minutes is long, not double") as caught:
        commit(tmp_path)
    assert caught.value.batch_id == BATCH
    assert DeltaTable(tmp_path / TABLE).to_pyarrow_table()["minutes"].to_pylist() == [1]


def test_unreadable_log_error_has_no_backtrace(tmp_path: Path) -> None:
    """The error of an unreadable log states the cause without deltalake's backtrace."""
    write_deltalake(tmp_path / TABLE, encoded(AFTER, [{"entity_id": "AA-1", "minutes": 1}]).columns)
    (tmp_path / TABLE / "_delta_log/00000000000000000001.json").write_text("{bad\n")
    with pytest.raises(DeltaCommitError, match="rejected the rows: Json error") as caught:
        commit(tmp_path)
    for noise in ("<unknown>", "Kernel error", "start_thread"):
        assert noise not in str(caught.value)


def test_store_error_has_no_colour_codes() -> None:
    """Errors of S3 are reported as one plain line without deltalake's colour codes."""
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
