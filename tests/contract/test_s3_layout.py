"""Tests of the keys and prefixes of the bucket."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

import pytest

from prediction_contract.errors import InvalidNameError
from prediction_contract.naming import s3_layout

if TYPE_CHECKING:
    from collections.abc import Callable

BATCH = "20130203T060000Z-0123abcd"
HOUR = "2013-02-01T05"


def test_keys_match_the_layout() -> None:
    """Every key and prefix is spelled as the documented layout prescribes."""
    json_prefix = f"predictions/m/json/dt=2013-02-01/hour=05/batch={BATCH}/"
    assert s3_layout.features_prefix("m", "2013-02-01", "r-1") == "features/m/dt=2013-02-01/run=r-1/"
    assert s3_layout.json_partition_prefix("m", HOUR) == "predictions/m/json/dt=2013-02-01/hour=05/"
    assert s3_layout.json_batch_prefix("m", HOUR, BATCH) == json_prefix
    assert (
        s3_layout.json_part_key("m", HOUR, BATCH, 2, share="part", number=7)
        == f"{json_prefix}attempt=2/part-00007.jsonl.gz"
    )
    assert s3_layout.json_attempt_prefix("m", HOUR, BATCH, 2) == f"{json_prefix}attempt=2/"
    assert s3_layout.receipt_name("share-3") == "receipts/share-3.json"
    assert s3_layout.share_keys_name("share-3") == "keys/share-3"
    assert s3_layout.progress_name("algo-1") == "progress/algo-1.json"
    assert s3_layout.data_file_path(BATCH, 2, "share-3", 7) == f"{BATCH}/2/share-3-00007.parquet"
    assert s3_layout.delta_table_prefix("m") == "predictions/m/delta/"
    assert s3_layout.done_key("m", BATCH) == f"done/2013-02-03/m/{BATCH}.json"
    assert (
        s3_layout.done_prefix(date(2013, 2, 3)) == s3_layout.done_prefix("2013-02-03") == "done/2013-02-03/"
    )
    assert s3_layout.report_key("m", BATCH, 3) == f"reports/m/{BATCH}/load-3.json"
    assert s3_layout.quarantine_prefix("m", BATCH, 3) == f"quarantine/m/batch={BATCH}/attempt=3/"
    assert s3_layout.quarantine_key("m", BATCH, 3, 0).endswith("/attempt=3/part-00000.jsonl.gz")


def test_done_key_is_parsed() -> None:
    """A done key is parsed into its date, model and batch."""
    assert s3_layout.parse_done_key(s3_layout.done_key("m", BATCH)) == ("2013-02-03", "m", BATCH)


@pytest.mark.parametrize(
    "key",
    [
        f"done/2013-02-04/m/{BATCH}.json",
        f"done/2013-02-03/../{BATCH}.json",
        f"done/2013-02-03/m/{BATCH}.json.tmp",
        f"/done/2013-02-03/m/{BATCH}.json",
        f"done/2013-02-03/m/x/{BATCH}.json",
        "done/2013-02-03/m/",
    ],
)
def test_malformed_done_key_is_refused(key: str) -> None:
    """A done key with a wrong date, an invalid model or extra characters is refused."""
    with pytest.raises(InvalidNameError):
        s3_layout.parse_done_key(key)


@pytest.mark.parametrize(
    "make",
    [
        lambda: s3_layout.features_prefix("../m", "2013-02-01", "r"),
        lambda: s3_layout.features_prefix("m", "2013-02-01", "../r"),
        lambda: s3_layout.json_partition_prefix("m", "../2013"),
        lambda: s3_layout.json_batch_prefix("m", "../2013", BATCH),
        lambda: s3_layout.json_part_key("m", HOUR, BATCH, 0, share="part", number=0),
        lambda: s3_layout.json_part_key("m", HOUR, BATCH, 1, share="part", number=-1),
        lambda: s3_layout.json_part_key("m", HOUR, BATCH, 1, share="part", number=100_000),
        lambda: s3_layout.json_part_key("m", HOUR, BATCH, 1, share="../x", number=0),
        lambda: s3_layout.receipt_name("a/b"),
        lambda: s3_layout.share_keys_name(".."),
        lambda: s3_layout.progress_name("/x"),
        lambda: s3_layout.data_file_path(BATCH, 1, "_hidden", 0),
        # Delta's log would encode these characters, so its path would differ from the key.
        lambda: s3_layout.data_file_path(BATCH, 1, "a b", 0),
        lambda: s3_layout.data_file_path(BATCH, 1, "a=b", 0),
        lambda: s3_layout.delta_table_prefix("m/../x"),
        lambda: s3_layout.done_key("m", "../../x"),
        lambda: s3_layout.done_prefix("2013-02-03T05"),
        lambda: s3_layout.report_key("m", "x", 1),
        lambda: s3_layout.quarantine_prefix("M", BATCH, 1),
    ],
)
def test_invalid_name_never_becomes_part_of_a_key(make: Callable[[], str]) -> None:
    """An invalid name is refused before it can lead a key out of its prefix."""
    with pytest.raises(InvalidNameError):
        make()


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/a",
        "a//b",
        "a/../b",
        "./a",
        "a/",
        "s3://b/k?x",
        "a\\b",
        "a\nb",
        "é",
        "a%2F..",
        "*",
        "a b",
        "it's",
        "a" * 1025,
    ],
)
def test_unsafe_keys_are_refused(key: str) -> None:
    """Keys that are too long or have empty, relative or unsafe segments are refused."""
    with pytest.raises(InvalidNameError):
        s3_layout.validated_key(key)


@pytest.mark.parametrize("name", ["", "ab", "s3://bucket", "Bucket", "a..b", "-abc", "abc/def", "a" * 64])
def test_invalid_bucket_name_is_refused(name: str) -> None:
    """Only names that S3 allows are accepted as bucket names."""
    assert s3_layout.validated_bucket("mlpipe-data.1") == "mlpipe-data.1"
    with pytest.raises(InvalidNameError):
        s3_layout.validated_bucket(name)


def test_key_of_1024_bytes_is_accepted() -> None:
    """A key of 1,024 ASCII characters is accepted; a longer or non-ASCII one is refused."""
    longest = "raw/".ljust(1024, "k")
    assert s3_layout.validated_key(longest) == longest
    for key in (f"{longest}k", "raw/é"):
        with pytest.raises(InvalidNameError):
            s3_layout.validated_key(key)
