"""Which done files of the window were dealt with: marks of their content and delivery, never a moment."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from mlpipe_dagster.data_bucket import ListedObject
from prediction_contract.errors import InvalidNameError
from prediction_contract.s3_layout import parse_done_key

_CONTENT_LENGTH = 16
_DELIVERY_LENGTH = 8


@dataclass(frozen=True)
class UnseenFile:
    """A done file that was not dealt with.

    Attributes:
        key: Its key.
        mark: By which the cursor will know it.
        delivery: Tells this delivery from others of the same content.
        redelivered: Whether an earlier delivery of the same content was dealt with.
    """

    key: str
    mark: str
    delivery: str
    redelivered: bool


@dataclass(frozen=True)
class Cursor:
    """The marks of the files that were dealt with.

    A file that comes late, comes in the same second, is replaced or is delivered again has a mark of its own.
    """

    seen: frozenset[str] = frozenset()

    @classmethod
    def parse(cls, text: str | None) -> Cursor:
        """Return the cursor of its text; one that is lost or unreadable means that nothing was seen."""
        try:
            marks = json.loads(text or "[]")
        except ValueError:
            return cls()
        if not isinstance(marks, list):
            return cls()
        return cls(frozenset(mark for mark in marks if isinstance(mark, str)))

    def text(self) -> str:
        """Return the cursor as text."""
        return json.dumps(sorted(self.seen))


def unseen_files(
    files: Iterable[ListedObject], cursor: Cursor, models: Collection[str]
) -> tuple[list[UnseenFile], Cursor]:
    """Return the files that are new, the oldest batch first, and the cursor without what left the window.

    Args:
        files: The window.
        cursor: What was dealt with.
        models: The declared models.
    """
    deliveries: dict[str, set[str]] = {}
    for mark in cursor.seen:
        deliveries.setdefault(mark.partition(":")[0], set()).add(mark)
    kept: set[str] = set()
    new = []
    for file in files:
        content, delivery = _content_mark(file, models), _short_hash(file.modified_at, _DELIVERY_LENGTH)
        mark = f"{content}:{delivery}"
        if mark in cursor.seen:
            kept.add(mark)
            continue
        # Kept until this delivery was dealt with, however many ticks that takes.
        kept |= deliveries.get(content, set())
        new.append(UnseenFile(file.key, mark, delivery, redelivered=content in deliveries))
    return sorted(new, key=lambda file: file.key.rpartition("/")[2]), Cursor(frozenset(kept))


def _content_mark(file: ListedObject, models: Collection[str]) -> str:
    try:
        is_declared = parse_done_key(file.key).model in models
    except InvalidNameError:
        is_declared = False
    # The file of a model that is not declared is refused, and is new again once the model is.
    return _short_hash(f"{file.key}\n{file.etag}\n{is_declared}", _CONTENT_LENGTH)


def _short_hash(text: str, length: int) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:length]
