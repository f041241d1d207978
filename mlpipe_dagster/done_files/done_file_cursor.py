"""The done-file sensor's state between ticks: fingerprints, requested runs, and the sweep's progress."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from mlpipe_dagster.done_files.done_file_fingerprints import WINDOW_DAYS, Fingerprint, Fingerprints
from mlpipe_dagster.resources.data_bucket import DataBucket, ListedObject

SWEEP_EVERY = timedelta(minutes=3)
MAX_LIST_CALLS = 5
_OLDER_DAYS = WINDOW_DAYS - 1
# Changes with the content of a fingerprint. A cursor in another form is dropped: each file of the window is
# read once more, and run keys prevent second runs.
_FORM = 2


@dataclass(frozen=True, slots=True)
class Sweep:
    """The progress of a sweep, which lists `done/` by date to find files whose event was lost.

    Attributes:
        began_at: When the sweep began, in seconds since 1970.
        turn: The number of sweeps so far; selects the older day to list.
        days: The UTC dates that are still to be listed; empty once the sweep is complete.
        after: The last listed key of the first of these days; empty if none is listed yet.
    """

    began_at: int = 0
    turn: int = 0
    days: tuple[str, ...] = ()
    after: str = ""

    def next_if_due(self, now: datetime) -> Sweep:
        """Return the next sweep if it is due, else this one.

        Each sweep lists today, yesterday, and one of the window's older days.
        """
        now_seconds = int(now.timestamp())
        if self.days or now_seconds - self.began_at < SWEEP_EVERY.total_seconds():
            return self
        older = 2 + self.turn % _OLDER_DAYS
        days = tuple((now.date() - timedelta(days=back)).isoformat() for back in (0, 1, older))
        return Sweep(began_at=now_seconds, turn=self.turn + 1, days=days)

    def page(self, bucket: DataBucket) -> tuple[list[ListedObject], Sweep]:
        """Return the files of the next page, and the sweep to continue with once they are processed."""
        page, more = bucket.done_page(self.days[0], after=self.after)
        return page, replace(self, after=page[-1].key) if more and page else self.skip_day()

    def skip_day(self) -> Sweep:
        """Return the sweep without the rest of the current day."""
        return replace(self, days=self.days[1:], after="")

    @classmethod
    def parse(cls, document: object) -> Sweep:
        """Parse a cursor's sweep; an invalid one begins again."""
        try:
            began_at, turn, days, after = document  # type: ignore[misc]  # whatever it is, it is judged here
            return cls(int(began_at), int(turn), tuple(map(str, days)), str(after))
        except (TypeError, ValueError):
            return cls()

    def to_document(self) -> list[object]:
        """Return the sweep in the cursor's form."""
        return [self.began_at, self.turn, list(self.days), self.after]


@dataclass(frozen=True, slots=True)
class RequestedRun:
    """A requested run that Dagster has not confirmed yet.

    Attributes:
        run_key: The run's key.
        fingerprint: The fingerprint of its done file.
    """

    run_key: str
    fingerprint: Fingerprint


@dataclass(slots=True)
class Cursor:
    """The sensor's cursor. Its size depends on the files of the window, not on history.

    Attributes:
        fingerprints: The fingerprints of files whose run or refusal is recorded.
        requested: The runs that the last tick requested, by the keys of their done files.
        waiting: The keys of files whose model the code location does not know, with the UTC date when each
            was first seen.
        last_error: The first error of the last tick that had one since the sweep began; empty if none.
        sweep: The progress of the listing.
    """

    fingerprints: Fingerprints = field(default_factory=Fingerprints)
    requested: dict[str, RequestedRun] = field(default_factory=dict)
    waiting: dict[str, str] = field(default_factory=dict)
    last_error: str = ""
    sweep: Sweep = field(default_factory=Sweep)

    @classmethod
    def parse(cls, text: str | None) -> Cursor:
        """Parse a cursor's text; missing, unreadable or outdated parts become empty."""
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
