"""UTC times as text in whole seconds, which sorts by time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

# The assumed maximum difference between the clocks of two machines.
CLOCK_SKEW = timedelta(minutes=5)
_FORM = "%Y-%m-%dT%H:%M:%SZ"


def format_utc(moment: datetime) -> str:
    """Return an aware time as text, for example `2013-02-01T06:00:00Z`. Fractions of a second are cut off.

    Raises:
        ValueError: The time has no time zone.
    """
    if moment.tzinfo is None:
        raise ValueError(f"{moment!r} has no time zone. Pass an aware datetime.")
    # strftime pads the year only on some systems.
    return f"{moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='seconds')}Z"


def parse_utc(text: str) -> datetime:
    """Return the aware UTC time of a text in the form of `format_utc`.

    Raises:
        ValueError: The text does not have this form.
    """
    moment = datetime.strptime(text, _FORM).replace(tzinfo=UTC)
    # strptime also accepts other forms, for example 2013-2-1, but each time must have one text.
    if format_utc(moment) != text:
        raise ValueError(f"{text[:40]!r} does not have the form 2013-02-01T06:00:00Z")
    return moment
