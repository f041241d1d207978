"""Members of a JSON document, taken by name and type; faults are named in plain words."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_WORDS = {
    str: "a text",
    int: "a whole number",
    Decimal: "a number with a fraction",
    bool: "true or false",
    list: "a list",
    dict: "an object",
    type(None): "null",
}


class DocumentShapeError(ValueError):
    """A document has not the shape that its reader needs; the message is a sentence without a full stop."""


def shape_of(value: object) -> str:
    """Return what a JSON value is, in words, as `parse_json` returns it."""
    return _WORDS.get(type(value), "another value")


def members_of(document: object, name: str) -> Mapping[str, Any]:
    """Return the members of an object.

    Args:
        document: Any JSON value.
        name: What it is called in the message.

    Raises:
        DocumentShapeError: It is no object.
    """
    if not isinstance(document, dict):
        raise DocumentShapeError(f"{name} is {shape_of(document)} and no object")
    return document


def member(members: Mapping[str, Any], name: str, kind: type) -> Any:
    """Return a member of exactly one type, so that `true` is no number.

    Args:
        members: Those of an object.
        name: The member's.
        kind: `str`, `int`, `bool`, `list` or `dict`.

    Raises:
        DocumentShapeError: It is missing, or of another type.
    """
    if name not in members:
        raise DocumentShapeError(f"{name} is missing")
    value = members[name]
    if type(value) is not kind:
        raise DocumentShapeError(f"{name} is {shape_of(value)}, not {_WORDS[kind]}")
    return value
