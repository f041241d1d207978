"""The JSON Schema by which `dg check yaml` judges a declaration, in the form whose faults can be read."""

from __future__ import annotations

from functools import cache
from typing import Any

from pydantic import BaseModel

# These judge values of every type, and so cannot stand beside another type's own.
_OF_ALL_TYPES = frozenset({"$ref", "const", "enum", "anyOf", "allOf", "oneOf", "not"})
_FOR_PEOPLE = frozenset({"default", "description", "title"})


@cache
def readable_model(written: type[BaseModel]) -> type[BaseModel]:
    """Return a model that takes the same, with a JSON Schema whose faults name the bound that is broken."""

    def model_json_schema(*given: Any, **options: Any) -> dict[str, Any]:
        schema = written.model_json_schema(*given, **options)
        found: dict[str, Any] = _readable(schema, schema.get("$defs", {}))
        return found

    return type(written.__name__, (written,), {"model_json_schema": staticmethod(model_json_schema)})


def _readable(schema: Any, definitions: dict[str, Any]) -> Any:
    """Return an equal schema in which alternatives of different types are one.

    Dagster lets a template stand for each value: a number from 1 to 366 becomes "one of such a number and a
    text". Of a 0, a validator then says that it fits none of the given schemas. With both types in one
    schema it names the bound.
    """
    if isinstance(schema, list):
        return [_readable(each, definitions) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if "anyOf" not in schema:
        return {name: _readable(member, definitions) for name, member in schema.items()}
    found = {name: member for name, member in schema.items() if name != "anyOf"}
    alternatives = [_readable(_inlined(each, definitions), definitions) for each in schema["anyOf"]]
    if not _can_be_one(alternatives):
        return {**found, "anyOf": alternatives}
    for each in alternatives:
        found |= {name: member for name, member in each.items() if name not in {"type", *_FOR_PEOPLE}}
    return {**found, "type": [each["type"] for each in alternatives]}


def _inlined(alternative: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    if alternative.keys() != {"$ref"}:
        return alternative
    found: dict[str, Any] = definitions[alternative["$ref"].rpartition("/")[2]]
    return found


def _can_be_one(alternatives: list[dict[str, Any]]) -> bool:
    types = [each.get("type") for each in alternatives]
    return (
        all(isinstance(kind, str) for kind in types)
        # An integer is a number too.
        and len({"number" if kind == "integer" else kind for kind in types}) == len(types)
        and not any(each.keys() & _OF_ALL_TYPES for each in alternatives)
    )
