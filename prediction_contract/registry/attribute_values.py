"""Registry attributes as Python values and as DynamoDB's typed attribute values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Value = str | int | bool | frozenset[str]
"""What a registry attribute may hold. Moments are text (see `utc_time`), so that people can read them."""

Attributes = Mapping[str, Value]


def encode_value(value: Value) -> dict[str, Any]:
    """Return the DynamoDB attribute value of one registry value, say `{"N": "3"}`."""
    if isinstance(value, bool):
        return {"BOOL": value}
    if isinstance(value, int):
        return {"N": str(value)}
    if isinstance(value, str):
        return {"S": str(value)}
    return {"SS": sorted(value)}


def decode_item(item: Mapping[str, Mapping[str, Any]]) -> dict[str, Value]:
    """Return the registry attributes of a DynamoDB item; attributes of other types are left out."""
    return {name: _decode(typed) for name, typed in item.items() if typed.keys() & {"S", "N", "BOOL", "SS"}}


def _decode(typed: Mapping[str, Any]) -> Value:
    kind, raw = next(iter(typed.items()))
    if kind == "N":
        return int(raw)
    return frozenset(raw) if kind == "SS" else raw
