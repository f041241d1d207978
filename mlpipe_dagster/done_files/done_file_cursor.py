"""What the sensor of done files keeps from one tick to the next."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from mlpipe_dagster.done_files.done_file_fingerprints import Mark, Marks
from mlpipe_dagster.done_files.done_file_sweep import Sweep

# Changes with what a mark is made of. A cursor in another form begins again: each file of the window is read
# once more, and the run keys keep its run from being made twice.
_FORM = 2


@dataclass(frozen=True, slots=True)
class AskedRun:
    """A run that was asked for, and of which nobody has seen yet that Dagster made it.

    Attributes:
        run_key: Its run key.
        mark: That of its file.
    """

    run_key: str
    mark: Mark


@dataclass(slots=True)
class Cursor:
    """Grows with the files of the window, and not with history.

    Attributes:
        marks: Of the files whose run or refusal is recorded.
        asked: By key of their files the runs of the last tick.
        waiting: Files whose model the code location does not know: keys, with the UTC date of the first look.
        trouble: What could not be read since the sweep began; the next one tries again.
        sweep: How far the listing has come.
    """

    marks: Marks = field(default_factory=Marks)
    asked: dict[str, AskedRun] = field(default_factory=dict)
    waiting: dict[str, str] = field(default_factory=dict)
    trouble: str = ""
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
                key: AskedRun(run_key, Mark.parse(mark))
                for key, (run_key, mark) in document.get("asked", {}).items()
            }
        except (AttributeError, TypeError, ValueError):
            asked = {}
        waiting = document.get("waiting")
        return cls(
            marks=Marks.parse(document.get("marks")),
            asked=asked,
            waiting=(
                {str(key): str(since) for key, since in waiting.items()} if isinstance(waiting, dict) else {}
            ),
            trouble=str(document.get("trouble", "")),
            sweep=Sweep.parse(document.get("sweep")),
        )

    def text(self) -> str:
        """Return the cursor as text."""
        asked = {key: [run.run_key, run.mark.text] for key, run in self.asked.items()}
        document = {
            "form": _FORM,
            "marks": self.marks.to_document(),
            "asked": asked,
            "waiting": self.waiting,
            "trouble": self.trouble,
            "sweep": self.sweep.to_document(),
        }
        return json.dumps(document, separators=(",", ":"))
