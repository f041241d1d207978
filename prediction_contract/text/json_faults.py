"""Explains why a document is not JSON, in plain words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

_LONGEST_PLACE = 200
_BEGINNINGS = (
    (b"\x1f\x8b", "It is compressed with gzip"),
    (b"\xef\xbb\xbf", "It begins with a byte order mark"),
    (b"\xff\xfe", "It is UTF-16 with a byte order mark"),
    (b"\xfe\xff", "It is UTF-16 with a byte order mark"),
)
# Plain words for the parser's messages, by their beginning.
_FAULTS = (
    ("Expecting value", "a value is missing"),
    ("Expecting property name", "a name in double quotes is missing"),
    ("Expecting ':'", "a colon is missing"),
    ("Expecting ','", "a comma is missing"),
    ("Extra data", "something follows the value"),
    ("Unterminated string", "a string that begins here has no end"),
    ("Invalid control character", "a string holds a control character that is not escaped"),
    ("Invalid \\", "a string holds an invalid escape"),
    ("Illegal trailing comma", "there is a comma before the end"),
)


def kind_of_bytes(document: bytes) -> str | None:
    """Return a sentence on what a document is if its first bytes show that it is not UTF-8 JSON, or None."""
    return next((what for beginning, what in _BEGINNINGS if document.startswith(beginning)), None)


def syntax_fault(error: json.JSONDecodeError) -> str:
    """Return where and why a document is not JSON."""
    if not error.doc.strip():
        return "It is empty"
    fault = next((words for begin, words in _FAULTS if error.msg.startswith(begin)), "it breaks JSON's rules")
    if error.doc[error.pos : error.pos + 1] in {"\r", "\n"} and error.msg.startswith("Invalid control"):
        fault = "a string holds a line break (LF or CRLF) that is not escaped"
    return f"Not JSON at character {error.pos}: {fault}"


_END = object()


class RefusedValue:
    """A placeholder for a value that cannot be represented."""


def path_of_refused_value(document: Any) -> str:
    """Return the path of the first `RefusedValue`, as `facts.degrees[2]`; empty for the document itself.

    Args:
        document: Dicts and lists of any depth.
    """
    steps: list[str] = []
    left: list[Iterator[tuple[str, Any]]] = [iter([("", document)])]
    while left:
        step, value = next(left[-1], ("", _END))
        if value is _END:
            left.pop()
            del steps[-1:]
        elif isinstance(value, RefusedValue):
            path = "".join([*steps, step]).removeprefix(".")
            return path if len(path) <= _LONGEST_PLACE else f"{path[:_LONGEST_PLACE]}…"
        elif isinstance(value, dict):
            steps.append(step)
            left.append((f".{name}", member) for name, member in value.items())
        elif isinstance(value, list):
            steps.append(step)
            left.append((f"[{number}]", element) for number, element in enumerate(value))
    return ""
