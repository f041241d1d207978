"""Tests of the names of models, partitions, batches and job runs."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prediction_contract.errors import InvalidNameError
from prediction_contract.naming.batch import BatchId, ModelName, Partition, job_name, mint_batch_id
from prediction_contract.naming.partition_kind import PARTITION_KINDS, WEEKLY, PartitionKind

MOMENTS = st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30), timezones=st.just(UTC))  # noqa: DTZ001  # hypothesis takes naive bounds
# Far enough from the calendar's ends for many steps of any kind.
INNER_MOMENTS = MOMENTS.filter(lambda moment: 200 < moment.year < 9800)
KINDS = st.sampled_from(list(PARTITION_KINDS.values()))
MODELS = st.from_regex(r"\A[a-z][a-z0-9_]{0,40}\Z")
SAGEMAKER_NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9])*")


@given(MODELS, MOMENTS, MOMENTS)
def test_batch_ids_sort_by_creation(model: str, one: datetime, other: datetime) -> None:
    """Batch ids of different seconds sort by time."""
    first, second = sorted((one.replace(microsecond=0), other.replace(microsecond=0)))
    ids = [mint_batch_id(model, "2013-02-01", "run", moment) for moment in (first, second)]
    assert [batch_id.minted_at for batch_id in ids] == [first, second]
    if first != second:
        assert ids == sorted(ids)


@given(MODELS, st.text(min_size=1), MOMENTS)
def test_minting_is_deterministic_per_intent(model: str, intent: str, now: datetime) -> None:
    """The same intent gives the same batch id; another intent, partition or model gives another one."""
    batch_id = mint_batch_id(model, "2013-02-01", intent, now)
    assert batch_id == mint_batch_id(
        model, "2013-02-01", intent, now.astimezone(timezone(timedelta(hours=5)))
    )
    others = {
        mint_batch_id(model, "2013-02-01", f"{intent}2", now),
        mint_batch_id(model, "2013-02-02", intent, now),
        mint_batch_id("another", "2013-02-01", intent, now),
    }
    assert batch_id not in others or model == "another"
    assert BatchId(str(batch_id)) == batch_id


def test_minting_refuses_naive_time_and_empty_intent() -> None:
    """A batch id is not created from a time without a zone or an empty intent."""
    with pytest.raises(InvalidNameError, match="time zone"):
        mint_batch_id("m", "2013-02-01", "run", datetime(2013, 2, 1))  # noqa: DTZ001  # the fault under test
    with pytest.raises(InvalidNameError, match="intent"):
        mint_batch_id("m", "2013-02-01", "", datetime(2013, 2, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "20130230T000000Z-0123abcd",
        "20130201T250000Z-0123abcd",
        "20130201T060000Z-0123ABCD",
        "20130201T060000Z-0123abcd\n",
        "20130201T060000Z-0123abcd'",
        "2013-02-01T06:00:00Z-0123abcd",
        "\u0662\u0660130201T060000Z-0123abcd",
    ],
)
def test_malformed_batch_id_is_refused(text: str) -> None:
    """A batch id with an impossible time, other digits or extra characters is refused."""
    with pytest.raises(InvalidNameError, match="batch id"):
        BatchId(text)


@pytest.mark.parametrize(
    ("text", "path", "dagster_key"),
    [
        ("2013-02-01", "dt=2013-02-01", "2013-02-01"),
        ("2013-02-01T05", "dt=2013-02-01/hour=05", "2013-02-01-05:00"),
        ("2013-W06", "week=2013-W06", "2013-W06-1"),
        ("2013-02", "month=2013-02", "2013-02"),
    ],
)
def test_partition_has_three_forms(text: str, path: str, dagster_key: str) -> None:
    """A partition has a text, a path and a Dagster key, which all identify it."""
    partition = Partition(text)
    assert (partition.path, partition.dagster_key) == (path, dagster_key)
    assert Partition.from_dagster_key(dagster_key) == partition
    assert Partition.from_path(path) == partition


@pytest.mark.parametrize(
    "text",
    [
        *(
            "2013-02-29",
            "2013-2-1",
            "2013-02-01T24",
            "2013-02-01T5",
            "2013-02-01T05:00",
            "../..",
            "2013-02-01\n",
        ),
        *("2013-W00", "2013-W53", "2013-W6", "2013-W06-1", "2013-w06", "2013W06", "2013-W06T05"),
        *("2013-13", "2013-00", "2013-2", "2013", "201302", "2013-02T05"),
    ],
)
def test_malformed_partition_is_refused(text: str) -> None:
    """Impossible dates, hours, weeks and months and other spellings are refused."""
    with pytest.raises(InvalidNameError, match="partition"):
        Partition(text)


@given(st.lists(MOMENTS, min_size=2, max_size=5), KINDS)
def test_partitions_sort_as_text(moments: list[datetime], kind: PartitionKind) -> None:
    """Partitions of one kind sort by time when sorted as text."""
    partitions = [Partition.at(moment, kind) for moment in moments]
    assert [each.start for each in sorted(partitions)] == sorted(each.start for each in partitions)


@given(INNER_MOMENTS, KINDS, st.integers(0, 2000))
def test_partitions_are_contiguous(moment: datetime, kind: PartitionKind, steps: int) -> None:
    """Each partition begins where the previous one ends, and equal steps forward and back cancel out."""
    partition = Partition.at(moment, kind)
    assert (partition.kind, Partition(str(partition))) == (kind, partition)
    assert partition.start <= moment.astimezone(UTC) < partition.end
    assert partition.later(1).start == partition.end
    assert partition.later(steps).earlier(steps) == partition
    assert (partition.later(steps) > partition) == (steps > 0)
    assert Partition.from_dagster_key(partition.dagster_key) == partition


@pytest.mark.parametrize(
    ("partition", "steps", "earlier"),
    [
        ("2013-03-01", 1, "2013-02-28"),
        ("2013-03-01T00", 2, "2013-02-28T22"),
        # 2009 and 2015 have 53 weeks; the first week of 2013 begins in 2012.
        ("2016-W01", 1, "2015-W53"),
        ("2010-W01", 1, "2009-W53"),
        ("2013-W01", 1, "2012-W52"),
        ("2013-01", 1, "2012-12"),
        ("2013-02", -11, "2014-01"),
    ],
)
def test_earlier_partition_crosses_days_and_years(partition: str, steps: int, earlier: str) -> None:
    """Earlier partitions are found across midnight, month ends and years of 53 weeks."""
    assert Partition(partition).earlier(steps) == earlier


@pytest.mark.parametrize("first", ["0001-01-01T00", "0001-01-01", "0001-W01", "0001-01"])
def test_first_partition_has_no_predecessor(first: str) -> None:
    """A step before the year 1 is refused."""
    with pytest.raises(InvalidNameError, match="no partition 1 before"):
        Partition(first).earlier(1)


@pytest.mark.parametrize("last", ["9999-12-31T23", "9999-12-31", "9999-W52", "9999-12"])
def test_last_partition_has_no_end(last: str) -> None:
    """The calendar's last partition is valid, but asking for its end is refused."""
    with pytest.raises(InvalidNameError, match="no partition 1 after"):
        _ = Partition(last).end


def test_week_begins_on_monday() -> None:
    """Weekly partitions follow ISO 8601."""
    assert Partition("2013-W06").start == datetime(2013, 2, 4, tzinfo=UTC)
    assert Partition("2013-W01").start == datetime(2012, 12, 31, tzinfo=UTC)
    assert Partition.at(datetime(2021, 1, 3, 23, 59, tzinfo=UTC), WEEKLY) == "2020-W53"


@given(st.sampled_from(["features", "predict", "train", "load"]), MODELS, MOMENTS, st.integers(1, 9999))
def test_job_names_satisfy_sagemaker(step: str, model: str, now: datetime, attempt: int) -> None:
    """Every job name matches SageMaker's pattern within 63 characters and ends with batch and attempt."""
    batch_id = mint_batch_id(model, "2013-02-01", "run", now)
    name = job_name(step, model, batch_id, attempt)
    assert len(name) <= 63
    assert SAGEMAKER_NAME.fullmatch(name)
    assert name.endswith(f"{batch_id}-{attempt}")


def test_invalid_job_name_is_refused() -> None:
    """A step that is too long or malformed and an invalid attempt number are refused."""
    batch_id = "20130201T060000Z-0123abcd"
    assert job_name("predict", "flight_delay", batch_id, 2) == f"predict-flight-delay-{batch_id}-2"
    for step, attempt in (("x" * 20, 1), ("predict", 0), ("../x", 1), ("predict", True)):
        with pytest.raises(InvalidNameError):
            job_name(step, "m" * 30, batch_id, attempt)


@pytest.mark.parametrize("text", ["", "A", "1a", "a-b", "../a", "a" * 42, "a\n", "a b"])
def test_malformed_model_name_is_refused(text: str) -> None:
    """Only lower-case names of at most 41 characters are accepted as model names."""
    with pytest.raises(InvalidNameError):
        ModelName(text)


@pytest.mark.parametrize("path", ["", "2013-02-01", "dt=2013-02", "month=2013-02-01", "dt=2013-02-01/hour=5"])
def test_malformed_partition_path_is_refused(path: str) -> None:
    """A folder whose path is not that of a partition is refused."""
    with pytest.raises(InvalidNameError):
        Partition.from_path(path)
