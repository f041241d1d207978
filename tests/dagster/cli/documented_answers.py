"""Reads the JSON examples in docs/cli.md, and compares documents with them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parents[3] / "docs"
_EXAMPLE = re.compile(r"^## `mlpipe (\w+)`.*?^```json\n(.*?)^```", re.MULTILINE | re.DOTALL)
# Their members are data, such as reasons and steps, or grow with the registry.
_FREE = frozenset({"reasons", "durations_ms", "record"})


def documented() -> dict[str, Any]:
    """Return the JSON example of each command."""
    text = (DOCS / "cli.md").read_text(encoding="utf-8")
    return {name: json.loads(example) for name, example in _EXAMPLE.findall(text)}


def members(value: Any, path: str = "") -> set[str]:
    """Return the paths of all members of a document; of a list, only the first element counts."""
    if isinstance(value, list):
        return members(value[0], f"{path}[]") if value else set()
    if not isinstance(value, dict):
        return set()
    found = set()
    for name, member in value.items():
        found.add(f"{path}.{name}")
        if name not in _FREE:
            found |= members(member, f"{path}.{name}")
    return found


def empty_paths(value: Any, path: str = "") -> set[str]:
    """Return the paths of null values and empty lists, which show no members."""
    if value is None or value == []:
        return {path}
    if isinstance(value, list):
        return empty_paths(value[0], f"{path}[]")
    if isinstance(value, dict):
        return {found for name, member in value.items() for found in empty_paths(member, f"{path}.{name}")}
    return set()


def agree(example: Any, found: Any) -> None:
    """Assert that two documents have the same members wherever neither is empty."""
    empty = empty_paths(example) | empty_paths(found)

    def shown(document: Any) -> set[str]:
        paths = members(document)
        return {
            path for path in paths if not any(path.startswith((f"{each}.", f"{each}[")) for each in empty)
        }

    assert shown(example) == shown(found)
