"""Tests of UTC times as text."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prediction_contract.text.utc_time import format_utc, parse_utc

MOMENTS = st.datetimes(timezones=st.just(UTC))


@given(MOMENTS, MOMENTS)
def test_times_round_trip_and_sort_as_text(one: datetime, other: datetime) -> None:
    """Whole seconds survive their text in all years, and texts sort by time."""
    seconds = [moment.replace(microsecond=0) for moment in (one, other)]
    texts = [format_utc(moment) for moment in (one, other)]
    assert [parse_utc(text) for text in texts] == seconds
    assert (texts[0] < texts[1]) == (seconds[0] < seconds[1])


def test_offset_is_converted_and_naive_time_is_refused() -> None:
    """A time with an offset is converted to UTC, and a time without a zone is refused."""
    eastern = timezone(timedelta(hours=-5))
    assert format_utc(datetime(2013, 2, 1, 1, 30, 0, 999_999, tzinfo=eastern)) == "2013-02-01T06:30:00Z"
    with pytest.raises(ValueError, match="no time zone"):
        format_utc(datetime(2013, 2, 1))  # noqa: DTZ001  # the test needs a naive time


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2013-02-01",
        "2013-2-1T6:0:0Z",
        "2013-02-01T06:00:60Z",
        "2013-02-01T06:00:00Z\n",
        "13-02-01T06:00:00Z",
    ],
)
def test_other_spelling_of_time_is_refused(text: str) -> None:
    """Only one spelling of a time is accepted, so that texts can be compared."""
    with pytest.raises(ValueError, match=r"time data|does not have the form|must be in|unconverted"):
        parse_utc(text)
