"""Find the commands in the documentation: those in console blocks and those mentioned in sentences."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
_CONSOLE = re.compile(r"^ *```console\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
_FENCE = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`([^`\n]+)`")
_COMMENT = re.compile(r"(?<=\s)#[^\n]*")
_PLACEHOLDER = re.compile(r"<([A-Za-z]+)[A-Za-z ]*>")
_SUBSTITUTION = re.compile(r"\$\(((?:[^()]|\([^()]*\))*)\)")
# Values for placeholders whose format is checked.
_FILLED_IN = {"version": "7", "batch": "20130202T060000Z-0123abcd"}
_BEFORE_A_COMMAND = frozenset({"do", "then", "{", "$"})


def name_of(path: Path) -> str:
    """Return a document's path within the repository, as test id."""
    return path.relative_to(ROOT).as_posix()


def typed_commands(text: str) -> list[list[str]]:
    """Return the words of each command in a document's console blocks, nested commands included."""
    return [command for block in _CONSOLE.findall(text) for command in commands_in(block)]


def commands_in(script: str) -> list[list[str]]:
    """Return the words of each command in a shell script, with placeholders filled in."""
    script = _COMMENT.sub("", script.replace("\\\n", " "))
    inner = [command for found in _SUBSTITUTION.findall(script) for command in commands_in(found)]
    script = _SUBSTITUTION.sub("substituted", script)
    reader = shlex.shlex(_filled_in(script), posix=True, punctuation_chars="();<>|&\n")
    reader.whitespace, reader.whitespace_split, reader.commenters = " \t\r", True, ""
    found: list[list[str]] = [[]]
    for word in reader:
        if set(word) <= set("();<>|&\n"):
            found.append([])
        elif found[-1] or word not in _BEFORE_A_COMMAND:
            found[-1].append(word)
    return [command for command in found if command] + inner


def mentioned_commands(text: str, program: str) -> list[list[str]]:
    """Return the words of each command of a program in running text, where arguments may be missing."""
    spans = _INLINE.findall(_FENCE.sub("", text))
    return [
        re.sub(r"[\[\]]|\.\.\.", "", _filled_in(span)).split()
        for span in spans
        if span.startswith(f"{program} ")
    ]


def _filled_in(text: str) -> str:
    return _PLACEHOLDER.sub(lambda found: _FILLED_IN.get(found[1], found[1]), text)
