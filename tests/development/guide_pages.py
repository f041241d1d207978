"""Read a documentation page as a reader would: files to write and commands to type."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.development.copied_projects import PROJECTS, ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DOCS = ROOT / "docs"
GUIDES = ("bring-your-own-data", "bring-your-own-library", "bring-a-trained-model")
_FILE = re.compile(r"`((?:src|requirements)/[^`\s]+\.[a-z]+)`")
_FENCE = "```"


@dataclass(slots=True)
class GuidePage:
    """A page.

    Attributes:
        files: The content of each file that the page names before a code block, by path.
        commands: The lines of its console blocks.
    """

    files: dict[str, str] = field(default_factory=dict)
    commands: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, name: str) -> GuidePage:
        """Read a page by its name.

        A block belongs to the file that is named at the start of the paragraph before it.
        """
        page = cls()
        named: str | None = None
        lines = iter((DOCS / f"{name}.md").read_text(encoding="utf-8").splitlines())
        before = ""
        for line in lines:
            if line.startswith(_FENCE):
                block = _block(lines)
                if line == f"{_FENCE}console":
                    page.commands += [each for each in block if each.strip()]
                elif named is not None:
                    page.files[named] = "".join(f"{each}\n" for each in block)
                named = None
            elif not before.strip():
                found = _FILE.match(line)
                named = found[1] if found else None if line.strip() else named
            before = line
        return page


def _block(lines: Iterator[str]) -> list[str]:
    found = []
    for line in lines:
        if line.startswith(_FENCE):
            break
        found.append(line)
    return found


def file_of(path: str) -> Path:
    """Return the test project's file for a path that a page names."""
    return PROJECTS / "bikes" / path.replace("src/acme/", "src/bikes/")
