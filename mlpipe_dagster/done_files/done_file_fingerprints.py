"""Fingerprints of processed done files: which file, which content, which delivery."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, timedelta
from enum import Enum

from mlpipe_dagster.resources.data_bucket import ListedObject
from prediction_contract.errors import InvalidNameError
from prediction_contract.naming.s3_layout import parse_done_key

# Files of batches that were minted longer ago come by their event, or by `mlpipe load`.
WINDOW_DAYS = 3

_FILE, _CONTENT, _DELIVERY = 8, 6, 6
# Of one file; whoever replaces it more often has the oldest forgotten.
_MAX_CONTENTS = 8
FINGERPRINT_LENGTH = _FILE + _CONTENT + _DELIVERY


def model_of(key: str) -> str | None:
    """Return the model that a done file's key names, or None if it is no such key."""
    try:
        return parse_done_key(key).model
    except InvalidNameError:
        return None


class DeliveryStatus(Enum):
    """How a done file that was put since the last look stands to those that were dealt with."""

    NEW = "new"
    """Its content was not dealt with."""
    REDELIVERED = "redelivered"
    """The same content was put once more."""
    RETURNED = "returned"
    """Other content stood in its place meanwhile."""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """A done file as it was found, in 20 characters.

    Attributes:
        file: A fingerprint of its key.
        content: A fingerprint of its bytes.
        delivery: A fingerprint of what a listing shows, by which an unchanged file need not be read again.
    """

    file: str
    content: str
    delivery: str

    @classmethod
    def of(cls, found: ListedObject, models: Collection[str], digest: str = "") -> Fingerprint:
        """Return the fingerprint of a file.

        Args:
            found: The file as listed.
            models: The declared models; a file of an unknown one is new again once its model is declared.
            digest: SHA-256 of its bytes; empty if they were not read.
        """
        is_declared = model_of(found.key) in models
        return cls(
            _short(found.key, _FILE),
            _short(f"{digest}\n{is_declared}", _CONTENT),
            _short(f"{found.etag}\n{found.modified_at}\n{is_declared}", _DELIVERY),
        )

    @classmethod
    def parse(cls, text: str) -> Fingerprint:
        """Return the fingerprint of its text."""
        return cls(text[:_FILE], text[_FILE:-_DELIVERY], text[-_DELIVERY:])

    @property
    def text(self) -> str:
        """The fingerprint as the cursor holds it."""
        return f"{self.file}{self.content}{self.delivery}"


class Fingerprints:
    """The fingerprints of the files that were dealt with; those of one file in their order."""

    def __init__(self) -> None:
        self._files: dict[str, list[Fingerprint]] = {}
        self._days: dict[str, str] = {}

    def __len__(self) -> int:
        """Return how many fingerprints there are."""
        return sum(map(len, self._files.values()))

    def is_processed(self, fingerprint: Fingerprint) -> bool:
        """Return whether a file is the last delivery that was dealt with; this needs no content."""
        known = self._files.get(fingerprint.file, [])
        return bool(known) and known[-1].delivery == fingerprint.delivery

    def status_of(self, fingerprint: Fingerprint) -> DeliveryStatus:
        """Return how a file that was read stands to what was dealt with."""
        known = self._files.get(fingerprint.file, [])
        if all(earlier.content != fingerprint.content for earlier in known):
            return DeliveryStatus.NEW
        return (
            DeliveryStatus.REDELIVERED
            if known[-1].content == fingerprint.content
            else DeliveryStatus.RETURNED
        )

    def add(self, key: str, fingerprint: Fingerprint, today: date) -> None:
        """Keep a fingerprint, in place of that of an earlier delivery, as long as its day is in the window.

        Args:
            key: The file's key, which says its day.
            fingerprint: The file's fingerprint.
            today: The day of files whose own is far away.
        """
        others = [
            known for known in self._files.get(fingerprint.file, []) if known.content != fingerprint.content
        ]
        self._files[fingerprint.file] = [*others, fingerprint][-_MAX_CONTENTS:]
        self._days[fingerprint.file] = _day_of(key, today)

    def forget_before(self, day: date) -> None:
        """Forget the files of earlier days."""
        for file in [file for file, known in self._days.items() if known < day.isoformat()]:
            del self._files[file], self._days[file]

    @classmethod
    def parse(cls, document: object) -> Fingerprints:
        """Return the fingerprints of a cursor's document; what is none of ours is left out."""
        made = cls()
        for day, text in document.items() if isinstance(document, dict) else ():
            for start in range(0, len(text), FINGERPRINT_LENGTH) if isinstance(text, str) else ():
                fingerprint = Fingerprint.parse(text[start : start + FINGERPRINT_LENGTH])
                made._files.setdefault(fingerprint.file, []).append(fingerprint)
                made._days[fingerprint.file] = str(day)
        return made

    def to_document(self) -> dict[str, str]:
        """Return the fingerprints for a cursor, by day, without a character more than they need."""
        days: dict[str, list[str]] = {}
        for file, fingerprints in self._files.items():
            days.setdefault(self._days[file], []).extend(fingerprint.text for fingerprint in fingerprints)
        return {day: "".join(fingerprints) for day, fingerprints in sorted(days.items())}


def _day_of(key: str, today: date) -> str:
    """Return the day under which a file is kept; one that is no day of the window is kept under today's."""
    named = key.split("/")[1] if key.count("/") else ""
    try:
        distance = today - date.fromisoformat(named)
    except ValueError:
        return today.isoformat()
    return named if timedelta(days=-1) <= distance <= timedelta(days=WINDOW_DAYS) else today.isoformat()


def _short(text: str, length: int) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest())[:length].decode()
