"""Validates five-field cron schedules as Dagster does, and converts them for EventBridge Scheduler.

EventBridge numbers weekdays from 1 for Sunday, knows `?`, and requires a year:
https://docs.aws.amazon.com/scheduler/latest/UserGuide/schedule-types.html
"""

from __future__ import annotations

import re
from typing import NamedTuple, Never

from prediction_contract.errors import InvalidNameError

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_PART = re.compile(r"(?:\*|([0-9a-z]{1,3})(?:-([0-9a-z]{1,3}))?)(?:/([0-9]{1,2}))?")
# In Dagster, `5#3` is the third Friday and `l5` the last one.
_WEEKDAY_OF_MONTH = re.compile(f"(?:(?:[0-7]|{'|'.join(_DAYS)})#[1-5]|l[0-7])")
_LONGEST_FEBRUARY = 29
_NAMED = {"@hourly", "@midnight", "@daily", "@weekly", "@monthly", "@yearly", "@annually"}


class _Field(NamedTuple):
    """One of the five fields.

    Attributes:
        name: The field's name in messages.
        least: The smallest value.
        most: The largest value.
        words: Names for the values, from the smallest on.
    """

    name: str
    least: int
    most: int
    words: tuple[str, ...] = ()


_MINUTE = _Field("minute", 0, 59)
_HOUR = _Field("hour", 0, 23)
_DAY_OF_MONTH = _Field("day of the month", 1, 31)
_MONTH = _Field("month", 1, 12, _MONTHS)
# Sunday is both 0 and 7.
_DAY_OF_WEEK = _Field("day of the week", 0, 7, _DAYS)
_FIELDS = (_MINUTE, _HOUR, _DAY_OF_MONTH, _MONTH, _DAY_OF_WEEK)


class _Range(NamedTuple):
    """The values that one part of a field names; a range may wrap around the field's end."""

    first: int
    last: int
    step: int


def require_cron(cron: str) -> str:
    """Return the schedule unchanged if Dagster's scheduler accepts it.

    Raises:
        ValueError: Dagster does not accept it.
    """
    texts = cron.lower().split()
    if len(texts) == 1 and texts[0] in _NAMED:
        return cron
    if (
        len(texts) != len(_FIELDS)
        or not all(map(_is_field, _FIELDS, texts))
        or _has_no_date(texts[2], texts[3])
    ):
        raise ValueError("it is not a cron schedule of five fields such as 0 6 * * *")
    return cron


def _is_field(field: _Field, text: str) -> bool:
    """Return whether Dagster accepts the text of a field."""
    if text == "?":
        return field in (_DAY_OF_MONTH, _DAY_OF_WEEK)
    parts = text.split(",")
    if field is _DAY_OF_WEEK and all(map(_WEEKDAY_OF_MONTH.fullmatch, parts)):
        return True
    try:
        for part in parts:
            # The last day of the month.
            if (field, part) != (_DAY_OF_MONTH, "l"):
                _range(field, part)
    except ValueError:
        return False
    return True


def _has_no_date(day: str, month: str) -> bool:
    """Return whether a schedule names only 30 or 31 February."""
    try:
        days, months = _values(_DAY_OF_MONTH, day), _values(_MONTH, month)
    except ValueError:
        return False
    return months == [2] and days is not None and min(days) > _LONGEST_FEBRUARY


def scheduler_cron(cron: str) -> str:
    """Return EventBridge's expression of a cron schedule: `cron(30 5 * * ? *)` for `30 5 * * *`.

    Raises:
        InvalidNameError: It does not have five valid fields, or names both days of the month and of the week,
            which EventBridge does not allow together.
    """
    texts = cron.lower().split()
    if len(texts) != len(_FIELDS):
        _refuse(cron, f"it has {len(texts)} fields instead of {len(_FIELDS)}")
    try:
        minute, hour, day, month, weekday = map(_values, _FIELDS, texts)
    except ValueError as error:
        _refuse(cron, str(error))
    if day is not None and weekday is not None:
        _refuse(cron, "it names both days of the month and days of the week")
    numbered = None if weekday is None else sorted({each % 7 + 1 for each in weekday})
    days = ("?", _listed(numbered)) if numbered is not None else (_listed(day), "?")
    return f"cron({_listed(minute)} {_listed(hour)} {days[0]} {_listed(month)} {days[1]} *)"


def _values(field: _Field, text: str) -> list[int] | None:
    """Return the values that a field names, in order; None means all."""
    if text == "*":
        return None
    found: set[int] = set()
    for part in text.split(","):
        first, last, step = _range(field, part)
        if last < first:
            raise ValueError(f"{part!r} names no {field.name}")
        found |= set(range(first, last + 1, step))
    return sorted(found)


def _range(field: _Field, part: str) -> _Range:
    match = _PART.fullmatch(part)
    if match is None:
        raise ValueError(f"{part[:20]!r} is not a {field.name}")
    first, last, step = match.groups()
    if step is not None and int(step) == 0:
        raise ValueError(f"{part!r} names no {field.name}")
    if first is None:
        # As a day of the week, 7 is 0 again.
        low, high = field.least, 6 if field is _DAY_OF_WEEK else field.most
    else:
        low = _number(field, first)
        # A step without an end runs to the last value.
        high = _number(field, last) if last else (field.most if step else low)
    return _Range(low, high, int(step or 1))


def _number(field: _Field, text: str) -> int:
    if text in field.words:
        return field.words.index(text) + field.least
    if not text.isdigit() or not field.least <= int(text) <= field.most:
        raise ValueError(f"{text!r} is not a {field.name}")
    return int(text)


def _listed(values: list[int] | None) -> str:
    return "*" if values is None else ",".join(map(str, values))


def _refuse(cron: str, what: str) -> Never:
    raise InvalidNameError(
        f"EventBridge Scheduler cannot run the cron schedule {cron[:80]!r}: {what}",
        remedy="Write five fields of numbers, lists, ranges and steps, for example 30 5 * * 1-5",
    )
