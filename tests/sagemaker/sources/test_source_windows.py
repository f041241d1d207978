"""Tests of the window of a partition: its history, the rows known in time, and reading files once."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from prediction_batches.object_store import ObjectStore
from prediction_contract.jobs.model_inputs import Source
from sagemaker_scripts.sources.source_objects import SourceError, SourceMissingError
from tests.fakes.memory_s3 import MemoryS3
from tests.sagemaker.sources.source_reading import DAY, bucket, file_of, orders, read, sources_of

COLUMNS = (("customer_id", "string"), ("ordered_at", "timestamp"))
DAYS = ["2013-02-01", "2013-02-02", DAY]


def day_of(*hours: int, day: str = DAY) -> bytes:
    """Return a file of orders at the given hours after a day's start."""
    start = datetime.fromisoformat(day).replace(tzinfo=UTC)
    rows = [{"customer_id": f"{day}+{hour}", "ordered_at": start + timedelta(hours=hour)} for hour in hours]
    return file_of(
        rows, "parquet", pa.schema({"customer_id": pa.string(), "ordered_at": pa.timestamp("us", "UTC")})
    )


def daily(**changes: Any) -> Source:
    """Return a source of daily files with a time for each row and a history of two days."""
    return orders(columns=COLUMNS, **{"known_at": "ordered_at", "history": 2} | changes)


def test_rows_known_later_are_left_out() -> None:
    """A partition gets no row that became known after it began, in whatever file, and none without a time."""
    rows = [{"customer_id": "no time", "ordered_at": None}]
    store = bucket(
        **{
            "raw/orders/dt=2013-02-01/a.parquet": day_of(0, 23, 47, 48, day="2013-02-01"),
            "raw/orders/dt=2013-02-02/a.parquet": day_of(5, day="2013-02-02"),
            "raw/orders/dt=2013-02-02/b.parquet": file_of(
                rows,
                "parquet",
                pa.schema({"customer_id": pa.string(), "ordered_at": pa.timestamp("us", "UTC")}),
            ),
            f"raw/orders/dt={DAY}/a.parquet": day_of(-1, 0, 1),
        }
    )
    shown, found = read(store, daily())
    assert shown.select(["customer_id", "partition"]).to_pylist() == [
        {"customer_id": "2013-02-01+0", "partition": "2013-02-01"},
        {"customer_id": "2013-02-01+23", "partition": "2013-02-01"},
        {"customer_id": "2013-02-01+47", "partition": "2013-02-01"},
        {"customer_id": "2013-02-02+5", "partition": "2013-02-02"},
        {"customer_id": f"{DAY}+-1", "partition": DAY},
    ]
    assert [each.key for each in found.reads] == sorted(store.client.objects)


@pytest.mark.parametrize("kind", [pa.string(), pa.int64(), pa.date32()])
def test_known_at_column_without_timestamps_is_refused(kind: pa.DataType) -> None:
    """If known_at names a column that is not a timestamp, the error names the file and its type."""
    content = file_of([{"ordered_at": None}], "parquet", pa.schema({"ordered_at": kind}))
    store = bucket(**{f"raw/orders/dt={DAY}/a.parquet": content})
    complaint = rf"dt={DAY}/a.parquet .*column ordered_at, declared as known_at, is .* not a timestamp"
    with pytest.raises(SourceError, match=complaint):
        read(store, orders(columns=(), known_at="ordered_at"))


def test_missing_history_is_allowed_but_missing_partition_fails() -> None:
    """First partitions have no history, but missing data of the partition itself is an error."""
    store = bucket(**{f"raw/orders/dt={DAY}/a.parquet": day_of(-1)})
    shown, _ = read(store, daily(history=14))
    assert shown["customer_id"].to_pylist() == [f"{DAY}+-1"]
    with pytest.raises(
        SourceMissingError, match="Source orders has no data for 2013-02-04 at s3://data/raw/orders/dt=2013"
    ):
        read(store, daily(history=14), "2013-02-04")


def test_shared_history_is_read_once() -> None:
    """Partitions with overlapping histories read each file once."""
    days = [f"2013-02-{number:02}" for number in range(1, 8)]
    store = bucket(**{f"raw/orders/dt={day}/a.parquet": day_of(1, 25, day=day) for day in days})
    with sources_of(store, daily(), last=days[-1]) as tables:
        shown = [tables.read(day).tables["orders"]["customer_id"].to_pylist() for day in days[2:]]
    assert shown[0] == ["2013-02-01+1", "2013-02-01+25", "2013-02-02+1"]
    assert shown[-1] == ["2013-02-05+1", "2013-02-05+25", "2013-02-06+1"]
    assert len(store.client.reads) == len(days)


class WeighingS3(MemoryS3):
    """An in-memory bucket that records Arrow's allocated bytes at each read."""

    def __init__(self, objects: dict[str, bytes]) -> None:
        super().__init__(objects)
        self.held: list[int] = []

    def get_object(self, **asked: Any) -> dict[str, Any]:
        """Record the allocated bytes, then read the object."""
        self.held.append(pa.total_allocated_bytes())
        return super().get_object(**asked)


def test_memory_holds_the_history_of_one_partition() -> None:
    """Rows that later partitions do not need are freed before more files are read."""
    days = [f"2013-02-{number:02}" for number in range(1, 9)]
    rows = pa.table({"customer_id": pa.array([f"{number:08}" for number in range(100_000)])})
    sink = io.BytesIO()
    pyarrow.parquet.write_table(rows, sink)
    s3 = WeighingS3({f"raw/orders/dt={day}/a.parquet": sink.getvalue() for day in days})
    source = orders(columns=(("customer_id", "string"),), history=1)
    before = pa.total_allocated_bytes()
    with sources_of(ObjectStore(s3, "data"), source, last=days[-1]) as tables:
        sizes = [tables.read(day).tables["orders"].nbytes for day in days]
    assert sizes == [sizes[0], *[2 * sizes[0]] * (len(days) - 1)]
    assert max(s3.held) - before < 1.5 * sizes[0]


def test_rows_of_later_times_are_not_held() -> None:
    """A source without placeholders may hold years of later rows, which do not stay in memory."""
    start = datetime(2013, 2, 1, tzinfo=UTC)
    times = pa.array([start + timedelta(minutes=number) for number in range(200_000)])
    rows = pa.table({"ordered_at": times.cast(pa.timestamp("us", "UTC"))})
    sink = io.BytesIO()
    pyarrow.parquet.write_table(rows, sink, write_statistics=False)
    source = orders(path="raw/orders.parquet", columns=COLUMNS[1:], known_at="ordered_at")
    before = pa.total_allocated_bytes()
    with sources_of(bucket(**{"raw/orders.parquet": sink.getvalue()}), source) as tables:
        shown = tables.read(DAY).tables["orders"]
        assert shown.num_rows == 2 * 24 * 60
        assert pa.total_allocated_bytes() - before < rows.nbytes / 4


def test_row_groups_of_later_rows_are_not_read() -> None:
    """A row group is skipped if its statistics say that all its rows became known later."""
    table = pyarrow.parquet.read_table(pa.BufferReader(day_of(*range(-4, 4))))
    sink = io.BytesIO()
    pyarrow.parquet.write_table(table, sink, row_group_size=2, use_dictionary=False)
    content = bytearray(sink.getvalue())
    last = pyarrow.parquet.read_metadata(sink).row_group(3).column(0).data_page_offset
    content[last : last + 8] = b"\xff" * 8
    with pytest.raises(OSError, match=r"(?i)thrift|header"):
        pyarrow.parquet.read_table(pa.BufferReader(bytes(content)))
    store = bucket(**{f"raw/orders/dt={DAY}/a.parquet": bytes(content)})
    shown, _ = read(store, daily())
    assert shown["customer_id"].to_pylist() == [f"{DAY}+{hour}" for hour in range(-4, 0)]


def test_hourly_history_crosses_midnight() -> None:
    """The path of an hourly source names date and hour, and its history reaches the day before."""
    keys = ["dt=2013-02-02/hour=22", "dt=2013-02-02/hour=23", "dt=2013-02-03/hour=00"]
    store = bucket(**{f"raw/{key}/a.csv": f"x\n{number}\n".encode() for number, key in enumerate(keys)})
    source = orders(format="csv", path="raw/dt={date}/hour={hour}/*.csv", columns=(("x", "long"),), history=2)
    shown, _ = read(store, source, "2013-02-03T00")
    assert shown.to_pylist() == [
        {"x": 0, "partition": "2013-02-02T22"},
        {"x": 1, "partition": "2013-02-02T23"},
        {"x": 2, "partition": "2013-02-03T00"},
    ]


def test_daily_file_is_read_once_for_its_hours() -> None:
    """Hourly partitions that share a daily file get its rows once, without a partition column."""
    store = bucket(**{f"raw/dt={day}/a.csv": f"x\n{day[-1]}\n".encode() for day in DAYS})
    source = orders(format="csv", path="raw/dt={date}/*.csv", columns=(("x", "long"),), history=3)
    shown, _ = read(store, source, "2013-02-03T01")
    assert shown.to_pylist() == [{"x": 2}, {"x": 3}]


def test_file_without_placeholders_serves_every_partition() -> None:
    """A file without placeholders is read once for all partitions and gets no partition column."""
    store = bucket(**{"raw/shops.csv": b"shop\na\n"})
    source = orders(
        name="shops", format="csv", path="raw/shops.csv", columns=(("shop", "string"),), history=9
    )
    with sources_of(store, source) as tables:
        shown = [tables.read(day).tables["shops"].to_pylist() for day in DAYS]
    assert shown == [[{"shop": "a"}]] * 3
    assert store.client.reads == ["raw/shops.csv"]


def test_partition_column_of_the_source_is_kept() -> None:
    """The platform adds a partition column only if the source has none."""
    store = bucket(**{f"raw/orders/dt={DAY}/a.parquet": file_of([{"partition": "north"}], "parquet")})
    assert read(store, orders(columns=()))[0]["partition"].to_pylist() == ["north"]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"customer": "a"}, "has no column customer_id, which is declared"),
        ({"customer_id": 7}, "column customer_id: it is int64, but declared as string"),
    ],
)
def test_schema_change_between_partitions_is_located(change: dict[str, Any], complaint: str) -> None:
    """The error names the file of the history that does not match the declared columns."""
    changed = file_of([{**change, "ordered_at": datetime(2013, 2, 2, tzinfo=UTC)}], "parquet")
    store = bucket(
        **{
            "raw/orders/dt=2013-02-01/a.parquet": day_of(1, day="2013-02-01"),
            "raw/orders/dt=2013-02-02/a.parquet": changed,
            f"raw/orders/dt={DAY}/a.parquet": day_of(-1),
        }
    )
    with pytest.raises(SourceError, match=f"dt=2013-02-02/a.parquet of source orders.*{complaint}"):
        read(store, daily())
