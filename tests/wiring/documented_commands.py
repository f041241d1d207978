"""The commands of the documents: those of their console blocks, word by word, and those within a sentence."""

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
# What stands for a placeholder whose form is looked at.
_FILLED_IN = {"version": "7", "batch": "20130202T060000Z-0123abcd"}
_BEFORE_A_COMMAND = frozenset({"do", "then", "{", "$"})


def name_of(path: Path) -> str:
    """Return how a document is called in the test's id."""
    return path.relative_to(ROOT).as_posix()


def typed_commands(text: str) -> list[list[str]]:
    """Return the words of each command of a document's console blocks, those within others too."""
    return [command for block in _CONSOLE.findall(text) for command in commands_in(block)]


def commands_in(script: str) -> list[list[str]]:
    """Return the words of each command of a shell's script; placeholders in angle brackets are filled in."""
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
    """Return the words of each command of a program in a sentence, which may leave out arguments."""
    spans = _INLINE.findall(_FENCE.sub("", text))
    return [
        re.sub(r"[\[\]]|\.\.\.", "", _filled_in(span)).split()
        for span in spans
        if span.startswith(f"{program} ")
    ]


def _filled_in(text: str) -> str:
    return _PLACEHOLDER.sub(lambda found: _FILLED_IN.get(found[1], found[1]), text)
