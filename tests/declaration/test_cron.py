"""Five-field cron schedules, as Dagster and EventBridge Scheduler accept them."""

from __future__ import annotations

import pytest
from dagster._utils.schedules import is_valid_cron_string
from hypothesis import given
from hypothesis import strategies as st

from model_declaration.cron import require_cron, scheduler_cron
from model_declaration.partitions import DEFAULT_CRONS
from prediction_contract.errors import InvalidNameError

VALUES = st.integers(0, 62).map(str) | st.sampled_from(
    ["*", "?", "l", "L", "sun", "MON", "jan", "Dec", "h", ""]
)
PARTS = (
    VALUES
    | st.tuples(VALUES, VALUES).map("-".join)
    | st.tuples(VALUES, VALUES).map("/".join)
    | st.tuples(VALUES, VALUES, VALUES).map(lambda three: f"{three[0]}-{three[1]}/{three[2]}")
    | st.tuples(VALUES, VALUES).map("#".join)
)
FIELDS = st.lists(PARTS, min_size=1, max_size=2).map(",".join) | st.just("*")


@given(st.lists(FIELDS, min_size=4, max_size=6).map(" ".join))
def test_accepted_schedules_are_valid_in_dagster(cron: str) -> None:
    """Every cron schedule that a declaration accepts is valid in Dagster."""
    try:
        require_cron(cron)
    except ValueError:
        return
    assert is_valid_cron_string(cron)


@pytest.mark.parametrize(
    "cron",
    [
        *DEFAULT_CRONS.values(),
        "@daily",
        "*/20 6-8 1,15 */6 *",
        "30 5 * * 1-5",
        "30 5 * * sun,SAT",
        "30 22-2 * * ?",
        "0 0 L * *",
        "0 6 * * mon#1",
        "0 6 * * 5#1,L2",
        "0 0 1 jan-mar *",
        "0 0 29 2 *",
    ],
)
def test_common_schedules_are_accepted(cron: str) -> None:
    """Lists, ranges, steps, names and days such as the last of the month are accepted."""
    assert require_cron(cron) == cron
    assert is_valid_cron_string(cron)


@pytest.mark.parametrize(
    "cron", ["", "often", "0 1 * *", "0 1 * * * *", "60 1 * * *", "0 1 * * 8", "*/0 1 * * *", "0 0 30 2 *"]
)
def test_invalid_schedule_is_refused(cron: str) -> None:
    """A schedule that Dagster would refuse is refused by the declaration."""
    with pytest.raises(ValueError, match="not a cron schedule of five fields"):
        require_cron(cron)
    assert not is_valid_cron_string(cron)


@pytest.mark.parametrize(
    ("cron", "expression"),
    [
        (DEFAULT_CRONS["daily"], "cron(0 1 * * ? *)"),
        (DEFAULT_CRONS["hourly"], "cron(10 * * * ? *)"),
        (DEFAULT_CRONS["weekly"], "cron(0 1 ? * 2 *)"),
        (DEFAULT_CRONS["monthly"], "cron(0 1 1 * ? *)"),
        ("*/20 6-8 1,15 */6 *", "cron(0,20,40 6,7,8 1,15 1,7 ? *)"),
        # Cron counts from Sunday as 0 or 7, EventBridge from Sunday as 1.
        ("30 5 * * 1-5", "cron(30 5 ? * 2,3,4,5,6 *)"),
        ("30 5 * * sun,SAT", "cron(30 5 ? * 1,7 *)"),
        ("30 5 * * 0,7", "cron(30 5 ? * 1 *)"),
        ("30 5 * * 5-7", "cron(30 5 ? * 1,6,7 *)"),
        ("0 0 1 jan-mar *", "cron(0 0 1 1,2,3 ? *)"),
        ("5/30 0 1 1 *", "cron(5,35 0 1 1 ? *)"),
        ("0 0 * * */2", "cron(0 0 ? * 1,3,5,7 *)"),
    ],
)
def test_cron_is_translated_for_eventbridge(cron: str, expression: str) -> None:
    """The EventBridge expression has the same ticks: weekdays are renumbered and steps written out."""
    assert scheduler_cron(cron) == expression


@pytest.mark.parametrize(
    "cron",
    [
        "",
        "@daily",
        "0 1 * *",
        "0 1 * * * *",
        "60 1 * * *",
        "0 24 * * *",
        "0 1 0 * *",
        "0 1 * 13 *",
        "0 1 * * 8",
        "0 1 L * *",
        "0 1 * * 1#2",
        "*/0 1 * * *",
        "8-6 1 * * *",
        "0 1 13 * 5",
        "0 1 * * frid",
    ],
)
def test_cron_without_eventbridge_equivalent_is_refused(cron: str) -> None:
    """A schedule that EventBridge Scheduler cannot run is refused, such as one by month day and weekday."""
    with pytest.raises(InvalidNameError, match="cannot run the cron schedule"):
        scheduler_cron(cron)
