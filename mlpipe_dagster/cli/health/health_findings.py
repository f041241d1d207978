"""A finding of `mlpipe doctor`: the fault, its severity and its remedy."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """The severity of a finding; a deployment with only notes counts as healthy."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthFinding:
    """One fault.

    Attributes:
        severity: `error` if readers or loads are or will soon be affected, `warning` if a person must look,
            else `note`.
        topic: The checked area as a fixed word, for example `queues`.
        what: What is wrong, one sentence without a full stop.
        remedy: What to do about it, one sentence without a full stop.
        model: The model concerned, if any.
        batch_id: The batch concerned, if any.
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
