"""Tests of reading the previous batch from data files whose checksums match, otherwise from JSON parts."""

from __future__ import annotations

import gzip
import hashlib
import io
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from math import inf, nan
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from prediction_batches.object_store import InputMissingError, ObjectAlteredError, ObjectStore
from prediction_contract.cleaning.cleaning_rules import NO_CLEANING, Cleaning
from prediction_contract.cleaning.column_cleaning import ColumnCleaning
from prediction_contract.rows.row_contract import LINE_BYTES, LONGEST_LINE, read_lines
from sagemaker_scripts.batches.previous_batch import PreviousBatch
from sagemaker_scripts.batches.previous_rows import ReadRows, file_rows, previous_files, previous_frame
from tests.batches.delivery.stack_batches import PROVENANCE, StackBatches, rows_of
from tests.fakes.memory_s3 import MemoryS3
from tests.sagemaker.stored_batches import schema_of, write_batch

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.stack_runs import LocalStack

DAY, BATCH = "2013-02-09", "20130209T060000Z-00000001"
TYPES = {
    "flight": "string",
    "count": "long",
    "cost": "decimal(38,10)",
    "share": "double",
    "flag": "boolean",
    "day": "date",
    "moment": "timestamp",
    "nested": "json",
}
SCHEMA = schema_of(TYPES, key="flight")
GOOD: list[dict[str, Any]] = [
    {"flight": "none"},
    {
        "flight": 'ü"\\\n',
        "count": 2**63 - 1,
        "cost": Decimal("-1e-10"),
        "share": -0.0,
        "nested": {"b": [1, "x"]},
    },
    {"flight": " a ", "count": -(2**63), "cost": Decimal(10**27), "share": 1e-7, "flag": False, "nested": []},
    {"flight": "last", "day": date.max, "moment": datetime.max.replace(tzinfo=UTC), "share": 5e125},
    {"flight": "first", "day": date.min, "moment": datetime(1, 1, 1, tzinfo=UTC), "nested": Decimal("1.50")},
    {"flight": "x" * 2048, "flag": True, "share": 123456789.0, "cost": Decimal("1e-7"), "nested": "NaT"},
]
REFUSED: list[dict[str, Any]] = [
    {"flight": None},
    {"flight": ""},
    {"flight": "x" * 2049},
    {"flight": "nan", "share": nan},
    {"flight": "inf", "share": inf, "count": 1},
    {"flight": "wide", "count": 2**63},
    {"flight": "nul", "nested": "\0"},
    {"flight": "text", "count": "1"},
    {"flight": "small", "share": 1e-300},
    {"flight": "twice", "count": 1},
    {"flight": "twice", "count": 2},
]


@pytest.fixture
def store() -> ObjectStore:
    """Give an empty bucket."""
    return ObjectStore(MemoryS3(), "mlpipe-data")


def put_batch(store: ObjectStore, *rows: dict[str, Any], cleaning: Cleaning = NO_CLEANING) -> PreviousBatch:
    """Write a batch with its data files."""
    whole = [dict.fromkeys(TYPES) | row for row in rows]
    manifest = write_batch(store, SCHEMA, whole, model="m", partition=DAY, batch_id=BATCH)
    return PreviousBatch(manifest, cleaning)


def data_key(previous: PreviousBatch) -> str:
    """Return the key of a batch's single data file."""
    (path,) = previous.manifest.delta.files
    return f"{previous.manifest.delta.table}{path}"


def with_part(store: ObjectStore, previous: PreviousBatch, content: bytes) -> PreviousBatch:
    """Replace the batch's part and its entry in the manifest, and delete the data file."""
    (part,) = previous.manifest.json_parts
    store.put(part.key, content)
    del store.client.objects[data_key(previous)]
    altered = replace(part, bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
    return replace(previous, manifest=replace(previous.manifest, json_parts=(altered,)))


@pytest.mark.parametrize("has_data_files", [True, False])
def test_rows_have_schema_types_and_no_refused_rows(store: ObjectStore, has_data_files: bool) -> None:
    """Data files and JSON parts give the same valid rows with the same values and types."""
    previous = put_batch(store, *REFUSED[:5], *GOOD, *REFUSED[5:])
    if not has_data_files:
        del store.client.objects[data_key(previous)]
    found = previous_frame(store, previous)
    assert {name: str(dtype) for name, dtype in found.dtypes.items()} == {
        "entity_id": "str",
        "count": "Int64",
        "cost": "decimal128(38, 10)[pyarrow]",
        "share": "Float64",
        "flag": "boolean",
        "day": "date32[day][pyarrow]",
        "moment": "datetime64[us, UTC]",
        "nested": "object",
    }
    rows = [
        {name: None if value is pd.NA or value is pd.NaT else value for name, value in row.items()}
        for row in found.rename(columns={"entity_id": "flight"}).to_dict("records")
    ]
    assert rows == [dict.fromkeys(TYPES) | row for row in GOOD]
    (number,) = [row["nested"] for row in rows if row["flight"] == "first"]
    assert type(number) is Decimal


@pytest.mark.parametrize("has_data_files", [True, False])
def test_large_rows_are_read_in_small_batches(store: ObjectStore, has_data_files: bool) -> None:
    """Large rows come completely and in several batches, so that memory holds few of them."""
    rows = [{"flight": f"AA-{number:03}", "nested": f"{number:03}" * 100_000} for number in range(120)]
    previous = put_batch(store, *rows)
    files = previous_files(previous) if has_data_files else previous.manifest.json_parts
    found = [list(file_rows(store, previous, file, ReadRows())) for file in files]
    batches = [batch for of_file in found for batch in of_file]
    assert 2 <= len(batches) <= 30
    assert [key for batch in batches for key in batch["entity_id"].to_pylist()] == [
        row["flight"] for row in rows
    ]


def test_empty_batch_is_an_empty_table(store: ObjectStore) -> None:
    """A batch without rows and data files gives an empty table with the schema's types."""
    previous = put_batch(store)
    assert previous.manifest.delta.files == ()
    found = previous_frame(store, previous)
    assert (len(found), str(found["count"].dtype)) == (0, "Int64")


def test_data_file_is_read_without_its_part(store: ObjectStore) -> None:
    """Checksums of rows and batch verify a data file, so the JSON part is not needed."""
    previous = put_batch(store, *GOOD)
    del store.client.objects[previous.manifest.json_parts[0].key]
    assert len(previous_frame(store, previous)) == len(GOOD)


def with_duplicate_row(table: pa.Table) -> pa.Table:
    """Replace the last row by a copy of the first, whose checksum is valid."""
    return pa.concat_tables([table.slice(0, table.num_rows - 1), table.slice(0, 1)])


@pytest.mark.parametrize(
    "alter",
    [
        lambda table: table.slice(1),
        lambda table: pa.concat_tables([table, table]),
        with_duplicate_row,
        lambda table: table.drop_columns(["count"]),
        lambda table: table.drop_columns(["row_checksum"]),
        lambda table: table.set_column(1, "count", pc.cast(table["flight"], pa.string())),
        lambda table: table.slice(0, 0),
        None,
    ],
    ids=["fewer", "more", "others", "no column", "no checksum", "another type", "none", "no Parquet"],
)
def test_data_files_unlike_the_manifest_are_replaced_by_parts(
    store: ObjectStore, alter: Callable[[pa.Table], pa.Table] | None, caplog: pytest.LogCaptureFixture
) -> None:
    """If a data file does not match the manifest, the JSON parts are read instead."""
    previous = put_batch(store, *GOOD)
    wanted = previous_frame(store, previous)
    key = data_key(previous)
    content = io.BytesIO(store.get(key))
    if alter is None:
        content = io.BytesIO(b"PAR1 and no more")
    else:
        altered = alter(pq.read_table(content))
        content = io.BytesIO()
        pq.write_table(altered, content)
    store.put(key, content.getvalue())
    pd.testing.assert_frame_equal(previous_frame(store, previous), wanted)
    assert "its JSON parts are read" in caplog.text


def test_row_with_wrong_checksum_is_left_out(store: ObjectStore) -> None:
    """Only the altered row is left out, because a refused row looks the same."""
    previous = put_batch(store, *GOOD)
    key = data_key(previous)
    table = pq.read_table(io.BytesIO(store.get(key)))
    flags = [not value for value in table["flag"].to_pylist()[:1]] + table["flag"].to_pylist()[1:]
    content = io.BytesIO()
    pq.write_table(table.set_column(4, "flag", pa.array(flags)), content)
    store.put(key, content.getvalue())
    assert list(previous_frame(store, previous)["entity_id"]) == [row["flight"] for row in GOOD[1:]]


def test_previous_rows_are_cleaned_as_by_the_load(store: ObjectStore) -> None:
    """Rows come with the values that the stores hold, and keys that trimming makes equal are left out."""
    cleaning = Cleaning(
        (
            ColumnCleaning(column="share", drop=True),
            ColumnCleaning(column="flight", trim=True),
            ColumnCleaning(column="count", default="0"),
        )
    )
    rows = [("A", None, nan), ("B", 7, nan), (" C", 1, 1.0), ("C", 2, 1.0), (" D ", 3, None)]
    previous = put_batch(
        store,
        *({"flight": flight, "count": count, "share": share} for flight, count, share in rows),
        cleaning=cleaning,
    )
    found = previous_frame(store, previous)[["entity_id", "count"]]
    assert found.to_numpy().tolist() == [["A", 0], ["B", 7], [" D ", 3]]


def test_lines_beyond_the_manifests_rows_are_not_read(
    store: ObjectStore, caplog: pytest.LogCaptureFixture
) -> None:
    """A small part can unpack to any number of lines, so reading stops at the manifest's number of rows."""
    previous = with_part(store, put_batch(store, *GOOD), gzip.compress(b"\n" * 100_000))
    assert previous_frame(store, previous).empty
    assert caplog.messages[-1] == f"{len(GOOD)} rows of batch {BATCH} are left out: unparsable"


def test_overlong_line_is_one_refused_row(store: ObjectStore, caplog: pytest.LogCaptureFixture) -> None:
    """A line that is too long is left out as one row, and the lines after it are read."""
    lines = [b"[%s]" % (b" " * 3 * LINE_BYTES), *(b'{"flight":"AA-%d"}' % n for n in range(3))]
    content = gzip.compress(b"\n".join(lines), compresslevel=1)
    previous = with_part(store, put_batch(store, *GOOD), content)
    assert list(previous_frame(store, previous)["entity_id"]) == ["AA-0", "AA-1", "AA-2"]
    assert caplog.messages[-1] == f"1 rows of batch {BATCH} are left out: value_too_large"


def test_reading_stops_at_an_endless_line() -> None:
    """A part with an endless line is not read to its end."""
    file = io.BytesIO(b"x" * (LONGEST_LINE + LINE_BYTES) + b"\n{}\n")
    assert [len(line) for line in read_lines(file)] == [LINE_BYTES + 1]
    assert len(file.read()) > len(b"{}\n")


def test_altered_or_missing_part_is_refused(store: ObjectStore) -> None:
    """Without a data file, a part must exist and have the SHA-256 of the manifest."""
    previous = put_batch(store, *GOOD)
    del store.client.objects[data_key(previous)]
    (part,) = previous.manifest.json_parts
    store.put(part.key, b"other")
    with pytest.raises(ObjectAlteredError, match="does not have SHA-256"):
        previous_frame(store, previous)
    del store.client.objects[part.key]
    with pytest.raises(InputMissingError, match=r"attempt=1/.* does not exist"):
        previous_frame(store, previous)


@pytest.mark.stack
def test_batch_is_read_after_compaction_and_vacuum(
    local_stack: LocalStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If compaction and vacuum deleted the data files, the JSON parts give the same rows."""
    for name, value in local_stack.environment.items():
        monkeypatch.setenv(name, value)
    batches = StackBatches(ObjectStore.of_job(local_stack.environment["MLPIPE_DATA_BUCKET"]))
    batch = batches.open()
    for share in ("a", "b"):
        batches.write(batch, share, rows_of(f"{share}-1", f"{share}-2"))
    previous = PreviousBatch(batch.commit(["a", "b"], PROVENANCE), NO_CLEANING)
    found = previous_frame(batches.store, previous)
    assert list(found["entity_id"]) == ["a-1", "a-2", "b-1", "b-2"]
    table = batches.delta()
    assert table.optimize.compact()["numFilesRemoved"] == 2
    table.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
    assert not batches.store.listing(f"predictions/{batches.model}/delta/{batch.batch_id}/")
    pd.testing.assert_frame_equal(previous_frame(batches.store, previous), found)
