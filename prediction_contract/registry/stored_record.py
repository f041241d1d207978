"""Registry attributes as Python values, as DynamoDB's typed values, and as record classes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from functools import cache
from types import UnionType
from typing import Any, Self, get_args, get_origin, get_type_hints

from prediction_contract.errors import ContractError

Value = str | int | bool | frozenset[str]
"""A value of a registry attribute. Times are text (see `utc_time`), so that people can read them."""

Attributes = Mapping[str, Value]


def encode_value(value: Value) -> dict[str, Any]:
    """Return the DynamoDB attribute value of a registry value, for example `{"N": "3"}`."""
    if isinstance(value, bool):
        return {"BOOL": value}
    if isinstance(value, int):
        return {"N": str(value)}
    if isinstance(value, str):
        return {"S": str(value)}
    return {"SS": sorted(value)}


def decode_item(item: Mapping[str, Mapping[str, Any]]) -> dict[str, Value]:
    """Return the registry attributes of a DynamoDB item. Attributes of other types are left out."""
    return {name: _decode(typed) for name, typed in item.items() if typed.keys() & {"S", "N", "BOOL", "SS"}}


def _decode(typed: Mapping[str, Any]) -> Value:
    kind, raw = next(iter(typed.items()))
    if kind == "N":
        return int(raw)
    return frozenset(raw) if kind == "SS" else raw


class StoredRecord:
    """Base of all records. Each field is the attribute of the same name; unknown attributes are ignored."""

    __slots__ = ()

    @classmethod
    def from_attributes(cls, attributes: Attributes) -> Self:
        """Return the record that has these attributes.

        Raises:
            UnreadableRecordError: A required attribute is missing, or an attribute has the wrong type.
        """
        known = _types_of(cls)
        members = {name: value for name, value in attributes.items() if name in known}
        for name, (kinds, is_required) in known.items():
            if name not in members and is_required:
                raise _unreadable(attributes, f"{name} is missing")
            if name in members and not isinstance(members[name], kinds):
                raise _unreadable(attributes, f"{name} has the wrong type")
        return cls(**members)

    @classmethod
    def from_item(cls, item: Mapping[str, Mapping[str, Any]]) -> Self:
        """Return the record of a DynamoDB item.

        Raises:
            UnreadableRecordError: As `from_attributes`.
        """
        try:
            return cls.from_attributes(decode_item(item))
        except UnreadableRecordError:
            raise
        except ValueError as error:
            raise _unreadable({}, "it has a number that is not an integer") from error


class UnreadableRecordError(ContractError, ValueError):
    """A registry record lacks a required attribute, or an attribute has the wrong type."""


def _unreadable(attributes: Attributes, why: str) -> UnreadableRecordError:
    named = {name: value for name in ("model", "batch_id") if isinstance(value := attributes.get(name), str)}
    return UnreadableRecordError(
        f"A registry record cannot be read: {why}",
        remedy="Restore it from the table's backup, and let only the platform write to the registry",
        **named,
    )


@cache
def _types_of(record: type) -> dict[str, tuple[tuple[type, ...], bool]]:
    """Return by field name the permitted types, and whether the field is required."""
    found = {}
    for field in fields(record):
        hint = get_type_hints(record)[field.name]
        kinds = get_args(hint) if isinstance(hint, UnionType) else (hint,)
        is_required = field.default is MISSING and field.default_factory is MISSING
        found[field.name] = tuple(get_origin(kind) or kind for kind in kinds), is_required
    return found
