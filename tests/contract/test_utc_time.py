"""Tests of moments as text."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prediction_contract.text.utc_time import format_utc, parse_utc

MOMENTS = st.datetimes(timezones=st.just(UTC))


@given(MOMENTS, MOMENTS)
def test_times_survive_their_text_and_sort_as_it(one: datetime, other: datetime) -> None:
    """Whole seconds come back, of the year 1 as of 9999, and texts sort as the moments do."""
    seconds = [moment.replace(microsecond=0) for moment in (one, other)]
    texts = [format_utc(moment) for moment in (one, other)]
    assert [parse_utc(text) for text in texts] == seconds
    assert (texts[0] < texts[1]) == (seconds[0] < seconds[1])


def test_offsets_are_resolved_and_naive_times_refused() -> None:
    """A moment is one in UTC, wherever it was taken."""
    eastern = timezone(timedelta(hours=-5))
    assert format_utc(datetime(2013, 2, 1, 1, 30, 0, 999_999, tzinfo=eastern)) == "2013-02-01T06:30:00Z"
    with pytest.raises(ValueError, match="no time zone"):
        format_utc(datetime(2013, 2, 1))  # noqa: DTZ001  # that it has no zone is what is tested


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
def test_a_time_has_one_text(text: str) -> None:
    """Another spelling is refused, so that texts can be compared."""
    with pytest.raises(ValueError, match=r"time data|does not have the form|must be in|unconverted"):
        parse_utc(text)
