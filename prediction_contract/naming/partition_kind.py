"""The kinds of partitions: hours, days, ISO weeks, which begin on Mondays, and months, all in UTC."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

_MONTHS_OF_A_YEAR = 12


@dataclass(frozen=True, slots=True)
class PartitionKind:
    """A kind of partition: its text form, and the order of its partitions.

    Attributes:
        name: The name in declarations.
        unit: The word for one partition, for people.
        example: An example of a partition's text.
        pattern: The pattern of a partition's text.
        dagster_format: The format of Dagster's keys, for `strftime`. Dagster parses keys with it, so the key
            of a week includes its Monday: `2013-W06-1`.
        width: The duration; None for a month.
    """

    name: str
    unit: str
    example: str
    pattern: str
    dagster_format: str
    width: timedelta | None

    def start_of(self, text: str) -> datetime:
        """Return the start of a partition whose text matches the kind's pattern.

        Raises:
            ValueError: There is no such hour, day, week or month.
        """
        whole = text + {"weekly": "-1", "monthly": "-01"}.get(self.name, "")
        return datetime.fromisoformat(whole).replace(tzinfo=UTC)

    def text_at(self, moment: datetime) -> str:
        """Return the text of the partition that contains a time in UTC."""
        if self.name == "weekly":
            year, week, _ = moment.isocalendar()
            return f"{year:04}-W{week:02}"
        return moment.isoformat()[: len(self.example)]

    def shifted(self, start: datetime, steps: int) -> datetime:
        """Return the start of the partition that is `steps` partitions after the one with this start.

        Raises:
            OverflowError: The result is beyond the calendar.
        """
        if self.width is not None:
            return start + self.width * steps
        year, month = divmod(start.year * _MONTHS_OF_A_YEAR + start.month - 1 + steps, _MONTHS_OF_A_YEAR)
        try:
            return start.replace(year=year, month=month + 1)
        except ValueError as error:
            raise OverflowError(f"there is no year {year}") from error

    def path_of(self, text: str) -> str:
        """Return a partition as part of an S3 key."""
        if self.name == "hourly":
            return f"dt={text[:10]}/hour={text[11:]}"
        return {"daily": "dt", "weekly": "week", "monthly": "month"}[self.name] + f"={text}"


HOURLY = PartitionKind(
    name="hourly",
    unit="hour",
    example="2013-02-01T05",
    pattern="[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}",
    dagster_format="%Y-%m-%d-%H:%M",
    width=timedelta(hours=1),
)
DAILY = PartitionKind(
    name="daily",
    unit="day",
    example="2013-02-01",
    pattern="[0-9]{4}-[0-9]{2}-[0-9]{2}",
    dagster_format="%Y-%m-%d",
    width=timedelta(days=1),
)
WEEKLY = PartitionKind(
    name="weekly",
    unit="week",
    example="2013-W06",
    pattern="[0-9]{4}-W[0-9]{2}",
    dagster_format="%G-W%V-%u",
    width=timedelta(weeks=1),
)
MONTHLY = PartitionKind(
    name="monthly",
    unit="month",
    example="2013-02",
    pattern="[0-9]{4}-[0-9]{2}",
    dagster_format="%Y-%m",
    width=None,
)
PARTITION_KINDS = {kind.name: kind for kind in (HOURLY, DAILY, WEEKLY, MONTHLY)}


def kind_of_text(text: str) -> PartitionKind:
    """Return the kind of a partition, given its valid text."""
    if "T" in text:
        return HOURLY
    if "W" in text:
        return WEEKLY
    return MONTHLY if len(text) == len(MONTHLY.example) else DAILY
