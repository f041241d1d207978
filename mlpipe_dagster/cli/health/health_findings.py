"""What `mlpipe doctor` finds: what is wrong, how bad it is, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How bad a finding is: a note alone leaves the deployment healthy."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthFinding:
    """One thing that is not as it should be.

    Attributes:
        severity: `error` if readers or loads are or will soon be affected, `warning` if somebody must look.
        topic: What was looked at, a stable word.
        what: What is wrong, one sentence; the full stop of a text that it quotes is left out.
        remedy: What to do about it, one sentence without a full stop.
        model: The model concerned, if it is one.
        batch_id: The batch concerned, if it is one.
    """

    severity: Severity
    topic: str
    what: str
    remedy: str
    model: str | None = None
    batch_id: str | None = None

    def document(self) -> dict[str, str | None]:
        """Return the finding as JSON members."""
        return {
            "severity": str(self.severity),
            "topic": self.topic,
            "model": self.model,
            "batch_id": self.batch_id,
            "what": self.what.rstrip("."),
            "remedy": self.remedy,
        }
