"""Times as text: UTC, whole seconds, in an order that sorts by time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

# How far the clocks of two machines may differ.
CLOCK_SKEW = timedelta(minutes=5)
_FORM = "%Y-%m-%dT%H:%M:%SZ"


def format_utc(moment: datetime) -> str:
    """Return an aware time as `2013-02-01T06:00:00Z`, its fraction of a second cut off.

    Raises:
        ValueError: It has no time zone.
    """
    if moment.tzinfo is None:
        raise ValueError(f"{moment!r} has no time zone. Pass an aware datetime.")
    # Not by strftime, which pads the year on some systems only.
    return f"{moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='seconds')}Z"


def parse_utc(text: str) -> datetime:
    """Return the aware UTC time that `format_utc` wrote.

    Raises:
        ValueError: The text has another form.
    """
    moment = datetime.strptime(text, _FORM).replace(tzinfo=UTC)
    # One time has one text: strptime alone would also take 2013-2-1.
    if format_utc(moment) != text:
        raise ValueError(f"{text[:40]!r} has not the form 2013-02-01T06:00:00Z")
    return moment
