"""What the sensor of done files keeps from one tick to the next."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from mlpipe_dagster.done_files.done_file_fingerprints import Fingerprint, Fingerprints
from mlpipe_dagster.done_files.done_file_sweep import Sweep

# Changes with what a fingerprint is made of. A cursor in another form begins again: each file of the window
# is read once more, and run keys prevent second runs.
_FORM = 2


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
