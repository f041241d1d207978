"""The sweep: `done/` listed by the dates of batches, piece by piece, so that no lost event matters."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from mlpipe_dagster.done_files.done_file_fingerprints import WINDOW_DAYS
from mlpipe_dagster.resources.data_bucket import DataBucket, ListedObject

SWEEP_EVERY = timedelta(minutes=3)
MAX_LIST_CALLS = 5
_OLDER_DAYS = WINDOW_DAYS - 1


@dataclass(frozen=True, slots=True)
class Sweep:
    """How far the present sweep has come.

    Attributes:
        began_at: When it began, in seconds since 1970.
        turn: How many sweeps there were, by which the older days take turns.
        days: UTC dates that are still to be listed; none once the sweep is through.
        after: The key up to which the first of them was listed.
    """

    began_at: int = 0
    turn: int = 0
    days: tuple[str, ...] = ()
    after: str = ""

    def begun_if_due(self, now: datetime) -> Sweep:
        """Return the next sweep if it is time for it, and this one otherwise.

        Each sweep goes over today, yesterday, and one of the window's older days.
        """
        moment = int(now.timestamp())
        if self.days or moment - self.began_at < SWEEP_EVERY.total_seconds():
            return self
        older = 2 + self.turn % _OLDER_DAYS
        days = tuple((now.date() - timedelta(days=back)).isoformat() for back in (0, 1, older))
        return Sweep(began_at=moment, turn=self.turn + 1, days=days)

    def page(self, bucket: DataBucket) -> tuple[list[ListedObject], Sweep]:
        """List the next page; return its files, and how far the sweep is once they are dealt with."""
        page, more = bucket.done_page(self.days[0], after=self.after)
        return page, replace(self, after=page[-1].key) if more and page else self.past_day()

    def past_day(self) -> Sweep:
        """Return the sweep without the rest of the day that is being listed."""
        return replace(self, days=self.days[1:], after="")

    @classmethod
    def parse(cls, document: object) -> Sweep:
        """Return the sweep of a cursor's document; one that is none of ours begins again."""
        try:
            began_at, turn, days, after = document  # type: ignore[misc]  # whatever it is, it is judged here
            return cls(int(began_at), int(turn), tuple(map(str, days)), str(after))
        except (TypeError, ValueError):
            return cls()

    def to_document(self) -> list[object]:
        """Return the sweep for a cursor."""
        return [self.began_at, self.turn, list(self.days), self.after]
