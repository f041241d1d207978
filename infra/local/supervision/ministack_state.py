"""Protects the AWS emulator's saved state: if it cannot read a file, it starts empty and overwrites it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from infra.local.supervision.stack_state import StackError

if TYPE_CHECKING:
    from pathlib import Path

# Log lines of ministack 1.5.33 when it continues without a part of its state (core/persistence.py, app.py).
_LOAD_ERRORS = ("Persistence: failed to load", "refusing to load", "Failed to restore persisted state")
_SAVE_ERRORS = ("Persistence: failed to save", "Persistence: error getting state")
_OBJECT_SUFFIX = ".meta.json"

_REMEDY = (
    "The file is unchanged. Restore it from a copy, or move it away to start without its data, then run "
    "`mlpipe up`"
)


def check_saved_state(state_directory: Path, objects: Path) -> None:
    """Check every state file before the emulator reads it.

    Args:
        state_directory: The folder with one `<service>.json` per service, and keys; may not exist yet.
        objects: The folder with the S3 objects, each with metadata in `<object>.meta.json`; may not exist.

    Raises:
        StackError: A file is corrupt. The emulator would silently treat it as empty.
    """
    for file in sorted(state_directory.glob("*.json")):
        _require_document(file)
    for file in sorted(state_directory.rglob("*.pem")):
        if not file.read_bytes().startswith(b"-----BEGIN "):
            raise StackError(f"the saved AWS state {file} is not a PEM key", remedy=_REMEDY)
    for file in objects.rglob(f"*{_OBJECT_SUFFIX}"):
        # An object may have such a name itself, with any content.
        if file.with_name(file.name.removesuffix(_OBJECT_SUFFIX)).is_file():
            _require_document(file)


def _require_document(file: Path) -> None:
    """Raise StackError unless the file holds a JSON object."""
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise StackError(f"the saved AWS state {file} cannot be read ({error})", remedy=_REMEDY) from error
    if not isinstance(document, dict):
        raise StackError(f"the saved AWS state {file} is not a JSON object", remedy=_REMEDY)


def unloaded_state(log: Path, *, offset: int) -> str | None:
    """Return the first log line that says the emulator continues without a part of its state.

    Args:
        log: The emulator's log.
        offset: The byte offset at which the lines of this start begin.
    """
    return _first_line(log, offset, _LOAD_ERRORS)


def unsaved_state(log: Path, *, offset: int) -> str | None:
    """Return the first log line that says the emulator stopped without saving a part of its state."""
    return _first_line(log, offset, _SAVE_ERRORS)


def _first_line(log: Path, offset: int, phrases: tuple[str, ...]) -> str | None:
    """Return the first line after an offset of a log that has one of the phrases."""
    if not log.exists():
        return None  # Removed by hand while the stack was up. Stopping must still work.
    with log.open("rb") as stream:
        stream.seek(offset)
        for line in stream:
            text = line.decode("utf-8", errors="replace").strip()
            if any(phrase in text for phrase in phrases):
                return text
    return None
