"""Tests of how object keys are assigned to partitions by a source's path."""

from __future__ import annotations

import pytest

from prediction_contract.jobs.model_inputs import Source
from prediction_contract.jobs.source_keys import SourceKeys, values_of_key, values_of_partition
from prediction_contract.naming.partition_kind import DAILY, HOURLY, MONTHLY, WEEKLY, PartitionKind


def source(name: str, path: str, file_format: str = "csv") -> Source:
    """Return a source of files."""
    return Source(name=name, format=file_format, path=path)


@pytest.mark.parametrize(
    ("path", "key", "partition", "kind"),
    [
        ("raw/dt={date}/hour={hour}/*.csv", "raw/dt=2013-02-01/hour=05/a.csv", "2013-02-01T05", HOURLY),
        ("raw/{hour}/{date}.csv", "raw/05/2013-02-01.csv", "2013-02-01T05", HOURLY),
        ("raw/{partition}/{partition}.csv", "raw/2013-02-01/2013-02-01.csv", "2013-02-01", DAILY),
        ("raw/{partition}.csv", "raw/2013-W06.csv", "2013-W06", WEEKLY),
        ("raw/{date}.csv", "raw/2013-02-04.csv", "2013-W06", WEEKLY),
        ("raw/{partition}.csv", "raw/2013-02.csv", "2013-02", MONTHLY),
    ],
)
def test_key_belongs_to_its_partition(path: str, key: str, partition: str, kind: PartitionKind) -> None:
    """A key is assigned to the partition that its source's path describes, for each kind of partition."""
    assert values_of_key(path, key, kind) == values_of_partition(path, partition)
    assert SourceKeys([source("orders", path)], [key], kind).missing_sources(partition) == []
    assert SourceKeys([source("orders", path)], [key], kind).newest(first="2000", end=None) == partition


@pytest.mark.parametrize(
    "key", ["raw/dt=2013-02-01/b/a.csv", "raw/dt=2013-02-1/a.csv", "rawxdt=2013-02-01/a.csv"]
)
def test_unmatched_key_has_no_partition(key: str) -> None:
    """In a path, `*` matches text without a slash, and other characters match only themselves."""
    assert values_of_key("raw/dt={date}/*.csv", key, DAILY) is None


def test_newest_partition_has_data_of_all_sources() -> None:
    """A partition is complete if each source has an object for it, or any object if its path has no date."""
    keys = [
        "orders/2013-02-01.csv",
        "orders/2013-02-02.csv",
        "orders/2013-02-30.csv",
        "visits/2013-02-01.csv",
        "all.csv",
    ]
    orders, visits = source("orders", "orders/{date}.csv"), source("visits", "visits/{date}.csv", "reader")
    known = SourceKeys([orders, visits, source("rates", "all.csv")], keys, DAILY)
    assert known.missing_sources("2013-02-02") == ["visits"]
    assert known.newest(first="2013-01-01", end=None) == "2013-02-01"
    assert known.newest(first="2013-02-02", end=None) is None
    assert SourceKeys([orders], keys, DAILY).newest(first="2013-01-01", end="2013-02-02") == "2013-02-01"
    assert SourceKeys([source("rates", "none.csv")], keys, DAILY).missing_sources("2013-02-01") == ["rates"]


def test_sources_without_listed_keys_are_never_missing() -> None:
    """A query, a Delta table and a reader that finds its own files are never reported as missing."""
    sources = [
        Source(name="rates", format="snowflake", query="select 1"),
        source("zones", "tables/zones", "delta"),
        source("visits", "visits/{date}/*", "reader"),
    ]
    assert SourceKeys(sources, [], DAILY).missing_sources("2013-02-01") == []
