"""Tests of the names of models, partitions, batches and job runs."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prediction_contract.errors import InvalidNameError
from prediction_contract.naming.batch import BatchId, ModelName, Partition, job_name, mint_batch_id

MOMENTS = st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30), timezones=st.just(UTC))  # noqa: DTZ001  # hypothesis takes naive bounds
MODELS = st.from_regex(r"\A[a-z][a-z0-9_]{0,40}\Z")
SAGEMAKER_NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9])*")


@given(MODELS, MOMENTS, MOMENTS)
def test_batch_ids_sort_by_creation(model: str, one: datetime, other: datetime) -> None:
    """Batch ids of different seconds sort as the seconds do."""
    first, second = sorted((one.replace(microsecond=0), other.replace(microsecond=0)))
    ids = [mint_batch_id(model, "2013-02-01", "run", moment) for moment in (first, second)]
    assert [batch_id.minted_at for batch_id in ids] == [first, second]
    if first != second:
        assert ids == sorted(ids)


@given(MODELS, st.text(min_size=1), MOMENTS)
def test_minting_is_deterministic_per_intent(model: str, intent: str, now: datetime) -> None:
    """The same intent gives the same id, another intent, partition or model another."""
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


def test_minting_refuses_what_nobody_could_reproduce() -> None:
    """A naive moment and an empty intent are refused."""
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
def test_other_texts_are_no_batch_ids(text: str) -> None:
    """Seconds that do not exist, other digits and anything beside the form are refused."""
    with pytest.raises(InvalidNameError, match="batch id"):
        BatchId(text)


@pytest.mark.parametrize(
    ("text", "path", "dagster_key"),
    [
        ("2013-02-01", "dt=2013-02-01", "2013-02-01"),
        ("2013-02-01T05", "dt=2013-02-01/hour=05", "2013-02-01-05:00"),
    ],
)
def test_partition_has_three_forms(text: str, path: str, dagster_key: str) -> None:
    """A partition has a text, a path and a Dagster key, which leads back to it."""
    partition = Partition(text)
    assert (partition.path, partition.dagster_key) == (path, dagster_key)
    assert Partition.from_dagster_key(dagster_key) == partition


@pytest.mark.parametrize(
    "text",
    ["2013-02-29", "2013-2-1", "2013-02-01T24", "2013-02-01T5", "2013-02-01T05:00", "../..", "2013-02-01\n"],
)
def test_other_texts_are_no_partitions(text: str) -> None:
    """Days and hours that do not exist and other spellings are refused."""
    with pytest.raises(InvalidNameError, match="partition"):
        Partition(text)


@given(st.lists(MOMENTS, min_size=2, max_size=5), st.booleans())
def test_partitions_sort_as_text(moments: list[datetime], hourly: bool) -> None:
    """Partitions of one kind sort by time when sorted as text."""
    texts = [moment.isoformat()[: 13 if hourly else 10] for moment in sorted(moments)]
    partitions = [Partition(text) for text in texts]
    assert sorted(partitions) == partitions
    assert sorted(partition.start for partition in partitions) == [
        partition.start for partition in partitions
    ]


def test_earlier_partition_crosses_days_and_stops_at_the_calendar() -> None:
    """Looking back steps over midnight and month ends, and not before the first year."""
    assert Partition("2013-03-01").earlier(1) == "2013-02-28"
    assert Partition("2013-03-01T00").earlier(2) == "2013-02-28T22"
    with pytest.raises(InvalidNameError, match="no partition"):
        Partition("0001-01-01").earlier(1)


@given(st.sampled_from(["features", "predict", "train", "load"]), MODELS, MOMENTS, st.integers(1, 9999))
def test_job_names_satisfy_sagemaker(step: str, model: str, now: datetime, attempt: int) -> None:
    """Every job name matches SageMaker's pattern within 63 characters and ends with batch and attempt."""
    batch_id = mint_batch_id(model, "2013-02-01", "run", now)
    name = job_name(step, model, batch_id, attempt)
    assert len(name) <= 63
    assert SAGEMAKER_NAME.fullmatch(name)
    assert name.endswith(f"{batch_id}-{attempt}")


def test_job_name_refuses_what_does_not_fit() -> None:
    """A step too long, an attempt of 0 and a hostile step are refused."""
    batch_id = "20130201T060000Z-0123abcd"
    assert job_name("predict", "flight_delay", batch_id, 2) == f"predict-flight-delay-{batch_id}-2"
    for step, attempt in (("x" * 20, 1), ("predict", 0), ("../x", 1), ("predict", True)):
        with pytest.raises(InvalidNameError):
            job_name(step, "m" * 30, batch_id, attempt)


@pytest.mark.parametrize("text", ["", "A", "1a", "a-b", "../a", "a" * 42, "a\n", "a b"])
def test_other_texts_are_no_model_names(text: str) -> None:
    """Only lower-case names of at most 41 characters are models."""
    with pytest.raises(InvalidNameError):
        ModelName(text)
