"""Fingerprints of processed done files: of the key, the content, and the delivery."""

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

# Files of batches that were minted earlier come by their event, or by `mlpipe load`.
WINDOW_DAYS = 3

_FILE_LENGTH, _CONTENT_LENGTH, _DELIVERY_LENGTH = 8, 6, 6
# The most contents remembered per file; a file that is replaced more often loses the oldest.
_MAX_CONTENTS = 8
FINGERPRINT_LENGTH = _FILE_LENGTH + _CONTENT_LENGTH + _DELIVERY_LENGTH


def model_of(key: str) -> str | None:
    """Return the model in a done file's key; None if it is not such a key."""
    try:
        return parse_done_key(key).model
    except InvalidNameError:
        return None


class DeliveryStatus(Enum):
    """How a newly put done file relates to the processed ones."""

    NEW = "new"
    """Its content was not processed yet."""
    REDELIVERED = "redelivered"
    """The same content was delivered again."""
    RETURNED = "returned"
    """Its content was processed before, and other content replaced it in the meantime."""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """A done file's key, content and delivery as 20 characters.

    Attributes:
        file: A fingerprint of its key.
        content: A fingerprint of its bytes.
        delivery: A fingerprint of its ETag and time, which detects a new delivery without reading the file.
    """

    file: str
    content: str
    delivery: str

    @classmethod
    def of(cls, found: ListedObject, models: Collection[str], digest: str = "") -> Fingerprint:
        """Return the fingerprint of a file.

        Args:
            found: The file as listed.
            models: The declared models. Once a file's model becomes declared, the file counts as new again.
            digest: The SHA-256 of its bytes; empty if they were not read.
        """
        is_declared = model_of(found.key) in models
        return cls(
            _short_hash(found.key, _FILE_LENGTH),
            _short_hash(f"{digest}\n{is_declared}", _CONTENT_LENGTH),
            _short_hash(f"{found.etag}\n{found.modified_at}\n{is_declared}", _DELIVERY_LENGTH),
        )

    @classmethod
    def parse(cls, text: str) -> Fingerprint:
        """Parse the text of a fingerprint."""
        return cls(text[:_FILE_LENGTH], text[_FILE_LENGTH:-_DELIVERY_LENGTH], text[-_DELIVERY_LENGTH:])

    @property
    def text(self) -> str:
        """The fingerprint in the cursor's form."""
        return f"{self.file}{self.content}{self.delivery}"


class Fingerprints:
    """The fingerprints of processed files; those of one file are in order of processing."""

    def __init__(self) -> None:
        self._files: dict[str, list[Fingerprint]] = {}
        self._days: dict[str, str] = {}

    def __len__(self) -> int:
        """Return the number of fingerprints."""
        return sum(map(len, self._files.values()))

    def is_processed(self, fingerprint: Fingerprint) -> bool:
        """Return whether a file's last processed delivery is this one; compares no content."""
        known = self._files.get(fingerprint.file, [])
        return bool(known) and known[-1].delivery == fingerprint.delivery

    def status_of(self, fingerprint: Fingerprint) -> DeliveryStatus:
        """Return how a file's content relates to the processed contents."""
        known = self._files.get(fingerprint.file, [])
        if all(earlier.content != fingerprint.content for earlier in known):
            return DeliveryStatus.NEW
        return (
            DeliveryStatus.REDELIVERED
            if known[-1].content == fingerprint.content
            else DeliveryStatus.RETURNED
        )

    def add(self, key: str, fingerprint: Fingerprint, today: date) -> None:
        """Add a file's fingerprint under its day; it replaces one with the same content.

        Args:
            key: The file's key, which contains its day.
            fingerprint: The file's fingerprint.
            today: The day to use if the key's day is outside the window.
        """
        others = [
            known for known in self._files.get(fingerprint.file, []) if known.content != fingerprint.content
        ]
        self._files[fingerprint.file] = [*others, fingerprint][-_MAX_CONTENTS:]
        self._days[fingerprint.file] = _day_of(key, today)

    def forget_before(self, day: date) -> None:
        """Forget files of days before this one."""
        for file in [file for file, known in self._days.items() if known < day.isoformat()]:
            del self._files[file], self._days[file]

    @classmethod
    def parse(cls, document: object) -> Fingerprints:
        """Parse a cursor's fingerprints; invalid ones are left out."""
        made = cls()
        for day, text in document.items() if isinstance(document, dict) else ():
            for start in range(0, len(text), FINGERPRINT_LENGTH) if isinstance(text, str) else ():
                fingerprint = Fingerprint.parse(text[start : start + FINGERPRINT_LENGTH])
                made._files.setdefault(fingerprint.file, []).append(fingerprint)
                made._days[fingerprint.file] = str(day)
        return made

    def to_document(self) -> dict[str, str]:
        """Return the fingerprints by day, in the cursor's compact form."""
        days: dict[str, list[str]] = {}
        for file, fingerprints in self._files.items():
            days.setdefault(self._days[file], []).extend(fingerprint.text for fingerprint in fingerprints)
        return {day: "".join(fingerprints) for day, fingerprints in sorted(days.items())}


def _day_of(key: str, today: date) -> str:
    """Return the day under which a file is remembered: that of its key, or today if outside the window."""
    named = key.split("/")[1] if key.count("/") else ""
    try:
        distance = today - date.fromisoformat(named)
    except ValueError:
        return today.isoformat()
    return named if timedelta(days=-1) <= distance <= timedelta(days=WINDOW_DAYS) else today.isoformat()


def _short_hash(text: str, length: int) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest())[:length].decode()
