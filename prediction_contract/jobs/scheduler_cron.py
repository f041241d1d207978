"""Cron schedules of five fields, as Dagster takes them, as EventBridge Scheduler takes them.

EventBridge numbers weekdays from 1 for Sunday, knows `?`, and wants a year:
https://docs.aws.amazon.com/scheduler/latest/UserGuide/schedule-types.html
"""

from __future__ import annotations

import re
from typing import NamedTuple, Never

from prediction_contract.errors import InvalidNameError

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_PART = re.compile(r"(?:\*|([0-9a-z]{1,3})(?:-([0-9a-z]{1,3}))?)(?:/([0-9]{1,2}))?")


class _Field(NamedTuple):
    """One of the five fields.

    Attributes:
        name: For people.
        least: Its smallest value.
        most: Its largest.
        words: What stands for values, from the smallest on.
    """

    name: str
    least: int
    most: int
    words: tuple[str, ...] = ()


_MINUTE = _Field("minute", 0, 59)
_HOUR = _Field("hour", 0, 23)
_DAY_OF_MONTH = _Field("day of the month", 1, 31)
_MONTH = _Field("month", 1, 12, _MONTHS)
# Sunday is 0 and 7.
_DAY_OF_WEEK = _Field("day of the week", 0, 7, _DAYS)
_FIELDS = (_MINUTE, _HOUR, _DAY_OF_MONTH, _MONTH, _DAY_OF_WEEK)


def scheduler_cron(cron: str) -> str:
    """Return the expression of a cron schedule: `cron(30 5 * * ? *)` for `30 5 * * *`.

    Raises:
        InvalidNameError: It is none of five fields, or names days of the month and of the week, either of
            which would do for cron, and which EventBridge does not take together.
    """
    texts = cron.lower().split()
    if len(texts) != len(_FIELDS):
        _refuse(cron, f"it has {len(texts)} fields of {len(_FIELDS)}")
    minute, hour, day, month, weekday = (
        _values(cron, field, text) for field, text in zip(_FIELDS, texts, strict=True)
    )
    if day is not None and weekday is not None:
        _refuse(cron, "it names days of the month and of the week")
    numbered = None if weekday is None else sorted({each % 7 + 1 for each in weekday})
    days = ("?", _listed(numbered)) if numbered is not None else (_listed(day), "?")
    return f"cron({_listed(minute)} {_listed(hour)} {days[0]} {_listed(month)} {days[1]} *)"


def _values(cron: str, field: _Field, text: str) -> list[int] | None:
    """Return the values that a field names, in order, or None for all of them."""
    if text == "*":
        return None
    found: set[int] = set()
    for part in text.split(","):
        match = _PART.fullmatch(part)
        if match is None:
            _refuse(cron, f"{part[:20]!r} is no {field.name}")
        first, last, step = match.groups()
        if first is None:
            # Of the week, 7 is 0 again.
            low, high = field.least, 6 if field is _DAY_OF_WEEK else field.most
        else:
            low = _number(cron, field, first)
            # A step without an end goes on to the last.
            high = _number(cron, field, last) if last else (field.most if step else low)
        if high < low or step == "0":
            _refuse(cron, f"{part!r} names no {field.name}")
        found |= set(range(low, high + 1, int(step or 1)))
    return sorted(found)


def _number(cron: str, field: _Field, text: str) -> int:
    if text in field.words:
        return field.words.index(text) + field.least
    if not text.isdigit() or not field.least <= int(text) <= field.most:
        _refuse(cron, f"{text!r} is no {field.name}")
    return int(text)


def _listed(values: list[int] | None) -> str:
    return "*" if values is None else ",".join(map(str, values))


def _refuse(cron: str, what: str) -> Never:
    raise InvalidNameError(
        f"EventBridge Scheduler cannot keep the cron schedule {cron[:80]!r}: {what}",
        remedy="Give five fields of numbers, lists, ranges and steps, say 30 5 * * 1-5",
    )
