"""Tests that removing later data leaves only files and rows known when a partition began."""

from __future__ import annotations

import gzip
import io
from typing import TYPE_CHECKING

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from prediction_contract.jobs.model_inputs import Source
from sagemaker_scripts.trials.feature_comparison import differences
from sagemaker_scripts.trials.later_data import without_later_data

if TYPE_CHECKING:
    from pathlib import Path

_EARLY, _LATE = "2013-02-01T23:59:59.5Z", "2013-02-02T00:00:00Z"


def keys(folder: Path) -> list[str]:
    """Return the paths of all files below a folder."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("path", "partition", "kept"),
    [
        ("raw/dt={date}/*.csv", "2013-02-01", ["raw/dt=2013-01-31/a.csv", "raw/dt=2013-02-01/a.csv"]),
        ("raw/{hour}/{date}.csv", "2013-02-01T05", ["raw/04/2013-02-01.csv", "raw/23/2013-01-31.csv"]),
        ("raw/{partition}/{partition}.csv", "2013-W05", ["raw/2013-W05/2013-W05.csv"]),
        ("raw/{partition}.csv", "2012-12", ["raw/2012-12.csv"]),
        ("raw/all.csv", "2013-02-01", ["raw/all.csv"]),
    ],
)
def test_files_of_later_partitions_are_removed(
    tmp_path: Path, path: str, partition: str, kept: list[str]
) -> None:
    """Files of later partitions by a source's path are removed; other files stay."""
    later = {
        "raw/dt={date}/*.csv": ["raw/dt=2013-02-02/a.csv", "raw/dt=2014-01-01/b.csv"],
        "raw/{hour}/{date}.csv": ["raw/06/2013-02-01.csv", "raw/00/2013-02-02.csv"],
        "raw/{partition}/{partition}.csv": ["raw/2013-W06/2013-W06.csv", "raw/2014-W01/2014-W01.csv"],
        "raw/{partition}.csv": ["raw/2013-01.csv"],
        "raw/all.csv": [],
    }[path]
    folder = tmp_path / "all"
    for key in (*kept, *later, "other/dt=2013-02-09/a.csv"):
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        (folder / key).touch()
    source = Source(name="orders", format="csv", path=path)
    without_later_data(folder, tmp_path / "then", [source], partition)
    assert keys(tmp_path / "then") == [*(["other/dt=2013-02-09/a.csv"]), *kept]


def test_rows_known_later_are_removed(tmp_path: Path) -> None:
    """Later rows are removed from copies of all formats, not from the originals; rows without a time stay."""
    folder, then = tmp_path / "all", tmp_path / "then"
    frame = pd.DataFrame(
        {"id": [1, 2, 3], "at": pd.to_datetime([_EARLY, _LATE, None], utc=True, format="ISO8601")}
    )
    for name in ("csv", "jsonl", "parquet"):
        (folder / name).mkdir(parents=True)
    text = f'id,at,note\n1,{_EARLY},"two\nlines"\n2,{_LATE},b\n3,,c\n'
    (folder / "csv" / "a.csv.gz").write_bytes(gzip.compress(text.encode()))
    (folder / "jsonl" / "a.jsonl").write_text(
        f'{{"id": 1, "at": "{_EARLY}"}}\n{{"id": 2, "at": "{_LATE}"}}\n'
    )
    frame.to_parquet(folder / "parquet" / "a.parquet")
    write_deltalake(folder / "delta", frame)
    sources = [
        Source(name=name, format=name, path="delta" if name == "delta" else f"{name}/*", known_at="at")
        for name in ("csv", "jsonl", "parquet", "delta")
    ]
    originals = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert without_later_data(folder, then, sources, "2013-02-02") == (0, 4)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == originals
    unpacked = gzip.decompress((then / "csv" / "a.csv.gz").read_bytes())
    assert pd.read_csv(io.BytesIO(unpacked))["id"].tolist() == [1, 3]
    assert (then / "jsonl" / "a.jsonl").read_text() == f'{{"id": 1, "at": "{_EARLY}"}}\n'
    assert pq.read_table(then / "parquet" / "a.parquet")["id"].to_pylist() == [1, 3]
    assert sorted(DeltaTable(then / "delta").to_pyarrow_table()["id"].to_pylist()) == [1, 3]


def test_differences_name_entity_and_column() -> None:
    """Differences name entity and column; rounding in sums and two missing numbers are no differences."""
    with_later = pa.table(
        {
            "entity_id": ["a", "b", "c"],
            "mean": [0.1 + 0.2, 2.0, float("nan")],
            "delay": [1, 9, 3],
            "new": [1, 1, 1],
        }
    )
    without = pa.table({"entity_id": ["c", "b", "a"], "mean": [float("nan"), 2.0, 0.3], "delay": [3, 2, 1]})
    assert differences(with_later, without) == [
        {"entity": "b", "column": "delay", "entities": 1, "what": "later data changes the value"},
        {"entity": None, "column": "new", "entities": 3, "what": "the column exists only with later data"},
    ]
    assert differences(with_later, with_later.slice(0, 2)) == [
        {"entity": "c", "column": None, "entities": 1, "what": "the entity exists only with later data"}
    ]


def test_known_at_column_may_need_quoting(tmp_path: Path) -> None:
    """A known_at column with a space in its name works for a Delta table."""
    rows = pa.table({"id": [1, 2], "known at": pd.to_datetime([_EARLY, _LATE], utc=True, format="ISO8601")})
    write_deltalake(tmp_path / "data" / "orders", rows)
    source = Source(name="orders", format="delta", path="orders", known_at="known at")
    taken = without_later_data(tmp_path / "data", tmp_path / "then", [source], "2013-02-02")
    assert taken.rows == 1
