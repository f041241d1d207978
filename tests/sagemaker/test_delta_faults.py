"""A Delta table that cannot take a batch: the commit says which column or why, in words of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from prediction_batches.delta_commit import DeltaCommitError, ModelTable
from prediction_contract.rows.schema import Column, ColumnType, Kind, PredictionSchema
from prediction_contract.stores.delta_table import deltalake_message
from sagemaker_scripts.batches.batch_rows import delta_rows, prediction_lines

if TYPE_CHECKING:
    from pathlib import Path

BATCH = "20130201T060000Z-00000001"
KEY = Column("entity_id", ColumnType(Kind.STRING), nullable=False)
BEFORE = PredictionSchema((KEY, Column("minutes", ColumnType(Kind.LONG))), "entity_id")
AFTER = PredictionSchema((KEY, Column("minutes", ColumnType(Kind.DOUBLE))), "entity_id")


class FolderTable(ModelTable):
    """A table in a folder instead of a bucket."""

    @property
    def _uri(self) -> str:
        return str(self.store)


def rows(schema: PredictionSchema, minutes: float) -> pa.Table:
    """Return one row."""
    frame = pd.DataFrame({"entity_id": ["AA-1"], "minutes": [minutes]})
    return delta_rows(schema, prediction_lines(schema, frame), BATCH)


def commit(folder: Path) -> None:
    """Commit a row of the later schema to the folder's table."""
    store: Any = folder
    table = FolderTable(store, "tides", AFTER, {})
    table.commit(rows(AFTER, 1.5), batch_id=BATCH, attempt=1, still_wanted=lambda: True)


def test_a_column_of_another_type_is_named_before_anything_is_written(tmp_path: Path) -> None:
    """Delta would round 1.5 to 1 without a word, or refuse a text without naming its column."""
    write_deltalake(tmp_path, rows(BEFORE, 1))
    with pytest.raises(DeltaCommitError, match="column minutes as long, not double") as caught:
        commit(tmp_path)
    assert caught.value.batch_id == BATCH
    assert DeltaTable(tmp_path).to_pyarrow_table()["minutes"].to_pylist() == [1]


def test_a_log_that_cannot_be_read_is_told_without_a_backtrace(tmp_path: Path) -> None:
    """Whoever reads the run learns what ails the log, on one line."""
    write_deltalake(tmp_path, rows(AFTER, 1))
    (tmp_path / "_delta_log/00000000000000000001.json").write_text("{bad\n")
    with pytest.raises(DeltaCommitError, match="does not take the rows: Json error") as caught:
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
