"""What the sensor of done files keeps from one tick to the next: fingerprints, requested runs, the sweep."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from mlpipe_dagster.done_files.done_file_fingerprints import WINDOW_DAYS, Fingerprint, Fingerprints
from mlpipe_dagster.resources.data_bucket import DataBucket, ListedObject

SWEEP_EVERY = timedelta(minutes=3)
MAX_LIST_CALLS = 5
_OLDER_DAYS = WINDOW_DAYS - 1
# Changes with what a fingerprint is made of. A cursor in another form begins again: each file of the window
# is read once more, and run keys prevent second runs.
_FORM = 2


@dataclass(frozen=True, slots=True)
class Sweep:
    """How far the listing of `done/` by the dates of batches has come: no lost event matters.

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


@dataclass(frozen=True, slots=True)
class RequestedRun:
    """A requested run that Dagster has not confirmed yet.

    Attributes:
        run_key: Its run key.
        fingerprint: That of its done file.
    """

    run_key: str
    fingerprint: Fingerprint


@dataclass(slots=True)
class Cursor:
    """Grows with the files of the window, and not with history.

    Attributes:
        fingerprints: Of the files whose run or refusal is recorded.
        requested: The runs of the last tick, by the keys of their done files.
        waiting: Files whose model the code location does not know: keys, with the UTC date of the first look.
        last_error: What could not be read since the sweep began; the next one tries again.
        sweep: How far the listing has come.
    """

    fingerprints: Fingerprints = field(default_factory=Fingerprints)
    requested: dict[str, RequestedRun] = field(default_factory=dict)
    waiting: dict[str, str] = field(default_factory=dict)
    last_error: str = ""
    sweep: Sweep = field(default_factory=Sweep)

    @classmethod
    def parse(cls, text: str | None) -> Cursor:
        """Return the cursor of its text; what is lost, unreadable or in an old form was not seen."""
        try:
            document = json.loads(text or "{}")
        except ValueError:
            return cls()
        if not isinstance(document, dict) or document.get("form") != _FORM:
            return cls()
        try:
            asked = {
                key: RequestedRun(run_key, Fingerprint.parse(fingerprint))
                for key, (run_key, fingerprint) in document.get("asked", {}).items()
            }
        except (AttributeError, TypeError, ValueError):
            asked = {}
        waiting = document.get("waiting")
        return cls(
            fingerprints=Fingerprints.parse(document.get("marks")),
            requested=asked,
            waiting=(
                {str(key): str(since) for key, since in waiting.items()} if isinstance(waiting, dict) else {}
            ),
            last_error=str(document.get("trouble", "")),
            sweep=Sweep.parse(document.get("sweep")),
        )

    def text(self) -> str:
        """Return the cursor as text."""
        asked = {key: [run.run_key, run.fingerprint.text] for key, run in self.requested.items()}
        document = {
            "form": _FORM,
            "marks": self.fingerprints.to_document(),
            "asked": asked,
            "waiting": self.waiting,
            "trouble": self.last_error,
            "sweep": self.sweep.to_document(),
        }
        return json.dumps(document, separators=(",", ":"))
