"""Moments as text: UTC, whole seconds, sorting as they happened."""

from __future__ import annotations

from datetime import UTC, datetime

_FORM = "%Y-%m-%dT%H:%M:%SZ"


def moment_text(moment: datetime) -> str:
    """Return an aware moment as `2013-02-01T06:00:00Z`, its fraction of a second cut off.

    Raises:
        ValueError: The moment has no time zone, so nobody can know when it was.
    """
    if moment.tzinfo is None:
        raise ValueError(f"{moment!r} has no time zone. Pass an aware datetime.")
    return moment.astimezone(UTC).strftime(_FORM)


def parse_moment(text: str) -> datetime:
    """Return the aware UTC moment that `moment_text` wrote.

    Raises:
        ValueError: The text has another form.
    """
    return datetime.strptime(text, _FORM).replace(tzinfo=UTC)
