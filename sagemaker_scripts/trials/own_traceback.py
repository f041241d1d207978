"""Extracts the project's lines from a traceback."""

from __future__ import annotations

import traceback
from pathlib import Path

_MOST_LINES = 20


def own_lines(error: BaseException, folder: Path) -> list[str]:
    """Return file, line, function and text of the project's frames in an error and its causes.

    The innermost call comes last, as in a traceback.

    Args:
        error: The error.
        folder: The project's source folder; frames of other files are left out.
    """
    lines: list[str] = []
    found: BaseException | None = error
    while found is not None:
        for frame in traceback.extract_tb(found.__traceback__):
            path = Path(frame.filename)
            if path.is_relative_to(folder):
                shown = path.relative_to(folder)
                line = f"{shown}:{frame.lineno} in {frame.name}: {frame.line}"
                if line not in lines:
                    lines.append(line)
        found = found.__cause__ or found.__context__
    return lines[-_MOST_LINES:]
