"""One commit in the log of a Delta table: parsed within limits, and judged by what loaders rely on."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import unquote

from prediction_contract.errors import SchemaError
from prediction_contract.manifests.manifest_reader import LARGEST_NUMBER
from prediction_contract.text.canonical_json import InvalidJsonError, count_values, parse_json

if TYPE_CHECKING:
    from collections.abc import Mapping


# Tens of thousands of files, where a batch of a billion rows has a thousand.
MAX_BYTES = 64 * 1024 * 1024
MAX_VALUES = 2_000_000


@dataclass(frozen=True, slots=True)
class CommittedFiles:
    """The data files that a commit adds to a table and removes from it, relative to the table.

    Attributes:
        added: Path and size in bytes.
        removed: Paths.
    """

    added: Mapping[str, int]
    removed: frozenset[str]


def committed_files(content: bytes) -> CommittedFiles:
    """Return the files of a commit's log entry.

    Args:
        content: The entry, one action a line; one byte more than `MAX_BYTES` of a larger one is enough.

    Raises:
        SchemaError: It is too large, is no log entry, names a file twice, or adds one with a deletion vector.
    """
    if len(content) > MAX_BYTES:
        _refuse(f"has more than {MAX_BYTES} bytes")
    values = count_values(content)
    if values > MAX_VALUES:
        _refuse(f"has up to {values} values, and {MAX_VALUES} are allowed")
    added: dict[str, int] = {}
    removed: set[str] = set()
    for number, line in enumerate(io.BytesIO(content), 1):
        kind, action = _action(number, line)
        if kind not in {"add", "remove"}:
            continue
        path = action.get("path")
        if not isinstance(path, str):
            _refuse(f"has no path in line {number}")
        # Paths in the log are URL-encoded.
        path = unquote(path)
        if path in added or path in removed:
            _refuse(f"names the file {path[:200]} twice")
        if kind == "add":
            added[path] = _size(number, action)
        else:
            removed.add(path)
    return CommittedFiles(added, frozenset(removed))


def _action(number: int, line: bytes) -> tuple[str, dict[str, Any]]:
    """Return the kind of a line's only action, and its members; of an empty line neither."""
    if not line.strip():
        return "", {}
    try:
        document: Any = parse_json(line)
    except InvalidJsonError as error:
        _refuse(f"cannot be read in line {number}: {error.what}", error)
    actions = list(document.items()) if isinstance(document, dict) else []
    if len(actions) != 1 or not isinstance(actions[0][1], dict):
        _refuse(f"has no single action in line {number}")
    return actions[0]


def _size(number: int, action: Mapping[str, Any]) -> int:
    size = action.get("size")
    if type(size) is not int or not 0 <= size <= LARGEST_NUMBER:
        _refuse(f"has no size in bytes in line {number}")
    if action.get("deletionVector") is not None:
        _refuse(f"has a deletion vector in line {number}: Snowflake would copy the deleted rows")
    return size


def _refuse(what: str, cause: Exception | None = None) -> NoReturn:
    raise SchemaError(
        f"The log entry of the Delta table {what}",
        remedy="Score the batch again by the platform's own writer",
    ) from cause
