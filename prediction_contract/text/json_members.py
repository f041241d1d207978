"""Typed access to the members of a JSON document, with errors in plain words."""

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
    """A document does not have the expected shape. The message is a sentence without a full stop."""


def shape_of(value: object) -> str:
    """Return the kind of a value from `parse_json` in words."""
    return _WORDS.get(type(value), "another value")


def members_of(document: object, name: str) -> Mapping[str, Any]:
    """Return the members of an object.

    Args:
        document: Any JSON value.
        name: The document's name in the message.

    Raises:
        DocumentShapeError: The document is not an object.
    """
    if not isinstance(document, dict):
        raise DocumentShapeError(f"{name} is {shape_of(document)}, not an object")
    return document


def member(members: Mapping[str, Any], name: str, kind: type) -> Any:
    """Return a member of exactly the given type, so that `true` does not count as a number.

    Args:
        members: The members of an object.
        name: The member's name.
        kind: `str`, `int`, `bool`, `list` or `dict`.

    Raises:
        DocumentShapeError: The member is missing or has another type.
    """
    if name not in members:
        raise DocumentShapeError(f"{name} is missing")
    value = members[name]
    if type(value) is not kind:
        raise DocumentShapeError(f"{name} is {shape_of(value)}, not {_WORDS[kind]}")
    return value
